"""The records of jobs, and stats: rows of SQL, answers of the API and lines of the command line, each defined once.
Those of schedules are in `task.schedule`, those of an operator's other nouns in `ops`.

The description of a field is that of the API. A field with `exclude` stays inside.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from functools import cache
from operator import attrgetter
from typing import Annotated, Any, get_args, get_type_hints
from uuid import UUID

from pydantic import Field
from pydantic.fields import FieldInfo

from jobtrail.status import Status


def shown(record: Any) -> dict[str, Any]:
    """The fields of a record by name, without excluded ones."""
    kind: Any = type(record)
    names, values = _getter(kind)
    return dict(zip(names, values(record), strict=True))


@cache
def shown_fields(record: type) -> Mapping[str, Any]:
    """The type of each field that `shown` gives, with its description."""
    hints = get_type_hints(record, include_extras=True)
    found = {each.name: hints[each.name] for each in fields(record)}
    return {name: hint for name, hint in found.items() if not _is_excluded(hint)}


@dataclass(frozen=True, slots=True)
class Failure:
    """The error of an attempt, as row and history keep it; its texts are clipped already."""

    type: str
    message: str
    traceback: str | None
    attempt: int
    cause: BaseException | None = field(default=None, compare=False, repr=False)
    """The exception, in the process that raised it; it is not stored."""

    def as_json(self) -> dict[str, Any]:
        return {"type": self.type, "message": self.message, "traceback": self.traceback, "attempt": self.attempt}


@dataclass(frozen=True, slots=True)
class AppKey:
    """An idempotency key of the app's own code, shared by all callers, with the hash of its task and arguments."""

    key: str
    request_hash: bytes


