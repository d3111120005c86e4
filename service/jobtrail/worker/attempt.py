"""One attempt that this node holds, and what its task may ask of the node meanwhile."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Protocol
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.db.engine import Database
from jobtrail.errors import ContextError
from jobtrail.jobs.renew import AttemptRef
from jobtrail.jobs.session import JobSession, abandon, open_job_session
from jobtrail.records import Claimed
from jobtrail.task.context import JobContext, Progress
from jobtrail.task.task import Task
from jobtrail.worker.execution import Execution
from jobtrail.worker.executors import Assignment, Executor, LoopExecutor, ProcessExecutor, ThreadExecutor
from jobtrail.worker.processes.pool import Processes
from jobtrail.worker.reports import Report
from jobtrail.worker.threads import Threads

_ENDED: Final = "this attempt has ended: nothing that it does counts any more"


class Submit(Protocol):
    """Stores a job whose parent is the running one."""

    def __call__(self, parent: JobContext, task: Task[..., Any], args: dict[str, Any]) -> Awaitable[UUID]: ...


@dataclass(frozen=True, slots=True)
class RunnerDeps:
    """The dependencies that all attempts of a node share. `grace`: how long a task may go on after a cancel;
    `max_result` in bytes of JSON.
    """

    database: Database
    submit: Submit
    threads: Threads
    processes: Processes
    lease: timedelta
    grace: timedelta
    max_result: int


class Attempt:
    """It is what its task's context is tied to."""

    def __init__(self, claimed: Claimed, task: Task[..., Any], report: Report, equipment: RunnerDeps) -> None:
        self.claimed: Final = claimed
        self.task: Final = task
        self.words: Final = report
        self.finishing = False
        self._deps = equipment
        self._opening = asyncio.Lock()
        self._session: JobSession | None = None
        assignment = Assignment(claimed, task, JobContext.of(claimed, self), equipment.max_result)
        executor = _executor(assignment, equipment)
        self.execution: Final = Execution(assignment, executor, grace=equipment.grace.total_seconds())

    @property
    def held(self) -> AttemptRef:
        return AttemptRef(self.claimed.id, self.claimed.attempt)

    @property
    def cancelled(self) -> bool:
        return self.execution.told

    def report(self, progress: Progress) -> None:
        self.words.progress(progress)

    def submit(self, parent: JobContext, task: Task[..., Any], args: dict[str, Any]) -> Awaitable[UUID]:
        self._refuse_outside_of_the_loop("submit")
        if self.finishing:
            raise ContextError(_ENDED)
        return self._deps.submit(parent, task, args)

    def session(self) -> Awaitable[AsyncSession]:
        self._refuse_outside_of_the_loop("session")
        return self._open_session()

    def closed_session(self) -> JobSession | None:
        """The session that the task opened, if it did; it gets no other one from now on."""
        self.finishing = True
        return self._session

    async def _open_session(self) -> AsyncSession:
        async with self._opening:
            if self._session is None and not self.finishing:
                session = await open_job_session(self._deps.database, lease=self._deps.lease)
                if not self.finishing:
                    self._session = session
                else:  # the attempt ended while it waited for a connection
                    await abandon(session)
            if self._session is None or self.finishing:
                raise ContextError(_ENDED)
            return self._session

    def _refuse_outside_of_the_loop(self, name: str) -> None:
        if self.task.runs_in != "loop":
            raise ContextError(
                f"context.{name}() is awaited, which a def cannot do: make {self.task.name!r} an async def, and hand "
                "what blocks to asyncio.to_thread"
            )


def _executor(assignment: Assignment, equipment: RunnerDeps) -> Executor:
    match assignment.task.runs_in:
        case "loop":
            return LoopExecutor(assignment)
        case "thread":
            return ThreadExecutor(assignment, equipment.threads)
        case "process":
            return ProcessExecutor(assignment, equipment.processes)
