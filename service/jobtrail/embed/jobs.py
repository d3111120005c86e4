"""`Jobs`, for an endpoint: the jobs of one request.

A job is added as to BackgroundTasks, refused there if it cannot run, and stored before the answer leaves. The
dependency has the scope `function`: it ends after the endpoint and before the answer (FastAPI, "Dependencies with yield
and scope"), so a job that cannot be stored makes the answer 503.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final, ParamSpec, Self, TypeVar, Unpack

from fastapi import BackgroundTasks, Depends, HTTPException
from sqlalchemy import inspect
from sqlalchemy.orm import object_session
from starlette.requests import Request

from jobtrail import errors
from jobtrail.api.headers import trace_of
from jobtrail.api.problems import type_of
from jobtrail.db.errors import FAILURES, unavailability
from jobtrail.embed.added import AddedJobs, Options, is_due
from jobtrail.embed.handle import BatchHandle, JobHandle
from jobtrail.embed.opened import Opened, current
from jobtrail.jobs.query import are_there
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


class RequestJobs:
    """The jobs of one request."""

    def __init__(self, opened: Opened, request: Request) -> None:
        self._opened = opened
        self._request = request
        self._by: str | None = None
        self._added = AddedJobs(opened)
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

        `after`: jobs that must succeed first, of this request too; if one does not, this one is cancelled.
        `session`: the job is stored in the transaction of this session, and only if that commits. Commit before the
        answer leaves: in the endpoint, or in a dependency with `scope="function"`.
        """
        return JobsWithOptions(partial(self._add, options))

    def batch(self, jobs: Iterable[JobHandle[Any]], *, on_done: JobHandle[Any] | None = None) -> BatchHandle:
        """Count these jobs together, which were added in this request; `on_done`, which was too, is submitted once all
        of them have ended, and only then.

        Raises TypeError for other jobs: of another batch, with a session or a key, or stored already.
        """
        self._refuse_when_closed()
        return self._added.count(list(jobs), on_done)

    async def commit(self) -> None:
        """Store at once what was added without a session, so that it stays whatever happens later in the request.

        Raises IdempotencyKeyReusedError, OverloadedError, UnavailableError: then nothing of it is stored, unless it is
        an OutcomeUnknownError, and the request cannot succeed any more, since it may have spoken of these jobs.
        """
        self._refuse_when_closed()
        if self._failure is not None:
            raise self._failure
        try:
            await self._added.store(unless_draining=True)
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
            asyncio.get_running_loop().call_later(_AT_THE_LATEST, self._added.launch)
        except (errors.IdempotencyKeyReusedError, errors.InvalidInputError) as error:
            if isinstance(error, errors.InvalidInputError) and error is not self._failure:
                raise  # a mistake in the endpoint, as an option out of range is
            raise HTTPException(type_of(error).status, str(error)) from error
        except (errors.UnavailableError, *FAILURES) as error:
            away = error if isinstance(error, errors.UnavailableError) else self._host_commit_failed(error)
            if away is None:
                raise
            log.warning("jobs of %s %s: %s", self._request.method, self._request.url.path, away)
            raise HTTPException(type_of(away).status, str(away), {"Retry-After": str(away.retry_after)}) from error
        finally:
            self._is_closed = True

    def _add(self, options: Options, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> JobHandle[Any]:
        self._refuse_when_closed()
        if self._by is None:
            self._by = self._opened.parts.caller(self._request).name
        return self._added.add(options, task, args, kwargs, by=self._by, trace=trace_of(self._request))

    def _refuse_when_closed(self) -> None:
        if self._is_closed:
            raise RuntimeError(
                "the jobs of this request are stored already, since its endpoint has returned: in a stream, a "
                "background task or a thread that goes on write `await trail.submit(…)`"
            )

    async def _launch(self) -> None:
        """After the answer. It never raises, since that would drop the host's own background tasks behind it."""
        self._added.launch()
        added = self._added.in_sessions
        try:
            found = await are_there(self._opened.services, [job.id for job, _ in added]) if added else set()
        except Exception as error:  # noqa: BLE001 - the claim loop will find them
            log.warning("could not check which jobs are committed; the claim loop starts them: %s", error)
            return
        for job, row in added:
            if job.id in found:
                if is_due(job):
                    self._opened.launch(job.id, job.task, job.queue)
            elif object_session(row) is not None and not self._opened.has_warned:
                self._opened.has_warned = True
                log.warning(_LATE)

    def _host_commit_failed(self, error: Exception) -> errors.UnavailableError | None:
        """The database was away when a session of the host's was to store its jobs. An OSError is the host's own."""
        states = [inspect(row) for _, row in self._added.in_sessions]
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
