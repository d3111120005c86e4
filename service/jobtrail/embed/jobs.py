"""What an endpoint gets: jobs that are added as BackgroundTasks are, and stored before the answer leaves.

The dependency has the scope `function`: it ends after the endpoint and before the answer (FastAPI, "Dependencies with
yield and scope"), so that a job that cannot be stored is an answer 503 and not a surprise.
"""

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final, NamedTuple, ParamSpec, TypeVar, Unpack
from uuid import UUID

from fastapi import BackgroundTasks, Depends, HTTPException
from sqlalchemy import inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import object_session
from starlette.requests import Request

from jobtrail.api.headers import trace_of
from jobtrail.db.errors import FAILURES, unavailable
from jobtrail.embed.calls import Call, Said, call
from jobtrail.embed.handle import JobHandle
from jobtrail.embed.opened import Opened, current
from jobtrail.job.errors import IdempotencyKeyReusedError, OverloadedError, UnavailableError
from jobtrail.job.record import NewJob
from jobtrail.job.task import Task
from jobtrail.jobs.query import are_there
from jobtrail.jobs.row import add
from jobtrail.jobs.submit import submit_together

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


class _Added(NamedTuple):
    job: NewJob
    handle: JobHandle[Any]


class _InSession(NamedTuple):
    job: NewJob
    row: object


