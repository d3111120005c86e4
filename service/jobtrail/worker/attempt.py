"""One attempt on a node, from its claim to its recorded outcome: executed, decided, recorded.

Its one asyncio task is the job's own. What follows its end is done in callbacks: the outcome is decided, the slot is
free, and the outcome goes to the row together with others. Only what has to wait is a task of its own: the commit of a
job session, the last lines of the job's log, an outcome that the database refuses. No connection is held while the task
runs, but the one of a job session that it asked for.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextvars import Context
from dataclasses import replace
from typing import Any, Final, Protocol

from jobtrail import logs
from jobtrail.errors import CommitFailedError, LeftBehindError, NotStorableError
from jobtrail.ids import Trace, running_trace
from jobtrail.jobs import job_session
from jobtrail.jobs.fence import AttemptRef
from jobtrail.jobs.finish import OutcomeRecord, Recorded, record_of, released
from jobtrail.records import Claimed
from jobtrail.task.context import JobContext
from jobtrail.task.outcome import (
    Cancelled,
    Ended,
    Failed,
    Interrupted,
    NotBegun,
    Outcome,
    Performance,
    Raised,
    Retried,
    Returned,
    Succeeded,
    TimedOut,
    in_ascii,
    judge,
    raised,
    returned,
)
from jobtrail.task.task import Task
from jobtrail.tracing import AttemptSpan
from jobtrail.worker.executors import Executor, LoopExecutor, ProcessExecutor, ThreadExecutor
from jobtrail.worker.runtime import RunnerDeps, Runtime

log = logging.getLogger(__name__)

JOB: Final = "job-"
"""The name of an asyncio task that runs a job begins with it; the job's id follows."""

_UNRECORDED: Final = "job %s: the outcome of attempt %d could not be recorded; its lease is no longer renewed"
_ABANDONED: Final = "it keeps running, but its outcome is ignored; its slot stays taken until it ends"


class Owner(Protocol):
    """The node of an attempt."""

    def keep(self, coroutine: Coroutine[Any, Any, None], context: Context) -> None:
        """Run it as a part of what the node waits for when it stops."""

    def abandoned(self, attempt: "Attempt") -> None:
        """Hear of a task that goes on."""

    def freed(self, attempt: "Attempt") -> None:
        """Hear that nothing of the task runs any more."""

    def recorded(self, attempt: "Attempt", found: Recorded, outcome: Outcome) -> None:
        """Hear that the outcome is in the row, or that it is stale."""

    def gone(self, attempt: "Attempt", *, is_recorded: bool) -> None:
        """Forget it."""


