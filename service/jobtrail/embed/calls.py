"""From a typed call of a task to a job that may be stored: everything that can be refused is refused here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypedDict

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from jobtrail.job import declaration
from jobtrail.job.errors import Flaw, InvalidInputError, UnknownTaskError
from jobtrail.job.limits import MAX_KEY
from jobtrail.job.pointer import step
from jobtrail.job.record import NewJob
from jobtrail.job.submission import Submission
from jobtrail.job.task import Task
from jobtrail.jobs.row import AnySession
from jobtrail.jobs.services import Services
from jobtrail.jobs.submit import app_keyed, prepare


class Said(TypedDict, total=False):
    """What may be said of a job besides its arguments. `ttl` and `timeout` in seconds; `ttl` None keeps the row."""

    queue: str
    priority: int
    run_at: datetime
    ttl: float | None
    timeout: float | None
    tags: Sequence[str]
    max_attempts: int
    idempotency_key: str
    session: AnySession


@dataclass(frozen=True, slots=True)
class Call:
    """A task that was looked at, its arguments as JSON, and what is said of the job."""

    task: Task[..., Any]
    args: Mapping[str, Any]
    said: Said = field(default_factory=Said)

    def job(self, services: Services, *, by: str, trace_id: str | None) -> NewJob:
        """Raises InvalidInputError for what is said wrongly, InvalidArgumentsError for arguments that do not fit."""
        said: dict[str, Any] = {name: value for name, value in self.said.items() if name not in _NOT_IN_A_BODY}
        if not isinstance(said.get("tags", ()), str):  # which Submission refuses
            said |= {"tags": list(said["tags"])} if "tags" in said else {}
        try:
            wanted = Submission(task=self.task.name, args=dict(self.args), **said)
        except ValidationError as error:
            raise InvalidInputError(
                [Flaw("".join(map(step, each["loc"])), each["msg"]) for each in error.errors(include_url=False)]
            ) from None
        new = prepare(services, wanted, by=by, trace_id=trace_id)
        key = self.said.get("idempotency_key")
        return new if key is None else app_keyed(new, _checked(key))


_NOT_IN_A_BODY = frozenset({"idempotency_key", "session"})


def call(services: Services, said: Said, task: object, args: Sequence[object], kwargs: Mapping[str, object]) -> Call:
    """Raises TypeError for what is no task of this process, InvalidArgumentsError for what does not fit it."""
    session = said.get("session")
    if session is not None and not isinstance(session, Session | AsyncSession | scoped_session | async_scoped_session):
        raise TypeError(f"session={session!r:.100}: it takes a Session or an AsyncSession of SQLAlchemy")
    if session is not None and "idempotency_key" in said:
        raise TypeError(
            "idempotency_key= and session= do not go together: a key that is there already would have to undo your "
            "transaction; make a row of your own unique instead"
        )
    known = _known(services, task)
    return Call(known, known.signature.dump(*args, **kwargs), said)


def _known(services: Services, task: object) -> Task[..., Any]:
    task = task_of(task)
    try:
        known = services.catalog[task.name]
    except UnknownTaskError:
        raise TypeError(
            f"{task!r} was not known when Jobtrail started: import its module before, name the module in "
            "JOBTRAIL_TASKS, or name the task in Jobtrail(tasks=[…])"
        ) from None
    if known is not task and known.written != task.written:
        raise TypeError(f"{task!r} is another task than the one of that name that Jobtrail knows: {known!r}")
    return known


def task_of(thing: object) -> Task[..., Any]:
    """Raises TypeError for what is no task."""
    if isinstance(thing, Task):
        return thing
    raise TypeError(
        f"{declaration.name_of(thing)} is not a task: write @task above it, with `from jobtrail import task`"
    )


def _checked(key: object) -> str:
    if isinstance(key, str) and 1 <= len(key) <= MAX_KEY and key.isprintable():
        return key
    raise InvalidInputError([Flaw("/idempotency_key", f"a key is a text of 1 to {MAX_KEY} printable characters")])