@dataclass(slots=True)
class NewJob:
    """A checked job, ready to be stored. `run_at` None means now, by the database's clock.

    `ttl` is kept for a job that succeeds, `ttl_failed` for one that fails or is cancelled; None keeps the row.
    `idempotency_key` is one that a client sent and belongs to `created_by`, `request_hash` is that of the client's
    request; `app_key` is one that a developer wrote. A job has at most one of them.
    """

    id: UUID
    task: str
    args: Mapping[str, Any]
    trace_id: str
    created_by: str
    queue: str
    priority: int
    max_attempts: int
    tags: Sequence[str]
    ttl: timedelta | None
    ttl_failed: timedelta | None
    timeout: timedelta | None
    run_at: datetime | None
    args_json: str
    after: Sequence[UUID] = ()
    batch_id: UUID | None = None
    idempotency_key: str | None = None
    request_hash: bytes | None = None
    app_key: AppKey | None = None
    schedule: str | None = None
    scheduled_for: datetime | None = None
    exclusive: bool | None = None
    """Whether no other exclusive job of its schedule may be unfinished; the database refuses a second one."""
    limit_keys: Sequence[str] | None = None
    limit_terms: str | None = None
    """JSON text: what the task says of each key."""
    unique_key: str | None = None
    replaceable: bool = False
    """While it waits, a later job of its unique key takes its place."""
    max_delay: timedelta | None = None
    """How long it may wait then."""
    on_full: str = "wait"
    """Else "reject" or "replace": what happens where a key has no room."""
    max_pending: Mapping[str, int] | None = None
    """By limit key: how many pending jobs refuse this one."""
    trace_parent: str | None = None
    """As in `Trace`."""
    callback_url: str | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it can be stored by itself, in a statement with others."""
        has_key = self.idempotency_key is not None or self.app_key is not None or self.unique_key is not None
        return self.on_full == "wait" and not (self.after or has_key)

    @property
    def key(self) -> tuple[str, str] | None:
        """The kind and the text of the key that others may have taken."""
        if self.unique_key is not None:
            return "replaceable" if self.replaceable else "unique", self.unique_key
        if self.app_key is not None:
            return "app", self.app_key.key
        return None if self.idempotency_key is None else ("client", self.idempotency_key)


@dataclass(slots=True)  # not frozen: that takes six times as long to make, and each answer makes one
class Job:
    """One submitted run of a task."""

    # times are the database's, and `ttl` is the one that counts for the row's status
    id: UUID
    task: str
    queue: str
    args: Mapping[str, Any]
    status: Status
    result: Annotated[Any, Field(description="What the task returned; null unless it succeeded.")]
    error: Mapping[str, Any] | None
    trace_id: Annotated[str, Field(description="32 hex digits (W3C Trace Context).")]
    priority: Annotated[int, Field(description="0 to 9, higher first.")]
    tags: Sequence[str]
    attempt: Annotated[int, Field(description="How often it was started; 0 before the first time.")]
    max_attempts: int
    timeout: Annotated[timedelta | None, Field(description="Seconds for one attempt; null: no limit.")]
    progress: Annotated[Any, Field(description="Of the last attempt; null: it said nothing.")]
    run_at: datetime | None
    after: Annotated[Sequence[UUID], Field(description="The jobs that had to succeed before it could start.")]
    created_at: datetime
    started_at: Annotated[datetime | None, Field(description="Of the last attempt.")]
    finished_at: datetime | None
    ttl: Annotated[timedelta | None, Field(description="Seconds that the row is kept after its end; null: for ever.")]
    expires_at: datetime | None
    cancel_requested_at: datetime | None
    cancel_reason: str | None
    created_by: str
    node_id: Annotated[UUID | None, Field(description="The node that runs it or ended it.")]
    batch_id: Annotated[UUID | None, Field(description="The batch that it was submitted with.")]
    seq: Annotated[int, Field(exclude=True)]
    schedule: Annotated[str | None, Field(description="The schedule that it is of.")] = None
    scheduled_for: Annotated[datetime | None, Field(description="Its due time; null: run by hand.")] = None
    unique_key: Annotated[str | None, Field(description="No other unfinished job has it.")] = None
    callback_url: Annotated[str | None, Field(description="It is told how the job ended.")] = None

    @property
    def is_for_later(self) -> bool:
        """Whether a job that was just stored waits for its time or for others, and so needs neither launch nor hint."""
        return bool(self.after) or (self.run_at is not None and self.run_at > self.created_at)


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """The end of an attempt, as it was recorded. `status` is the job's then: pending where another attempt follows, or
    where the attempt is given back. `error` as in the row; `exception` is the task's own, or, of a task in a process,
    one that has its traceback as text. `seconds` that it took.
    """

    job_id: UUID
    task: str
    attempt: int
    trace_id: str
    status: Status
    error: Mapping[str, Any] | None
    exception: BaseException | None
    seconds: float


@dataclass(slots=True)
class Claimed:
    """An attempt that this node holds. `id` and `attempt` are the fence. `given_back`: attempts before it that do not
    count. `cursor`: the last checkpoint of those before it. `trace_parent` as in `Trace`; where there is one, `age` is
    the time since the submit. `is_limited`: its end makes room for another one. `waited`: seconds since it was due;
    None where that was not asked.
    """

    id: UUID
    attempt: int
    task: str
    args: Mapping[str, Any]
    trace_id: str
    max_attempts: int
    timeout: timedelta | None
    created_by: str
    given_back: int = 0
    cursor: Any = None
    queue: str = ""
    trace_parent: str | None = None
    age: timedelta | None = None
    is_limited: bool = False
    waited: float | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """One move of a job. `from_status` null is its birth, `to_status` may be `purged`."""

    job_id: Annotated[UUID, Field(exclude=True)]
    seq: int
    attempt: int
    from_status: str | None
    to_status: str
    at: datetime
    actor: str
    node_id: UUID | None
    reason: str | None
    error: Mapping[str, Any] | None
    trace_id: str
    task: str


@dataclass(frozen=True, slots=True)
class LogLine:
    """Something that a job said while it ran."""

    attempt: int
    number: Annotated[int, Field(description="In its attempt, from 1; lines that were not kept leave gaps.")]
    at: datetime
    level: str
    logger: str
    message: Annotated[str, Field(description="With its traceback; at most 8 KiB.")]


@dataclass(frozen=True, slots=True)
class Batch:
    """Jobs that were submitted together. A retry by hand changes the numbers, also once it is done."""

    id: UUID
    total: int
    pending: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    purged: Annotated[int, Field(description="Jobs whose rows are gone, and which no other number counts.")]
    progress: Annotated[float, Field(description="The part of its jobs that has ended, from 0 to 1.")]
    created_at: datetime
    created_by: str
    done_at: Annotated[datetime | None, Field(description="When all of its jobs had ended for the first time.")]
    on_done: Annotated[UUID | None, Field(description="The job that was submitted then, if one was asked for.")]


_More = Annotated[bool, Field(description="Whether there are more than that.")]
_Ended = Annotated[
    int, Field(description="Ends since `since`, in any terminal status. A job that was retried by hand ends anew.")
]


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The jobs of one queue that have not ended."""

    queue: str
    pending: int
    more: _More
    oldest_pending_at: Annotated[
        datetime | None, Field(description="Since when the oldest one that is not paused could have begun.")
    ]
    running: int


