"""Jobtrail in one object, for a FastAPI app or a script."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, ParamSpec, Self, TypeVar, Unpack
from uuid import UUID

from fastapi import APIRouter
from sqlalchemy.ext.asyncio import AsyncEngine

from jobtrail.callers import Scope
from jobtrail.embed.added import AddedJobs, Options, task_of
from jobtrail.embed.handle import JobHandle, ended
from jobtrail.embed.opened import APP, HOW_TO_START, Opened, Parts, Who, opening
from jobtrail.embed.router import Guard, host_routes
from jobtrail.errors import AlreadyRunningError, NotRunningError
from jobtrail.events.feed import Wanted
from jobtrail.events.readers import feed_events
from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.query import Cursor, Filter, Page, read, read_page
from jobtrail.jobs.retry import retry
from jobtrail.records import Job
from jobtrail.settings import Settings
from jobtrail.status import Status, moved_to
from jobtrail.task.job_events import Gap, JobEvent
from jobtrail.task.task import Task
from jobtrail.worker.attempts import Hook

P = ParamSpec("P")
R = TypeVar("R")

MOST_LISTED: Final = 1000


class Jobtrail:
    """Jobs for a FastAPI app, which runs them too while it lives; or, with `async with`, for a script, which runs none.

    `settings`: else those of the environment, read at start. `engine`: the host's own, whose pool and database are then
    used; else a pool of Jobtrail's own on JOBTRAIL_DATABASE_URL. `tasks`: what this process knows, besides those of
    JOBTRAIL_TASKS; else those of all modules that are imported when it starts. `who`: the caller of a request, for
    `created_by` and the history. `on_attempt_end`: called on the event loop after each attempt whose end was recorded
    here, with an AttemptEnd; what it raises is logged, and the job stands.

    Nothing is opened before it starts. A process runs one at a time.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        engine: AsyncEngine | None = None,
        tasks: Iterable[Task[..., Any]] | None = None,
        who: Who | None = None,
        on_attempt_end: Hook | None = None,
    ) -> None:
        known = tasks if tasks is None else tuple(map(task_of, tasks))
        self._parts = Parts(settings, engine, known, who, on_attempt_end)
        self._entered = 0
        self._entering = asyncio.Lock()
        self._opened: Opened | None = None
        self._closing = AsyncExitStack()
        self._loop: asyncio.AbstractEventLoop | None = None
        frame = sys._getframe(1)  # noqa: SLF001 - the documented way to the caller, whom an error names
        self.made_at: Final = f"{frame.f_code.co_filename}:{frame.f_lineno}"

    @asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncIterator[None]:
        """For `FastAPI(lifespan=trail.lifespan)`, or inside a lifespan of the host's own. Jobs run here meanwhile.

        At its end what runs gets JOBTRAIL_GRACE. It may be entered again while it is entered, as by several routers.
        Raises SettingsError, DeclarationError, UnavailableError, AlreadyRunningError.
        """
        await self._enter(runs=True)
        try:
            yield
        finally:
            await self._leave()

    async def __aenter__(self) -> Self:
        """For scripts: jobs can be submitted, looked at and waited for; they run wherever a node is."""
        await self._enter(runs=False)
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._leave()

    def router(self, *, read: Guard, submit: Guard = None, operate: Guard = None) -> APIRouter:
        """The REST API for this app, under any prefix; its lifespan is this Jobtrail's.

        Each group of calls has the guard that it is given, `Depends(…)` or several; "open" lets everybody in, and None
        leaves the calls out. `read`: to look at jobs, events, batches, nouns of operators, numbers. `submit`: new jobs
        and batches. `operate`: to cancel, retry or change jobs, and to set pauses, limits, schedules and webhooks.
        Tracebacks are shown where `who` gives a Caller that may operate, or where `read` and `operate` have the same
        guard.
        """
        router = APIRouter(lifespan=self.lifespan)
        asked: Mapping[Scope, Guard] = {"read": read, "submit": submit, "operate": operate}
        router.include_router(host_routes(self._parts, self._running, asked))
        return router

    async def submit(self, task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Store a job; committed when this returns. In an endpoint take `Jobs`, in a task `context.submit`.

        Raises TypeError, InvalidArgumentsError, UnavailableError: nothing is stored, unless it is an
        OutcomeUnknownError.
        """
        return await self.options().submit(task, *args, **kwargs)

    def options(self, **options: Unpack[Options]) -> "SubmitWithOptions":
        """The same with a queue, priority, run_at, ttl, timeout, tags, max_attempts, or idempotency_key of one's own.

        `after`: jobs that must succeed first; if one does not, this one is cancelled.
        With `session` the job is stored by the session, when that commits.
        """
        return SubmitWithOptions(self._running, options)

    async def get(self, job_id: UUID | str) -> Job:
        """Raises JobNotFoundError, UnavailableError."""
        return await read(self._running().services, UUID(str(job_id)))

    async def wait(self, job_id: UUID | str, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - as JobHandle.wait
        """The result of the job as JSON. Raises as `JobHandle.wait`."""
        return await ended(self._running().services, UUID(str(job_id)), timeout)

    async def events(
        self,
        *,
        task: str | Task[..., Any] | Sequence[str | Task[..., Any]] = (),
        queue: str | Sequence[str] = (),
        status: str | Sequence[str] = (),
        tags: str | Sequence[str] = (),
        since: str | None = None,
    ) -> AsyncIterator[JobEvent | Gap]:
        """Every transition of every job, in the order of commits, without an end: from when the first one is asked for,
        or after the event with the id `since`. Of filters the values are alternatives, except tags; `status` is the one
        that a job moves to.

        A Gap comes where the feed does not go on after `since`, as when that was longer ago than JOBTRAIL_FEED_TTL.
        Raises ValueError for what is no id or no status, UnavailableError.
        """
        named = (task,) if isinstance(task, str | Task) else task
        wanted = Wanted(
            frozenset(each.name if isinstance(each, Task) else each for each in named),
            frozenset(_several(queue)), frozenset(map(moved_to, _several(status))), frozenset(_several(tags)),
        )  # fmt: skip
        async for event in feed_events(self._running().services, wanted, since=since):
            yield event

    async def list(
        self,
        *,
        status: str | Sequence[str] = (),
        task: str | Task[..., Any] | Sequence[str | Task[..., Any]] = (),
        queue: str | Sequence[str] = (),
        tags: str | Sequence[str] = (),
        trace_id: str | Sequence[str] = (),
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int = 50,
        after: Job | None = None,
    ) -> Sequence[Job]:
        """Jobs, newest first, with args and result: `limit` of them, 1 to 1,000, or fewer where these are megabytes.
        `after`: the last one of the page before; the pages have ended when one is empty.

        Raises ValueError for a value out of its range, UnavailableError.
        """
        if not 1 <= limit <= MOST_LISTED:
            raise ValueError(f"limit={limit}: it is 1 to {MOST_LISTED}")
        for moment in (created_after, created_before):
            if moment is not None and moment.tzinfo is None:
                raise ValueError(f"{moment!r} has no time zone")
        named = (task,) if isinstance(task, str | Task) else task
        wanted = Filter(
            [Status(each) for each in _several(status)],
            [each.name if isinstance(each, Task) else each for each in named],
            _several(queue), _several(tags), _several(trace_id), created_after, created_before,
        )  # fmt: skip
        place = None if after is None else Cursor(after.created_at, after.id)
        return (await read_page(self._running().services, Page(limit, after=place, heavy=True, filter=wanted))).jobs

    async def cancel(self, job_id: UUID | str, *, reason: str | None = None) -> Job:
        """The job: cancelled, or running and asked to stop. `reason`: at most 1,000 characters.

        Raises InvalidInputError, JobNotFoundError, JobFinishedError, UnavailableError.
        """
        return await cancel(self._running().services, UUID(str(job_id)), by=APP.name, reason=reason)

    async def retry(self, job_id: UUID | str) -> Job:
        """The failed or cancelled job, pending again. Raises JobNotFoundError, JobConflictError, UnavailableError."""
        job = await retry(self._running().services, UUID(str(job_id)), by=APP.name)
        self._running().launch(job.id, job.task, job.queue)
        return job

    async def _enter(self, *, runs: bool) -> None:
        if self._loop not in (None, asyncio.get_running_loop()):
            raise AlreadyRunningError(f"the Jobtrail made at {self.made_at} is running in another event loop")
        async with self._entering:
            if self._opened is None:
                self._opened = await self._closing.enter_async_context(
                    opening(self._parts, made_at=self.made_at, runs=runs)
                )
                self._loop = asyncio.get_running_loop()
            elif runs and self._opened.node is None:
                raise AlreadyRunningError(
                    f"the Jobtrail made at {self.made_at} was opened with `async with`, which runs no jobs: enter its "
                    "lifespan alone"
                )
            self._entered += 1

    async def _leave(self) -> None:
        async with self._entering:
            self._entered -= 1
            if self._entered:
                return
            try:
                await self._closing.aclose()
            finally:
                self._opened = self._loop = None

    def _running(self) -> Opened:
        if self._opened is None:
            raise NotRunningError(f"the Jobtrail made at {self.made_at} is not running: {HOW_TO_START}")
        self._opened.require_loop()
        return self._opened


@dataclass(frozen=True, slots=True)
class SubmitWithOptions:
    """The result of `options`."""

    _running: Callable[[], Opened]
    _options: Options

    async def submit(self, task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """As `Jobtrail.submit`. Raises InvalidInputError too, for an option that is out of its range."""
        added = AddedJobs(self._running())
        handle: JobHandle[R] = added.add(self._options, task, args, kwargs, by=APP.name)
        await added.store()
        added.launch()
        return handle


def _several(words: str | Sequence[str]) -> Sequence[str]:
    return (words,) if isinstance(words, str) else words