class Attempt(Runtime):
    """One attempt. `record`: the outcome that was offered, once there is one. `seconds` that the task took."""

    def __init__(self, claimed: Claimed, task: Task[..., Any], deps: RunnerDeps, owner: Owner) -> None:
        super().__init__(task, AttemptRef(claimed.id, claimed.attempt), deps)
        self.claimed = claimed
        self.max_result = deps.max_result
        self.is_abandoned = False
        self.record: OutcomeRecord | None = None
        self.seconds = 0.0
        self.span: AttemptSpan | None = None
        self._owner = owner
        self._executor: Executor = self._executor_of(task.runs_in)
        self._context = deps.context.copy()
        self._running: asyncio.Task[Ended] | None = None
        self._began: float | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._is_late = False
        self._was_killed = False
        self._cancel_requested = False

    def _executor_of(self, runs_in: str) -> Executor:
        match runs_in:
            case "loop":
                return LoopExecutor(self)
            case "thread":
                return ThreadExecutor(self, self._deps.threads)
            case _:
                return ProcessExecutor(self, self._deps.processes)

    # Executed.

    def start(self) -> None:
        """Run the task, in a context that has the ids of the job for every line that is logged there."""
        self._context.run(self._bind)
        running = self._running = self._loop.create_task(
            self._executor.run(), name=f"{JOB}{self.claimed.id}", context=self._context
        )
        # A loop that is closed would cancel it, and wait for ever for one that swallows that; see `Attempts.guard`.
        asyncio._unregister_task(running)  # noqa: SLF001 - documented (Python, "Extending asyncio")
        running.add_done_callback(self._ended, context=self._context)

    def _bind(self) -> None:
        claimed = self.claimed
        ids = {
            "trace_id": claimed.trace_id,
            "job_id": str(claimed.id),
            "task": claimed.task,
            "attempt": claimed.attempt,
        }
        logs.set_fields(ids)
        running_trace.set(self.trace)
        logs.keep_with(self._keep_line)

    def begin(self) -> None:
        self._began = time.monotonic()
        self.span = self._deps.spans.begin(self.claimed)
        if (limit := self.claimed.timeout) is not None:
            self._alarm = self._loop.call_later(limit.total_seconds(), self._time_out)

    def call(self) -> Callable[[], Any]:
        signature = self.task.signature
        arguments = signature.bind(self.claimed.args)
        first = (JobContext.of(self.claimed, self),) if signature.takes_context else ()
        return lambda: self.task.function(*first, **arguments)

    @property
    def trace(self) -> Trace:
        return Trace(self.claimed.trace_id, self.claimed.trace_parent)

    def returned(self, value: object) -> Ended:
        return returned(value, self.claimed.attempt, self.max_result)

    def raised(self, error: BaseException) -> Raised:
        return raised(error, self.claimed.attempt, self.task.retry)

    def cancel(self) -> None:
        """Tell the task to end because somebody asked for it. What has not begun never will."""
        if self._running is not None and (self._is_late or not self.cancelled):
            self._cancel_requested = True
            self._tell_to_end()

    def interrupt(self) -> None:
        self._tell_to_end()

    def lose(self) -> None:
        if not self.finishing:
            self.finishing = True
            self._tell_to_end()
            words = "job %s: attempt %d is no longer this node's; it is stopped, and its outcome is ignored"
            log.warning(words, *self.ref)

    def _time_out(self) -> None:
        self._is_late = True
        self._tell_to_end()

    def _tell_to_end(self) -> None:
        if self.cancelled or self._running is None or self._running.done():
            return
        self.cancelled = True
        if self._began is None:
            self._running.cancel()
        else:
            self._executor.cancel(self._running)
        # a cancel waits even for a task that cannot hear: it may be about to succeed
        patience = self._deps.grace if self._executor.hears or self._cancel_requested else 0
        self._wake_after(patience, self._abandon)

    def _wake_after(self, seconds: float, step: Callable[[], None]) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_later(seconds, step, context=self._context)

    def _abandon(self) -> None:
        """Its grace is over: end it where that is possible, else decide without it."""
        if self._running is None or self._running.done():
            return
        if self._executor.kill():
            self._was_killed = True
        else:
            self.is_abandoned = True
            # asyncio would say so at the end of the process
            vars_of: Any = self._running
            vars_of._log_destroy_pending = False  # noqa: SLF001 - as asyncio's own gather does
            self._owner.abandoned(self)
            error = LeftBehindError(f"{self.claimed.task} did not end when told to: {_ABANDONED}")
            self._decide(self._performance(self.raised(error)))
            log.warning("%s", error)  # last: a host's own filters and handlers may raise

    def _ended(self, running: "asyncio.Task[Ended]") -> None:
        self._running = None  # it would keep the task's exception, and with that all that the task held
        if self._alarm is not None:
            self._alarm.cancel()
        try:
            if not self.is_abandoned:
                self._decide(self._performance(self._end_of(running)))
        finally:
            self._owner.freed(self)
        if self._was_killed:
            log.warning("%s did not end when told to: its process was killed", self.claimed.task)

    # Decided.

    def _end_of(self, running: "asyncio.Task[Ended]") -> Ended | NotBegun:
        if running.cancelled():
            if self._began is None and not self._cancel_requested:
                return NotBegun()
            return self.raised(asyncio.CancelledError("cancelled before it began"))
        error = running.exception()
        ended = running.result() if error is None else self.raised(error)
        if self._was_killed and not isinstance(ended, Returned):
            return self.raised(LeftBehindError(f"{self.claimed.task} did not end when told to: its process was killed"))
        return ended

    def _performance(self, ended: Ended | NotBegun) -> Performance:
        """A normal return counts, whatever the task was told meanwhile."""
        if isinstance(ended, Returned | NotBegun) or self._cancel_requested or not self.cancelled:
            return ended
        limit = self.claimed.timeout
        if self._is_late and limit is not None:
            return TimedOut(limit.total_seconds(), ended)
        return Interrupted(ended, self.resumes)

    def _judge(self, performance: Performance) -> Outcome:
        try:
            return judge(performance, self.claimed, self.task.retry, cancel_requested=self._cancel_requested)
        except BaseException as error:  # noqa: BLE001 - a Retry of the user's own may do anything: its job has failed
            return Failed(raised(error, self.claimed.attempt, None).failure)

    def _decide(self, performance: Performance) -> None:
        self.finishing = True
        self.seconds = 0.0 if self._began is None else time.monotonic() - self._began
        try:
            outcome = self._judge(performance)
            if self._report is not None:
                self._report.close()
            if self._session is None and (self._report is None or not self._report.waiting):
                self._offer(outcome)
            else:
                self._owner.keep(self._record_alone(outcome), self._context)
        except Exception:
            self._owner.gone(self, is_recorded=False)
            log.exception(_UNRECORDED, *self.ref)

    # Recorded.

    def _offer(self, outcome: Outcome) -> None:
        """Together with those of others; what the group could not record goes alone."""

        def answered(answer: "asyncio.Future[Recorded]") -> None:
            failure = None if answer.cancelled() else answer.exception()
            if answer.cancelled() or failure is not None or (found := answer.result()) is Recorded.UNKNOWN:
                self._owner.keep(self._record_alone(outcome), self._context)
                log.debug("the outcome goes alone now", exc_info=failure)
            else:
                self._tell(found, outcome)

        self.record = self._record_of(outcome)
        self._deps.recorder.offer(self.record).add_done_callback(answered, context=self._context)

    async def _record_alone(self, outcome: Outcome) -> None:
        """With all that takes time: the last lines, the job session, and what the database refuses."""
        try:
            if self._report is not None:
                await self._deps.reports.close(self._report)
            await self._record(outcome)
        except asyncio.CancelledError:  # the loop is being closed, and this goes on while it waits for us
            self._owner.keep(self.record_as_lost(), self._context)
            raise
        except Exception:
            self._owner.gone(self, is_recorded=False)
            log.exception(_UNRECORDED, *self.ref)

    async def _record(self, outcome: Outcome) -> None:
        """A success commits with its effects, in their transaction; any other outcome after they are undone."""
        deps, session = self._deps, self._session
        if session is not None and isinstance(outcome, Succeeded):
            try:
                record = self._record_of(outcome)
                self._tell(await job_session.complete(deps.database, session, record, node=deps.node_id), outcome)
            except CommitFailedError as error:
                outcome = self._judge(self.raised(error))
            else:
                return
        elif session is not None:
            await job_session.abandon(session)
        self.record = self._record_of(outcome)
        try:
            found = await deps.recorder.finish(self.record)
        except NotStorableError as error:
            outcome = in_ascii(outcome, error, self.ref.attempt)
            self.record = self._record_of(outcome)
            found = await deps.recorder.finish(self.record)
        self._tell(found, outcome)

    async def record_as_lost(self) -> None:
        """Where its own outcome was cut off: what was offered so far, or that the attempt is lost."""
        if self._session is not None:
            await job_session.abandon(self._session)
        await self._deps.recorder.finish_alone(self.record or self.lost())
        self._owner.gone(self, is_recorded=True)

    def lost(self) -> OutcomeRecord:
        """The outcome of an attempt whose own is never known."""
        if self._began is None:
            return released(self.ref)
        ended = raised(asyncio.CancelledError("the process ended"), self.ref.attempt, None)
        return record_of(
            self.claimed, judge(Interrupted(ended, self.resumes), self.claimed, None, cancel_requested=False)
        )

    def _record_of(self, outcome: Outcome) -> OutcomeRecord:
        """With the last progress, if that is not written yet."""
        record = record_of(self.claimed, outcome)
        news = None if self._report is None else self._report.news()
        return record if news is None else replace(record, progress=news[1].progress)

    def _tell(self, found: Recorded, outcome: Outcome) -> None:
        if self._report is not None:
            self._deps.reports.forget(self._report)
        if found is Recorded.CANCELLED and isinstance(outcome, Retried):
            outcome = Cancelled(outcome.failure)
        if self.span is not None:
            self.span.end(self.seconds, None if found is Recorded.STALE else outcome)
        self._owner.recorded(self, found, outcome)
