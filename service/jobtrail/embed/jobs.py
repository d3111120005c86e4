"""`Jobs`, for an endpoint, and the one path from a typed call of a task to a stored job.

A job is added as to BackgroundTasks, refused there if it cannot run, and stored before the answer leaves. The
dependency has the scope `function`: it ends after the endpoint and before the answer (FastAPI, "Dependencies with yield
and scope"), so a job that cannot be stored makes the answer 503.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Final, NamedTuple, ParamSpec, Self, TypedDict, TypeVar, Unpack

from fastapi import BackgroundTasks, Depends, HTTPException
from pydantic import ValidationError
from sqlalchemy import inspect
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, object_session, scoped_session
from starlette.requests import Request

from jobtrail import errors, limits
from jobtrail.api.headers import trace_of
from jobtrail.db.errors import FAILURES, unavailability
from jobtrail.embed.handle import JobHandle
from jobtrail.embed.opened import Opened, current
from jobtrail.jobs.query import are_there
from jobtrail.jobs.row import AnySession, JobRow, add
from jobtrail.jobs.submit import app_keyed, prepare, submit_together
from jobtrail.records import NewJob
from jobtrail.task.arguments import name_of
from jobtrail.task.storable import step
from jobtrail.task.submission import Submission
from jobtrail.task.task import Task

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

_AT_THE_LATEST: Final = 0.1
"""Seconds after which jobs are launched whose answer is still on its way."""

_LATE: Final = (
    "the session given to jobs.options(session=…) was not committed when the answer left: the answer promised a job "
    "that is not stored, and may never be; commit in the endpoint, or give the dependency that makes the session "
    'scope="function": Depends(get_session, scope="function")'
)


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


class RequestJobs:
    """The jobs of one request."""

    def __init__(self, opened: Opened, request: Request) -> None:
        self._opened = opened
        self._request = request
        self._by: str | None = None
        self._batch = JobBatch(opened)
        self._failure: Exception | None = None
        self._is_closed = False

    def add_task(self, task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Add a job, in the shape of BackgroundTasks. It is stored after the endpoint and before the answer; when the
        endpoint raises, it never was.

        Raises TypeError for anything but a task, InvalidArgumentsError for arguments that do not fit it.
        """
        return self.options().add_task(task, *args, **kwargs)

    def options(self, **options: Unpack[Options]) -> "JobsWithOptions":
        """The same with a queue, priority, run_at, ttl, timeout, tags, max_attempts or idempotency_key of one's own.

        `session`: the job is stored in the transaction of this session, and only if that commits. Commit before the
        answer leaves: in the endpoint, or in a dependency with `scope="function"`.
        """
        return JobsWithOptions(partial(self._add, options))

    async def commit(self) -> None:
        """Store at once what was added without a session, so that it stays whatever happens later in the request.

        Raises IdempotencyKeyReusedError, OverloadedError, UnavailableError: then nothing of it is stored, unless it is
        an OutcomeUnknownError, and the request cannot succeed any more, since it may have spoken of these jobs.
        """
        self._refuse_when_closed()
        if self._failure is not None:
            raise self._failure
        try:
            await self._batch.store(unless_draining=True)
        except Exception as error:
            self._failure = error
            raise

    @asynccontextmanager
    async def around_endpoint(self, background: BackgroundTasks) -> AsyncIterator[Self]:
        """Store the jobs when the endpoint has returned. Raises HTTPException, the host's own form of an error."""
        background.add_task(self._launch)
        try:
            yield self
            await self.commit()
            # FastAPI forgets the background tasks of dependencies where the response has one of its own
            asyncio.get_running_loop().call_later(_AT_THE_LATEST, self._batch.launch)
        except errors.IdempotencyKeyReusedError as error:
            raise HTTPException(422, str(error)) from error
        except (errors.UnavailableError, *FAILURES) as error:
            away = error if isinstance(error, errors.UnavailableError) else self._host_commit_failed(error)
            if away is None:
                raise
            log.warning("jobs of %s %s: %s", self._request.method, self._request.url.path, away)
            status = 429 if isinstance(away, errors.OverloadedError) else 503
            raise HTTPException(status, str(away), {"Retry-After": str(away.retry_after)}) from error
        finally:
            self._is_closed = True

    def _add(self, options: Options, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> JobHandle[Any]:
        self._refuse_when_closed()
        if self._by is None:
            self._by = self._opened.parts.caller(self._request).name
        return self._batch.add(options, task, args, kwargs, by=self._by, trace_id=trace_of(self._request))

    def _refuse_when_closed(self) -> None:
        if self._is_closed:
            raise RuntimeError(
                "the jobs of this request are stored already, since its endpoint has returned: in a stream, a "
                "background task or a thread that goes on write `await trail.submit(…)`"
            )

    async def _launch(self) -> None:
        """After the answer. It never raises, since that would drop the host's own background tasks behind it."""
        self._batch.launch()
        added = self._batch.in_sessions
        try:
            found = await are_there(self._opened.services, [job.id for job, _ in added]) if added else set()
        except Exception as error:  # noqa: BLE001 - the claim loop will find them
            log.warning("could not check which jobs are committed; the claim loop starts them: %s", error)
            return
        for job, row in added:
            if job.id in found:
                if _is_due(job):
                    self._opened.launch(job.id, job.task, job.queue)
            elif object_session(row) is not None and not self._opened.has_warned:
                self._opened.has_warned = True
                log.warning(_LATE)

    def _host_commit_failed(self, error: Exception) -> errors.UnavailableError | None:
        """The database was away when a session of the host's was to store its jobs. An OSError is the host's own."""
        states = [inspect(row) for _, row in self._batch.in_sessions]
        is_lost = any(state.transient or state.pending for state in states)
        return unavailability(error) if is_lost and not isinstance(error, OSError) else None


@dataclass(frozen=True, slots=True)
class JobsWithOptions:
    """The result of `options`."""

    _add: Callable[[Any, tuple[Any, ...], dict[str, Any]], JobHandle[Any]]

    def add_task(self, task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """As `RequestJobs.add_task`. Raises InvalidInputError too, for an option that is out of its range."""
        return self._add(task, args, kwargs)


async def _jobs(request: Request, background: BackgroundTasks) -> AsyncIterator[RequestJobs]:
    async with RequestJobs(current(), request).around_endpoint(background) as jobs:
        yield jobs


Jobs = Annotated[RequestJobs, Depends(_jobs, scope="function")]
"""For the signature of an endpoint, `async def` or `def`: `jobs: Jobs`."""


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
        """Raises TypeError for anything but a task of this process, InvalidArgumentsError, and InvalidInputError for
        options out of range.
        """
        services, known = self._opened.services, self._known(task)
        fields: dict[str, Any] = {**options}
        session, key = fields.pop("session", None), fields.pop("idempotency_key", None)
        _check(session, key)
        args_json = known.signature.dump(*args, **kwargs)
        if session is not None and known.on_full != "wait":
            raise TypeError(
                f"on_full={known.on_full!r} of {known!r} and session= do not go together: every claim of its keys "
                "would wait for your transaction; submit it after your commit"
            )
        job = prepare(services, _submission(known.name, args_json, fields), by=by, trace_id=trace_id)
        if key is not None:
            job = app_keyed(job, key)
        handle = JobHandle[Any](known, job, self._opened.still, is_in_session=session is not None)
        if session is None:
            self._waiting.append((job, handle))
        else:
            self.in_sessions.append(InSession(job, add(session, job, services.database.schema)))
        return handle

    async def store(self, *, unless_draining: bool = False) -> None:
        """Store what waits; committed when this returns. Raises as `submit_together`, and then nothing waits any more;
        UnavailableError too, `unless_draining`, where the process shuts down.
        """
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        if unless_draining and not self._opened.accepting():
            raise errors.UnavailableError("this process is shutting down; send it again, to another or to the next one")
        ids = await submit_together(self._opened.services, [job for job, _ in waiting])
        for (job, handle), job_id in zip(waiting, ids, strict=True):
            handle.became(job_id)
            if job.id == job_id and _is_due(job):
                self._stored.append(job)

    def launch(self) -> None:
        """Hand what was stored to the node of this process; again, it does nothing."""
        while self._stored:
            job = self._stored.pop(0)
            self._opened.launch(job.id, job.task, job.queue)

    def _known(self, thing: object) -> Task[..., Any]:
        task = task_of(thing)
        try:
            known = self._opened.services.catalog[task.name]
        except errors.UnknownTaskError:
            raise TypeError(
                f"{task!r} was not known when Jobtrail started: import its module before, name the module in "
                "JOBTRAIL_TASKS, or name the task in Jobtrail(tasks=[…])"
            ) from None
        if known is not task and known.written != task.written:
            raise TypeError(f"{task!r} is another task than the one of that name that Jobtrail knows: {known!r}")
        return known


def _is_due(job: NewJob) -> bool:
    """Whether it is worth a launch: the caller's own clock decides, and the poll finds what it misjudged."""
    return job.run_at is None or job.run_at <= datetime.now(UTC)


def task_of(thing: object) -> Task[..., Any]:
    """Raises TypeError for anything but a task."""
    if isinstance(thing, Task):
        return thing
    raise TypeError(f"{name_of(thing)} is not a task: write @task above it, with `from jobtrail import task`")


def _check(session: object, key: object) -> None:
    if session is not None and not isinstance(session, Session | AsyncSession | scoped_session | async_scoped_session):
        raise TypeError(f"session={session!r:.100}: it takes a Session or an AsyncSession of SQLAlchemy")
    if session is not None and key is not None:
        raise TypeError(
            "idempotency_key= and session= do not go together: a key that is there already would have to undo your "
            "transaction; make a row of your own unique instead"
        )
    if key is not None and not (isinstance(key, str) and 1 <= len(key) <= limits.MAX_KEY and key.isprintable()):
        raise errors.InvalidInputError(
            [errors.FieldError("/idempotency_key", f"a key is a text of 1 to {limits.MAX_KEY} printable characters")]
        )


def _submission(task: str, args: Mapping[str, Any], fields: dict[str, Any]) -> Submission:
    tags = fields.get("tags")
    if tags is not None and not isinstance(tags, str):  # a text is refused as such
        fields["tags"] = list(tags)
    try:
        return Submission(task=task, args=dict(args), **fields)
    except ValidationError as error:
        raise errors.InvalidInputError(
            [
                errors.FieldError("".join(map(step, each["loc"])), each["msg"])
                for each in error.errors(include_url=False)
            ]
        ) from None
