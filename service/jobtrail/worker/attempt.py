"""One attempt, from its claim to its recorded outcome: executed, decided, recorded.

No connection is held while the task runs, but the one of a job session that the task asked for.
"""

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, Protocol
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.db.engine import Database
from jobtrail.db.group_commit import recorded
from jobtrail.errors import CommitFailedError, ContextError, NotStorableError
from jobtrail.jobs import session as job_session
from jobtrail.jobs.finish import OutcomeRecord, Recorded, record_of
from jobtrail.jobs.renew import AttemptRef
from jobtrail.jobs.session import JobSession, abandon, open_job_session
from jobtrail.logs import bind
from jobtrail.records import AttemptEnd, Claimed, Failure
from jobtrail.status import Status
from jobtrail.task.context import TASK_LOGGER, JobContext, Progress
from jobtrail.task.outcome import (
    Again,
    Cancelled,
    Failed,
    Outcome,
    Performance,
    Released,
    Succeeded,
    exception_of,
    in_ascii,
    judge,
    raised,
)
from jobtrail.task.task import Task
from jobtrail.worker.execution import Execution
from jobtrail.worker.executors import Assignment, Executor, LoopExecutor, ProcessExecutor, ThreadExecutor
from jobtrail.worker.processes.pool import Processes
from jobtrail.worker.reports import Report, Reports
from jobtrail.worker.threads import Threads

log = logging.getLogger(__name__)
of_tasks = logging.getLogger(TASK_LOGGER)


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
    """The node's side of one attempt: its task's context asks it for progress, child jobs and a session."""

    def __init__(self, claimed: Claimed, task: Task[..., Any], report: Report, deps: RunnerDeps) -> None:
        self.claimed: Final = claimed
        self.task: Final = task
        self.words: Final = report
        self.finishing = False
        self._deps = deps
        self._opening = asyncio.Lock()
        self._session: JobSession | None = None
        assignment = Assignment(claimed, task, JobContext.of(claimed, self), deps.max_result)
        executor = _executor(assignment, deps)
        self.execution: Final = Execution(assignment, executor, grace=deps.grace.total_seconds())

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


def _executor(assignment: Assignment, deps: RunnerDeps) -> Executor:
    match assignment.task.runs_in:
        case "loop":
            return LoopExecutor(assignment)
        case "thread":
            return ThreadExecutor(assignment, deps.threads)
        case "process":
            return ProcessExecutor(assignment, deps.processes)


@dataclass(frozen=True, slots=True)
class Ran:
    """`seconds` that the task took."""

    claimed: Claimed
    outcome: Outcome
    recorded: Recorded
    seconds: float


class Run:
    """One attempt, executed, decided and recorded. `record` offers an outcome until the database says whose it was."""

    def __init__(
        self,
        attempt: Attempt,
        reports: Reports,
        database: Database,
        node_id: UUID,
        record: Callable[[OutcomeRecord], Awaitable[Recorded]],
    ) -> None:
        self._attempt = attempt
        self._claimed = attempt.claimed
        self._reports = reports
        self._database = database
        self._node_id = node_id
        self._record = record
        self._progress: str | None = None
        self._is_closed = False

    async def run(self) -> Ran:
        """Never raises for what the task did. A stale outcome is logged where it is found."""
        log.debug("started")
        began = time.monotonic()
        performance = await self._attempt.execution.perform()
        took = time.monotonic() - began
        landing, outcome = await recorded(self._finish(self._judge(performance)))
        return Ran(self._claimed, outcome, landing, took)

    async def abandon(self) -> None:
        """Undo what the task wrote through its job session."""
        if (session := self._attempt.closed_session()) is not None:
            await job_session.abandon(session)

    def _judge(self, performance: Performance) -> Outcome:
        delivered = self._attempt.execution.cancel_requested
        return judge(performance, self._claimed, self._attempt.task.retry, cancel_requested=delivered)

    async def _finish(self, outcome: Outcome) -> tuple[Recorded, Outcome]:
        """A success commits with its effects, in their transaction; any other outcome after they are undone."""
        if not isinstance(outcome, Succeeded):
            await self.abandon()
        elif (session := self._attempt.closed_session()) is not None:
            record = await self._with_progress(record_of(self._claimed, outcome))
            try:
                return await job_session.complete(self._database, session, record, node=self._node_id), outcome
            except CommitFailedError as error:
                outcome = self._judge(raised(error, self._claimed.attempt, self._attempt.task.retry))
        try:
            landing = await self._offer(outcome)
        except NotStorableError as error:
            outcome = in_ascii(outcome, error, self._claimed.attempt)
            landing = await self._offer(outcome)
        if landing is Recorded.CANCELLED and isinstance(outcome, Again):
            outcome = Cancelled(outcome.failure)
        return landing, outcome

    async def _offer(self, outcome: Outcome) -> Recorded:
        self._attempt.finishing = True
        return await self._record(await self._with_progress(record_of(self._claimed, outcome)))

    async def _with_progress(self, record: OutcomeRecord) -> OutcomeRecord:
        """With the last progress, if that is not written yet."""
        if not self._is_closed:
            self._is_closed = True
            self._progress = await self._reports.close(self._attempt.words)
        return record if self._progress is None else replace(record, progress=self._progress)


