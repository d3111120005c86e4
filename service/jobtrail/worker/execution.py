"""Carrying out one attempt: to its end, or until its time, a cancel or the node's end stops it."""

import asyncio
import logging
from asyncio import FIRST_COMPLETED
from collections.abc import Callable
from typing import Final

from jobtrail.errors import LeftBehindError
from jobtrail.task.outcome import Ended, Interrupted, NotBegun, Performance, Raised, Returned, TimedOut
from jobtrail.worker.executors import Assignment, Executor

log = logging.getLogger(__name__)

JOB: Final = "job-"
"""The name of an asyncio task that runs a job begins with it; the job's id follows."""

_LEFT: Final = "it is left behind; its end will not count, and until then its slot stays taken"


class Execution:
    """One attempt that can be told to end while it runs. `grace`: seconds that it then has to do so."""

    def __init__(self, assignment: Assignment, executor: Executor, *, grace: float) -> None:
        self._assignment = assignment
        self._executor = executor
        self._grace = grace
        self._stop = asyncio.Event()
        self._performing: asyncio.Task[Ended] | None = None
        self._has_begun = False
        self.told = False
        self.cancel_requested = False
        self.left_behind = False

    def cancel(self) -> None:
        """Tell the task to end because somebody asked for it. What has not begun never will."""
        if not self._stop.is_set():
            self.cancel_requested = True
            self._stop.set()

    def interrupt(self) -> None:
        """Tell the task to end because the node ends, or because the attempt is no longer ours."""
        self._stop.set()

    def when_free(self, step: Callable[[], None]) -> None:
        """Call `step` once the slot is free: at once, or when a task that was left behind has ended after all."""
        if self._performing is None or self._performing.done():
            step()
        else:
            self._performing.add_done_callback(lambda _: step())

    async def perform(self) -> Performance:
        """Never raises for what the task did, not for SystemExit either; only its own cancellation goes through."""
        try:
            if not await self._executor.prepare(self._stop):
                return self._not_begun()
        except Exception as error:  # noqa: BLE001 - an executor that fails is the attempt's failure
            return self._assignment.raised(error)
        # A task of its own: a cancel hits the job, not the bookkeeping around it.
        name = f"{JOB}{self._assignment.claimed.id}"
        self._has_begun = True
        performing = self._performing = asyncio.create_task(self._executor.run(), name=name)
        # a loop that is closed would cancel it, and wait for ever for one that swallows that: see `cut_off`
        asyncio._unregister_task(performing)  # noqa: SLF001 - documented (Python, "asyncio: Extending")
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({performing, stopping}, timeout=self._seconds, return_when=FIRST_COMPLETED)
        finally:
            stopping.cancel()
        ended = self._ended(performing) if performing.done() else await self._end(performing)
        if performing.done():
            self._performing = None  # it would keep the task's exception, and with that all that the task held
        return ended

    async def cut_off(self) -> bool:
        """The loop is being closed, which ended `perform`: tell the task to end, give it its grace, and leave it.

        False: it had not begun.
        """
        if self._performing is not None and not self._performing.done():
            await self._end(self._performing)
        return self._has_begun

    def _not_begun(self) -> Performance:
        if not self.cancel_requested:
            return NotBegun()
        return self._assignment.raised(asyncio.CancelledError("cancelled before it began"))

    async def _end(self, performing: "asyncio.Task[Ended]") -> Performance:
        """The task was still at work: tell it to end, and hear what it makes of that. A normal return counts."""
        timed_out = not self._stop.is_set()
        self.told = True
        self._executor.cancel(performing)
        # a cancel waits even for a task that cannot hear: it may be about to succeed
        if self._executor.hears or self.cancel_requested:
            await asyncio.wait({performing}, timeout=self._grace)
        ended = self._ended(performing) if performing.done() else await self._leave(performing)
        if isinstance(ended, Returned) or self.cancel_requested:
            return ended
        return TimedOut(self._seconds or 0.0, ended) if timed_out else Interrupted(ended)

    async def _leave(self, performing: "asyncio.Task[Ended]") -> Raised:
        await self._executor.kill(performing)
        self.left_behind = not performing.done()
        what = _LEFT if self.left_behind else "its process was killed"
        error = LeftBehindError(f"{self._assignment.claimed.task} did not end when told to: {what}")
        log.warning("%s", error)
        return self._assignment.raised(error)

    @property
    def _seconds(self) -> float | None:
        limit = self._assignment.claimed.timeout
        return None if limit is None else limit.total_seconds()

    def _ended(self, performing: "asyncio.Task[Ended]") -> Ended:
        """A task that was cancelled before its first step never got to say anything itself."""
        if performing.cancelled():
            return self._assignment.raised(asyncio.CancelledError("cancelled before it began"))
        error = performing.exception()
        return performing.result() if error is None else self._assignment.raised(error)
