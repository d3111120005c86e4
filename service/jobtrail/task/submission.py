"""The request for a new job, or to change one: range and type are checked before the task is looked up."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, TypedDict, TypeVar
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from jobtrail import ranges
from jobtrail.errors import FieldError, InvalidInputError
from jobtrail.outbound import MAX_URL
from jobtrail.task.storable import step
from jobtrail.task.unique import Delay, OnDuplicate, UniqueKey

M = TypeVar("M", bound=BaseModel)

_DATE_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")


def _only_text(value: object) -> object:
    """Numbers would be taken for seconds since 1970, as numbers and as texts."""
    if isinstance(value, datetime) or (isinstance(value, str) and _DATE_TIME.match(value)):
        return value
    raise ValueError("write a time with its zone as RFC 3339 says, for example 2030-01-31T12:00:00Z")


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("in UTC this is not within the years 1 to 9999") from None


def _storable(value: datetime) -> datetime:
    if not ranges.FIRST_TIME <= value <= ranges.LAST_TIME:
        raise ValueError("write a time from 0001-01-02T00:00Z to 9999-12-30T00:00Z")
    return value


def _whole(value: object) -> object:
    """An integer as JSON Schema has it: 8.0 too (Validation, section 6.1.1). Not true, and no text."""
    return int(value) if type(value) is float and value.is_integer() else value


Seconds = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Moment = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_only_text), AfterValidator(_in_utc)]
Due = Annotated[Moment, AfterValidator(_storable)]
WHOLE: Final = BeforeValidator(_whole)
Priority = Annotated[int, Field(strict=True, ge=ranges.MIN_PRIORITY, le=ranges.MAX_PRIORITY), WHOLE]
Tag = Annotated[str, Field(strict=True, min_length=1, max_length=ranges.MAX_TAG_LENGTH)]
Tags = Annotated[list[Tag], Field(max_length=ranges.MAX_TAGS)]
Ttl = Annotated[Seconds, Field(ge=0, le=ranges.MAX_TTL)]
Timeout = Annotated[Seconds, Field(ge=ranges.MIN_TIMEOUT, le=ranges.MAX_TIMEOUT)]
MaxAttempts = Annotated[int, Field(strict=True, ge=1, le=ranges.MAX_ATTEMPTS), WHOLE]
Queue = Annotated[str, Field(strict=True, pattern=ranges.QUEUE_PATTERN)]


class Documented(BaseModel):
    """A model that bears our name in the documentation of the calls, which may be a host's. Of two models of one name
    pydantic renames both, so without it a host's own `Job` would change as soon as ours was there.
    """

    def __init_subclass__(cls, **said: Any) -> None:
        super().__init_subclass__(**said)
        # pydantic takes the schema's name from here, and its title from `__name__`
        cls.__qualname__ = f"Jobtrail{cls.__name__.removeprefix('Jobtrail')}"


class Submission(Documented):
    """A request for one run of a task. What is left out comes from the task, then from the service."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: Annotated[
        str, Field(strict=True, min_length=1, max_length=ranges.MAX_TASK, description="The name of a registered task.")
    ]
    args: Annotated[
        dict[str, Any],
        Field(default_factory=dict, description="The arguments by name; they must fit the signature of the task."),
    ]
    queue: Annotated[Queue | None, Field(description="The queue that nodes serve; the task's own by default.")] = None
    priority: Annotated[Priority | None, Field(description="0 to 9, higher first; 5 by default.")] = None
    tags: Annotated[Tags, Field(description="Words to find the job by.")] = Field(default_factory=list)
    run_at: Annotated[Due | None, Field(description="Not before this time (RFC 3339 with a zone).")] = None
    after: Annotated[
        list[UUID],
        Field(
            max_length=ranges.MAX_AFTER,
            description="Jobs that must succeed before; if one of them does not, the job is cancelled.",
        ),
    ] = Field(default_factory=list)
    unique_key: Annotated[
        UniqueKey | None,
        Field(
            description="At most one unfinished job has this key, which may name arguments: `report:{customer}`. "
            "If there is one, it is the answer, with 200."
        ),
    ] = None
    on_duplicate: Annotated[
        OnDuplicate | None,
        Field(description="keep: nothing is stored. replace: the job that waits takes the newest arguments."),
    ] = None
    delay: Annotated[Delay | None, Field(description="Not before so many seconds from now.")] = None
    max_delay: Annotated[
        Delay | None, Field(description="With replace: seconds from the first submit that the job waits at most.")
    ] = None
    callback_url: Annotated[
        str | None,
        Field(strict=True, max_length=MAX_URL, description="It is told how the job ended, by a signed POST."),
    ] = None
    ttl: Annotated[Ttl | None, Field(description="Seconds that the finished row is kept; null keeps it for ever.")] = (
        None
    )
    timeout: Annotated[Timeout | None, Field(description="Seconds that one attempt may take; null for no limit.")] = (
        None
    )
    max_attempts: Annotated[
        MaxAttempts | None, Field(description="How often the job may be started; 1 unless the task says otherwise.")
    ] = None


class JobOptions(TypedDict, total=False):
    """The options of a job besides its arguments. `ttl` and `timeout` in seconds; `ttl` None keeps the row.
    `unique_key`, `on_duplicate`, `delay` and `max_delay`: as of `@task`, for this job.
    """

    queue: str
    priority: int
    run_at: datetime
    ttl: float | None
    timeout: float | None
    tags: Sequence[str]
    max_attempts: int
    unique_key: str
    on_duplicate: OnDuplicate
    delay: float
    max_delay: float
    callback_url: str
    idempotency_key: str


def submission_of(task: str, args: Mapping[str, Any], options: Mapping[str, Any]) -> Submission:
    """The request with these options, which are fields of it. Raises InvalidInputError for one out of range."""
    return checked(Submission, {**options, "task": task, "args": dict(args)})


class Amendment(Documented):
    """What may be changed of a job: only the fields that are sent."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ttl: Annotated[Ttl | None, Field(description="Seconds from the finish; null keeps the row.")] = None
    priority: Annotated[Priority, Field(description="Pending jobs only.")] = ranges.DEFAULT_PRIORITY
    run_at: Annotated[Due | None, Field(description="Pending jobs only; null: now.")] = None
    tags: Annotated[Tags, Field(description="Replace all tags.")] = Field(default_factory=list)


def checked(kind: type[M], said: Mapping[str, Any]) -> M:
    """The request with these fields. Raises InvalidInputError."""
    tags = said.get("tags")
    if tags is not None and not isinstance(tags, str):  # a text is refused as such
        said = {**said, "tags": list(tags)}
    try:
        return kind(**said)
    except ValidationError as error:
        flaws = [("".join(map(step, each["loc"])), each["msg"]) for each in error.errors(include_url=False)]
        raise InvalidInputError([FieldError(*flaw) for flaw in flaws]) from None


def reserved(task: str, queue: str | None) -> list[FieldError]:
    """Names that only Jobtrail's own tasks and queues may have."""
    names = (("/task", task), ("/queue", queue or ""))
    return [FieldError(pointer, ranges.RESERVED) for pointer, name in names if name.startswith(ranges.OWN)]


def seconds(value: float | None) -> timedelta | None:
    return None if value is None else timedelta(seconds=value)