def tell(ran: Ran) -> None:
    """Log a recorded end. In a host the line may be shown without any field, so it says by itself what it is about.

    A failure goes with its exception to the logger of tasks, as ERROR when it is final and WARNING when another attempt
    follows: error trackers that listen to logging have it from there.
    """
    claimed, outcome = ran.claimed, ran.outcome
    of = claimed.task, claimed.attempt, claimed.id
    facts: dict[str, object] = {"seconds": round(ran.seconds, 3)}
    match outcome:
        case Succeeded():
            log.info("%s: attempt %d of job %s succeeded", *of, extra=facts)
        case Released():
            log.info("%s: attempt %d of job %s released", *of, extra=facts)
        case Cancelled(failure):
            told = failure.type, failure.message
            log.warning("%s: attempt %d of job %s was cancelled: %s: %s", *of, *told, extra=facts)
        case Failed(failure):
            _tell_failure(logging.ERROR, "%s: attempt %d of job %s failed: %s: %s", of, failure, facts)
        case Again(failure):
            _tell_failure(logging.WARNING, _ANOTHER, of, failure, facts)


def _tell_failure(
    level: int, words: str, of: tuple[object, ...], failure: Failure, facts: Mapping[str, object]
) -> None:
    """An exception is shown by its own `__str__`, which may do anything, SystemExit included."""
    told = failure.type, failure.message
    try:
        of_tasks.log(level, words, *of, *told, extra=facts, exc_info=exception_of(failure))
    except BaseException:  # noqa: BLE001 - nothing is awaited here: it is the exception's own doing, or a handler's
        of_tasks.log(level, words, *of, *told, extra=facts)


_ANOTHER: Final = "%s: attempt %d of job %s failed, another one follows: %s: %s"


def end_of(ran: Ran) -> AttemptEnd:
    claimed, outcome = ran.claimed, ran.outcome
    failure = None if isinstance(outcome, Succeeded | Released) else outcome.failure
    return AttemptEnd(
        job_id=claimed.id,
        task=claimed.task,
        attempt=claimed.attempt,
        trace_id=claimed.trace_id,
        status=Status.CANCELLED if ran.recorded is Recorded.CANCELLED else _STATUSES[type(outcome)],
        error=None if failure is None else failure.as_json(),
        exception=None if failure is None else exception_of(failure),
        seconds=ran.seconds,
    )


_STATUSES: Final[Mapping[type[Outcome], Status]] = {
    Succeeded: Status.SUCCEEDED,
    Failed: Status.FAILED,
    Cancelled: Status.CANCELLED,
    Again: Status.PENDING,
    Released: Status.PENDING,
}


Hook = Callable[[AttemptEnd], Awaitable[object] | object]
"""A `def` is called on the event loop; what it returns is awaited if it can be."""


async def call(hook: Hook, end: AttemptEnd) -> None:
    """Whatever it raises is logged: the end of the attempt stands."""
    with bind(job_id=str(end.job_id), task=end.task, attempt=end.attempt, trace_id=end.trace_id):
        try:
            result = hook(end)
            if inspect.isawaitable(result):
                await result
        except (Exception, SystemExit):
            log.exception("on_attempt_end raised after attempt %d of job %s", end.attempt, end.job_id)