@dataclass(frozen=True, slots=True)
class TaskStats:
    """The jobs of one task."""

    task: str
    pending: Annotated[int, Field(description="At least, where the queue has more.")]
    running: int
    ended: _Ended
    failed: Annotated[int, Field(description="Of these.")]


@dataclass(frozen=True, slots=True)
class Alarm:
    """A number that should not be larger than its limit."""

    name: Annotated[
        str,
        Field(
            description="`pending`: pending jobs. `running`: seconds that the oldest running job has run. `failures`: "
            "the share of the ended that failed. All of them without deliveries of webhooks."
        ),
    ]
    value: float
    limit: float
    rings: bool


@dataclass(frozen=True, slots=True)
class Stats:
    """How much waits, runs and has ended of late."""

    as_of: Annotated[datetime, Field(description="All that was committed by then is counted as ended.")]
    since: Annotated[datetime, Field(description="A whole minute, an hour before.")]
    read_at: Annotated[
        datetime, Field(description="When pending and running jobs and nodes were read, by the database's clock.")
    ]
    pending: Annotated[int, Field(description="Exact up to 1,000 of a queue and priority.")]
    more: _More
    oldest_pending_at: Annotated[
        datetime | None,
        Field(
            description="Since when the oldest of those that only want a slot, and are not paused, could have begun."
        ),
    ]
    running: int
    oldest_running_at: Annotated[datetime | None, Field(description="When the oldest running attempt began.")]
    ended: _Ended
    failed: Annotated[int, Field(description="Of these.")]
    nodes: Annotated[int, Field(description="Processes that were heard of lately.")]
    slots: Annotated[Mapping[str, int], Field(description="How many jobs at once, in loops, threads and processes.")]
    loop_lag: Annotated[float, Field(description="Seconds that one of their event loops let others wait at most.")]
    numbers_lag: Annotated[
        float, Field(description="Seconds since the oldest moves that `ended` and `failed` do not count yet; 0: none.")
    ]
    webhooks_lag: Annotated[
        float, Field(description="Seconds since the oldest moves for which no deliveries were made yet; 0: none.")
    ]
    queues: Annotated[Sequence[QueueStats], Field(description="Those with jobs that have not ended, by name.")]
    tasks: Annotated[Sequence[TaskStats], Field(description="Those with such jobs or ended ones, by name.")]
    alarms: Sequence[Alarm]

    @property
    def ringing(self) -> Sequence[Alarm]:
        return [each for each in self.alarms if each.rings]


@cache
def _getter(record: type) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    names = tuple(shown_fields(record))
    return names, attrgetter(*names)


def _is_excluded(hint: Any) -> bool:
    return any(isinstance(each, FieldInfo) and each.exclude for each in get_args(hint))
