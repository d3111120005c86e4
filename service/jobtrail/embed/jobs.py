"""`Jobs`, for an endpoint: jobs are added as BackgroundTasks are, and stored before the answer leaves.

The dependency has the scope `function`: it ends after the endpoint and before the answer (FastAPI, "Dependencies with
yield and scope"), so that a job that cannot be stored is an answer 503 and not a surprise.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final, ParamSpec, Self, TypeVar, Unpack

from fastapi import BackgroundTasks, Depends, HTTPException
from sqlalchemy import inspect
from sqlalchemy.orm import object_session
from starlette.requests import Request

from jobtrail.api.headers import trace_of
from jobtrail.db.errors import FAILURES, unavailability
from jobtrail.embed.handle import JobHandle
from jobtrail.embed.opened import Opened, current
from jobtrail.embed.submit import JobBatch, Options
from jobtrail.errors import IdempotencyKeyReusedError, OverloadedError, UnavailableError
from jobtrail.jobs.query import are_there
from jobtrail.task.task import Task

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


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

        Raises TypeError for what is no task, InvalidArgumentsError for arguments that do not fit it.
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
    async def stored_at_the_end(self, background: BackgroundTasks) -> AsyncIterator[Self]:
        """Around the endpoint. What keeps the jobs from being stored is raised in the host's own form of an error."""
        background.add_task(self._launch)
        try:
            yield self
            await self.commit()
            # FastAPI forgets the background tasks of dependencies where the response has one of its own
            asyncio.get_running_loop().call_later(_AT_THE_LATEST, self._batch.launch)
        except IdempotencyKeyReusedError as error:
            raise HTTPException(422, str(error)) from error
        except (UnavailableError, *FAILURES) as error:
            away = error if isinstance(error, UnavailableError) else self._host_commit_failed(error)
            if away is None:
                raise
            log.warning("jobs of %s %s: %s", self._request.method, self._request.url.path, away)
            status = 429 if isinstance(away, OverloadedError) else 503
            raise HTTPException(status, str(away), {"Retry-After": str(away.retry_after)}) from error
        finally:
            self._is_closed = True

    def _add(self, options: Options, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> JobHandle[Any]:
        self._refuse_when_closed()
        if self._by is None:
            self._by = self._opened.who(self._request).name
        return self._batch.add(options, task, args, kwargs, by=self._by, trace_id=trace_of(self._request))

    def _refuse_when_closed(self) -> None:
        if self._is_closed:
            raise RuntimeError(
                "the jobs of this request are stored already, since its endpoint has returned: in a stream, a "
                "background task or a thread that goes on write `await trail.submit(…)`"
            )

    async def _launch(self) -> None:
        """After the answer. It never raises, since that would drop the host's own background tasks behind it.

        A job of a session that is still open and has not committed was promised too early.
        """
        self._batch.launch()
        if not (added := self._batch.in_sessions):
            return
        try:
            found = await are_there(self._opened.services, [each.job.id for each in added])
        except Exception as error:  # noqa: BLE001 - the claim loop will find them
            log.warning("launch: %s", error)
            return
        if any(each.job.id not in found and object_session(each.row) is not None for each in added):
            self._opened.warn_once(_LATE)
        for each in added:
            if each.job.id in found:
                self._opened.launch(each.job.id, each.job.task, each.job.queue)

    def _host_commit_failed(self, error: Exception) -> UnavailableError | None:
        """The database was away when a session of the host's was to store its jobs. An OSError is the host's own."""
        states = [inspect(each.row) for each in self._batch.in_sessions]
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
    async with RequestJobs(current(), request).stored_at_the_end(background) as jobs:
        yield jobs


Jobs = Annotated[RequestJobs, Depends(_jobs, scope="function")]
"""For the signature of an endpoint, `async def` or `def`: `jobs: Jobs`."""

_AT_THE_LATEST: Final = 0.1
"""Seconds after which jobs are launched whose answer is still on its way."""

_LATE: Final = (
    "the session given to jobs.options(session=…) was not committed when the answer left: who was answered was told of "
    "a job that is not stored, and may never be; commit in the endpoint, or give the dependency that makes the session "
    'scope="function": Depends(get_session, scope="function")'
)
