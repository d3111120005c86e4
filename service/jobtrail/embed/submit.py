"""From a typed call of a task to a stored job: the one way of `Jobs`, `trail.submit`, their options and sessions.

What can be refused is refused when the job is added, before anything is stored.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, TypedDict

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from jobtrail.embed.handle import JobHandle
from jobtrail.embed.opened import Opened
from jobtrail.errors import FieldError, InvalidInputError, UnavailableError, UnknownTaskError
from jobtrail.jobs.row import AnySession, JobRow, add
from jobtrail.jobs.submit import app_keyed, prepare, submit_together
from jobtrail.limits import MAX_KEY
from jobtrail.records import NewJob
from jobtrail.task.arguments import name_of
from jobtrail.task.storable import step
from jobtrail.task.submission import Submission
from jobtrail.task.task import Task


class Options(TypedDict, total=False):
    """The options of a job besides its arguments. `ttl` and `timeout` in seconds; `ttl` None keeps the row."""

    queue: str
    priority: int
    run_at: datetime
    ttl: float | None
    timeout: float | None
    tags: Sequence[str]
    max_attempts: int
    idempotency_key: str
    session: AnySession


class InSession(NamedTuple):
    """A job that a session of the caller's stores, with the row that it inserts when it flushes."""

    job: NewJob
    row: JobRow


class JobBatch:
    """Jobs that are added one by one, stored together, then launched. Those with a session are stored by that."""

    def __init__(self, opened: Opened) -> None:
        self.in_sessions: Final[list[InSession]] = []
        self._opened = opened
        self._waiting: list[tuple[NewJob, JobHandle[Any]]] = []
        self._stored: list[NewJob] = []

    def add(
        self, options: Options, task: object, args: Sequence[object], kwargs: Mapping[str, object],
        *, by: str, trace_id: str | None = None,
    ) -> JobHandle[Any]:  # fmt: skip
        """Raises TypeError for what is no task of this process, InvalidArgumentsError for arguments that do not fit it,
        InvalidInputError for options out of range.
        """
        session, services = options.get("session"), self._opened.services
        _refuse_session(options)
        known = self._known(task_of(task))
        job = prepare(
            services, _submission(known, known.signature.dump(*args, **kwargs), options), by=by, trace_id=trace_id
        )
        if (key := options.get("idempotency_key")) is not None:
            job = app_keyed(job, key)
        handle = JobHandle[Any](known, job.trace_id, self._opened.still, None if job.app_key else job.id)
        if session is None:
            self._waiting.append((job, handle))
        else:
            self.in_sessions.append(InSession(job, add(session, job, services.database.schema)))
            handle.is_in_session()
        return handle

    async def store(self, *, unless_draining: bool = False) -> None:
        """Store what waits; committed when this returns. Raises as `submit_together`, and then nothing waits any more;
        UnavailableError too, `unless_draining`, where the process shuts down.
        """
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        if unless_draining and not self._opened.accepting():
            raise UnavailableError("this process is shutting down; send it again, to another or to the next one")
        ids = await submit_together(self._opened.services, [job for job, _ in waiting])
        for (job, handle), job_id in zip(waiting, ids, strict=True):
            handle.became(job_id)
            if job.id == job_id:
                self._stored.append(job)

    def launch(self) -> None:
        """Hand what was stored to the node of this process; again, it does nothing."""
        while self._stored:
            job = self._stored.pop(0)
            self._opened.launch(job.id, job.task, job.queue)

    def _known(self, task: Task[..., Any]) -> Task[..., Any]:
        try:
            known = self._opened.services.catalog[task.name]
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
    raise TypeError(f"{name_of(thing)} is not a task: write @task above it, with `from jobtrail import task`")


def _refuse_session(options: Options) -> None:
    session = options.get("session")
    if session is None:
        return
    if not isinstance(session, Session | AsyncSession | scoped_session | async_scoped_session):
        raise TypeError(f"session={session!r:.100}: it takes a Session or an AsyncSession of SQLAlchemy")
    if "idempotency_key" in options:
        raise TypeError(
            "idempotency_key= and session= do not go together: a key that is there already would have to undo your "
            "transaction; make a row of your own unique instead"
        )


def _submission(task: Task[..., Any], args: Mapping[str, Any], options: Options) -> Submission:
    key: object = options.get("idempotency_key")
    if key is not None and not (isinstance(key, str) and 1 <= len(key) <= MAX_KEY and key.isprintable()):
        raise InvalidInputError(
            [FieldError("/idempotency_key", f"a key is a text of 1 to {MAX_KEY} printable characters")]
        )
    fields = {name: value for name, value in options.items() if name not in ("idempotency_key", "session")}
    tags = fields.get("tags")
    if tags is not None and not isinstance(tags, str):  # a text is refused as such
        fields["tags"] = list(tags)  # type: ignore[call-overload]  # any sequence of texts
    try:
        return Submission(task=task.name, args=dict(args), **fields)
    except ValidationError as error:
        raise InvalidInputError(
            [FieldError("".join(map(step, each["loc"])), each["msg"]) for each in error.errors(include_url=False)]
        ) from None