class RequestJobs:
    """The jobs of one request."""

    def __init__(self, opened: Opened, request: Request) -> None:
        self._opened = opened
        self._request = request
        self._by: str | None = None
        self._waiting: list[_Added] = []
        self._in_sessions: list[_InSession] = []
        self._failure: Exception | None = None
        self._to_launch: list[NewJob] = []
        self._is_closed = False

    def add_task(self, task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Add a job, in the shape of BackgroundTasks. It is stored after the endpoint and before the answer; when the
        endpoint raises, it never was.

        Raises TypeError for what is no task, InvalidArgumentsError for arguments that do not fit it.
        """
        return self._add({}, task, args, kwargs)

    def options(self, **said: Unpack[Said]) -> "JobsWithOptions":
        """The same with a queue, priority, run_at, ttl, timeout, tags, max_attempts or idempotency_key of one's own.

        `session`: the job is stored in the transaction of this session, and only if that commits. Commit before the
        answer leaves: in the endpoint, or in a dependency with `scope="function"`.
        """
        return JobsWithOptions(partial(self._add, said))

    async def commit(self) -> None:
        """Store at once what was added without a session, so that it stays whatever happens later in the request.

        Raises IdempotencyKeyReusedError, OverloadedError, UnavailableError: then nothing of it is stored, unless it is
        an OutcomeUnknownError, and the request cannot succeed any more, since it may have spoken of these jobs.
        """
        self._refuse_when_closed()
        if self._failure is not None:
            raise self._failure
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        try:
            stored = await self._store([each.job for each in waiting])
        except Exception as error:
            self._failure = error
            raise
        for each, job_id in zip(waiting, stored, strict=True):
            each.handle.became(job_id)
        self._to_launch += [each.job for each, job_id in zip(waiting, stored, strict=True) if each.job.id == job_id]

    def close(self) -> None:
        """The endpoint has returned, and what it added is stored."""
        self._is_closed = True

    async def launch(self) -> None:
        """After the answer: tell the node of this process. It never raises, since that would drop the host's own
        background tasks behind it.
        """
        self.nudge()
        for job in await self._committed():
            self._opened.launch(job.id, job.task, job.queue)

    def nudge(self) -> None:
        """The same for what was stored without a session; again, it does nothing."""
        while self._to_launch:
            job = self._to_launch.pop(0)
            self._opened.launch(job.id, job.task, job.queue)

    @property
    def call(self) -> tuple[str, str]:
        """Method and path, for the log."""
        return self._request.method, self._request.url.path

    @property
    def are_lost(self) -> bool:
        """Whether a session was undone that had jobs in it."""
        states = [inspect(each.row) for each in self._in_sessions]
        return any(state.transient or state.pending for state in states)

    async def _store(self, jobs: Sequence[NewJob]) -> Sequence[UUID]:
        if not self._opened.accepting():
            raise UnavailableError("this process is shutting down; send it again, to another or to the next one")
        return await submit_together(self._opened.services, jobs)

    def _refuse_when_closed(self) -> None:
        if self._is_closed:
            raise RuntimeError(
                "the jobs of this request are stored already, since its endpoint has returned: in a stream, a "
                "background task or a thread that goes on write `await trail.submit(…)`"
            )

    def _add(self, said: Said, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> JobHandle[Any]:
        self._refuse_when_closed()
        if self._by is None:
            self._by = self._opened.who(self._request).name
        wanted = call(self._opened.services, said, task, args, kwargs)
        job, handle = new_job(self._opened, wanted, by=self._by, trace_id=trace_of(self._request))
        session = said.get("session")
        if session is None:
            self._waiting.append(_Added(job, handle))
        else:
            self._in_sessions.append(_InSession(job, add(session, job, self._opened.services.database.schema)))
            handle.is_in_session()
        return handle

    async def _committed(self) -> list[NewJob]:
        """Of the jobs in sessions. One that is not there while its session is open was promised too early."""
        if not self._in_sessions:
            return []
        try:
            found = await are_there(self._opened.services, [each.job.id for each in self._in_sessions])
        except Exception as error:  # noqa: BLE001 - the claim loop will find them
            log.warning("launch: %s", error)
            return []
        if any(each.job.id not in found and object_session(each.row) is not None for each in self._in_sessions):
            self._opened.warn_once(_LATE)
        return [each.job for each in self._in_sessions if each.job.id in found]


@dataclass(frozen=True, slots=True)
class JobsWithOptions:
    """What `options` gives."""

    _add: Callable[[Any, tuple[Any, ...], dict[str, Any]], JobHandle[Any]]

    def add_task(self, task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """As `RequestJobs.add_task`. Raises InvalidInputError too, for an option that is out of its range."""
        handle: JobHandle[R] = self._add(task, args, kwargs)
        return handle


def new_job(opened: Opened, wanted: Call, *, by: str, trace_id: str | None) -> tuple[NewJob, JobHandle[Any]]:
    """A job that may be stored, and its handle. Raises as `Call.job`."""
    job = wanted.job(opened.services, by=by, trace_id=trace_id)
    handle = JobHandle[Any](wanted.task, job.trace_id, opened.still)
    if job.app_key is None:
        handle.will_become(job.id)
    return job, handle


async def _jobs(request: Request, background: BackgroundTasks) -> AsyncIterator[RequestJobs]:
    jobs = RequestJobs(current(), request)
    background.add_task(jobs.launch)
    try:
        with _answered(jobs):
            yield jobs
            await jobs.commit()
        # FastAPI forgets the background tasks of dependencies where the response has one of its own
        asyncio.get_running_loop().call_later(_AT_THE_LATEST, jobs.nudge)
    finally:
        jobs.close()


Jobs = Annotated[RequestJobs, Depends(_jobs, scope="function")]
"""For the signature of an endpoint, `async def` or `def`: `jobs: Jobs`."""


@contextmanager
def _answered(jobs: RequestJobs) -> Iterator[None]:
    """What kept the jobs of a request from being stored, in the host's own form of an error."""
    try:
        try:
            yield
        except FAILURES as error:
            if not (jobs.are_lost and _is_of_database(error)):  # the host's own affair
                raise
            with unavailable():
                raise error  # noqa: TRY201 - as `unavailable` understands it
    except UnavailableError as error:
        status = 429 if isinstance(error, OverloadedError) else 503
        log.warning("jobs of %s %s: %s", *jobs.call, error)
        raise HTTPException(status, str(error), {"Retry-After": str(error.retry_after)}) from error
    except IdempotencyKeyReusedError as error:
        raise HTTPException(422, str(error)) from error


def _is_of_database(error: Exception) -> bool:
    """Drivers raise plain OSErrors where nobody answers; so does all else that a host calls."""
    frames = traceback.walk_tb(error.__traceback__)
    return isinstance(error, SQLAlchemyError) or any(
        str(frame.f_globals.get("__name__", "")).partition(".")[0] in _DRIVERS for frame, _ in frames
    )


_DRIVERS: Final = frozenset({"sqlalchemy", "asyncpg", "psycopg"})

_AT_THE_LATEST: Final = 0.1
"""Seconds after which jobs are launched whose answer is still on its way."""

_LATE: Final = (
    "the session given to jobs.options(session=…) was not committed when the answer left: who was answered was told of "
    "a job that is not stored, and may never be; commit in the endpoint, or give the dependency that makes the session "
    'scope="function": Depends(get_session, scope="function")'
)
