"""The node's side of a job's context: its progress, its log lines, its child jobs, its session and its checkpoints."""

import asyncio
import concurrent.futures
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final, Protocol
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.db.engine import Database
from jobtrail.errors import ContextError
from jobtrail.ids import Trace
from jobtrail.jobs import job_session
from jobtrail.jobs.charge import charge
from jobtrail.jobs.checkpoint import CheckpointRecorder
from jobtrail.jobs.fence import AttemptRef
from jobtrail.jobs.finish import OutcomeRecorder
from jobtrail.jobs.job_session import JobSession, open_job_session
from jobtrail.task.context import Done, JobContext, Progress
from jobtrail.task.limit import Rate
from jobtrail.task.task import Task
from jobtrail.tracing import AttemptSpans
from jobtrail.worker.processes.pool import Processes
from jobtrail.worker.reports import Report, Reports
from jobtrail.worker.threads import Threads

_OPENING: Final = threading.RLock()
"""Reentrant: a garbage collection may log from within."""

OVER: Final = "this attempt has ended: nothing that it does counts any more"


class Submit(Protocol):
    """Stores a job whose parent is the running one, in its trace."""

    def __call__(
        self, parent: JobContext, task: Task[..., Any], args: dict[str, Any], trace: Trace
    ) -> Awaitable[UUID]: ...


@dataclass(frozen=True, slots=True)
class RunnerDeps:
    """The dependencies that all attempts of a node share. `grace`, in seconds: how long a task may go on that was told
    to end; `max_result` in bytes of JSON; `context` is of no job. `is_draining`: the node shuts down.
    """

    node_id: UUID
    database: Database
    recorder: OutcomeRecorder
    checkpoints: CheckpointRecorder
    reports: Reports
    spans: AttemptSpans
    submit: Submit
    threads: Threads
    processes: Processes
    lease: timedelta
    grace: float
    max_result: int
    context: Context
    is_draining: Callable[[], bool]


class Runtime(ABC):
    """What the context of a running job asks. What it needs is made when it is first asked for: most jobs ask nothing.

    `cancelled`: the task was told to end. `finishing`: nothing that it says or does counts any more. `resumes`: it made
    a checkpoint, so that the next attempt may go on there.
    """

    def __init__(self, task: Task[..., Any], ref: AttemptRef, deps: RunnerDeps) -> None:
        self.task = task
        self.ref: Final = ref
        self.cancelled = False
        self.finishing = False
        self.resumes = False
        self._loop: Final = asyncio.get_running_loop()
        self._deps = deps
        self._report: Report | None = None
        self._opening: asyncio.Lock | None = None
        self._session: JobSession | None = None
        self._cursor = ""
        self._charged: Decimal | None = None

    @property
    @abstractmethod
    def trace(self) -> Trace:
        """That of the job."""

    @abstractmethod
    def interrupt(self) -> None:
        """Tell the task to end because the node ends."""

    @abstractmethod
    def lose(self) -> None:
        """Tell the task to end because the attempt is no longer this node's."""

    def report(self, progress: Progress) -> None:
        if (report := self._opened_report()) is not None:
            report.progress(progress)

    def _keep_line(self, record: logging.LogRecord) -> None:
        if not self.finishing and (report := self._opened_report()) is not None:
            report.line(record)

    def _opened_report(self) -> Report | None:
        """Callable from any thread; None where the attempt is over and none was opened."""
        with _OPENING:
            if self._report is None and not self.finishing:
                self._report = self._deps.reports.open(self.ref)
        return self._report

    def submit(self, parent: JobContext, task: Task[..., Any], args: dict[str, Any]) -> Awaitable[UUID]:
        self._refuse_outside_of_the_loop("submit")
        if self.finishing:
            raise ContextError(OVER)
        return self._deps.submit(parent, task, args, self.trace)

    def session(self) -> Awaitable[AsyncSession]:
        self._refuse_outside_of_the_loop("session")
        return self._open_session()

    def charge(self, cost: float) -> Awaitable[None]:
        self._refuse_outside_of_the_loop("charge")
        if not any(isinstance(each, Rate) and each.is_estimate for each in self.task.limits):
            raise ContextError(
                f"context.charge(): {self.task.name!r} has no Rate whose cost is an argument, such as "
                'Rate("api", 100, cost="{tokens}")'
            )
        return self._charge(Decimal(str(cost)))

    async def _charge(self, cost: Decimal) -> None:
        deps, before = self._deps, self._charged
        if self.finishing or not await charge(deps.database, self.ref, cost, before=before, node=deps.node_id):
            raise ContextError(OVER)
        self._charged = cost

    async def _open_session(self) -> AsyncSession:
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            if self._session is None and not self.finishing:
                session = await open_job_session(self._deps.database, lease=self._deps.lease)
                if not self.finishing:
                    self._session = session
                else:  # the attempt ended while it waited for a connection
                    await job_session.abandon(session)
            if self._session is None or self.finishing:
                raise ContextError(OVER)
            return self._session

    def _refuse_outside_of_the_loop(self, name: str) -> None:
        if self.task.runs_in != "loop":
            raise ContextError(
                f"context.{name}() is awaited, which a def cannot do: make {self.task.name!r} an async def, and hand "
                "what blocks to asyncio.to_thread"
            )

    def checkpoint(self, value: str) -> Awaitable[None]:
        if self.finishing:
            raise ContextError(OVER)
        if self._session is not None:
            raise ContextError(
                "context.checkpoint() while the job session is open: what was written in it is undone when the attempt "
                "ends here, but the next one would go on behind it; make the last checkpoint before context.session()"
            )
        storing = self._store(value)
        try:
            here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        return storing if here is self._loop else self._wait_for(storing)

    async def _store(self, value: str) -> None:
        """Returns when it is stored. Ends with CancelledError when the task is to end here, since it need not go on."""
        self._cursor = value
        is_ours = await self._deps.checkpoints.store(self.ref, lambda: self._cursor)
        was_told = self.cancelled
        if not is_ours:
            self.lose()
        else:
            self.resumes = True
            if self._deps.is_draining():
                self.interrupt()
        # a thread hears of it in no other way; a coroutine and a process are told once
        if self.cancelled and (not was_told or self.task.runs_in == "thread"):
            await asyncio.sleep(0)  # in the job's own asyncio task the cancel comes here
            raise asyncio.CancelledError("the job was told to end")
        if not is_ours:
            raise ContextError(OVER)

    def _wait_for(self, storing: Coroutine[Any, Any, None]) -> Awaitable[None]:
        """In a thread."""
        try:
            asyncio.run_coroutine_threadsafe(storing, self._loop).result()
        except concurrent.futures.CancelledError:
            raise asyncio.CancelledError("the job was told to end") from None
        except RuntimeError:  # the loop is closed: the process ends
            storing.close()
            raise asyncio.CancelledError("the process ends") from None
        return Done()
