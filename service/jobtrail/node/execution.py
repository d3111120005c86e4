"""Carrying out one attempt, on the loop or in a thread. Whatever the task does comes back as a Performance."""

import asyncio
import inspect
import logging
from asyncio import FIRST_COMPLETED
from collections.abc import Callable
from typing import Any, Final

from jobtrail.job.context import JobContext
from jobtrail.job.errors import InvalidArgumentsError
from jobtrail.job.outcome import Interrupted, Performance, Raised, Returned, TimedOut
from jobtrail.job.record import Claimed
from jobtrail.job.task import Task
from jobtrail.node.threads import Threads

log = logging.getLogger(__name__)

_CANCEL_GRACE: Final = 5.0
"""Seconds that a task on the loop has to end after it was cancelled by a timeout or the node's end."""


class Execution:
    """One attempt that can be cancelled from outside while it runs."""

    def __init__(self, claimed: Claimed, task: Task[..., Any], context: JobContext, threads: Threads) -> None:
        self._claimed = claimed
        self._task = task
        self._context = context
        self._threads = threads
        self._performing: asyncio.Task[Performance] | None = None
        self._ending = asyncio.Event()
        self._in_thread = False
        self._when_free: Callable[[], None] | None = None
        self.cancel_delivered = False

    def cancel(self) -> None:
        """Ask the task to end. A thread cannot be asked: its job may still succeed."""
        if self._performing is not None and self._task.runs_in == "loop" and not self.cancel_delivered:
            self.cancel_delivered = True
            self._performing.cancel()

    def interrupt(self) -> None:
        """The node is ending. A thread is left behind: the fence makes its late end harmless."""
        self._ending.set()

    def when_free(self, step: Callable[[], None]) -> bool:
        """Call `step` once the place that the task takes is free: at once, or when a thread left behind comes back.

        True if it was free already.
        """
        if self._in_thread:
            self._when_free = step
            return False
        step()
        return True

    async def perform(self) -> Performance:
        """Never raises for what the task did, not for SystemExit either; only its own cancellation goes through."""
        try:
            call = self._bind()
        except InvalidArgumentsError as error:
            return Raised(error)
        # A task of its own: a cancel hits the job, not the bookkeeping around it.
        self._performing = asyncio.create_task(_contained(call), name=f"job-{self._claimed.id}")
        ending = asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait({self._performing, ending}, timeout=self._seconds, return_when=FIRST_COMPLETED)
        finally:
            ending.cancel()
        if self._performing.done():
            return _performance_of(self._performing)
        return await self._stop(self._performing)

    async def _stop(self, performing: asyncio.Task[Performance]) -> Performance:
        """The task was still at work: end it, and hear what it makes of that. A normal return counts."""
        performing.cancel()
        if self._task.runs_in == "loop":
            await asyncio.wait({performing}, timeout=_CANCEL_GRACE)
        if performing.done():
            performance = _performance_of(performing)
        else:
            log.warning("the task does not end when told to; it is left behind, and its end will not count")
            performance = Raised(TimeoutError("the task did not end when told to and was left behind"))
        if not isinstance(performance, Raised):
            return performance
        if self._ending.is_set():
            return Interrupted(performance.error)
        return TimedOut(self._seconds or 0.0, performance.error)

    @property
    def _seconds(self) -> float | None:
        limit = self._claimed.timeout
        return None if limit is None else limit.total_seconds()

    def _bind(self) -> Callable[[], Any]:
        arguments = self._task.signature.bind(self._claimed.args)
        function, takes_context = self._task.function, self._task.signature.takes_context
        first = (self._context,) if takes_context else ()
        if self._task.runs_in == "loop":
            return lambda: function(*first, **arguments)

        def call() -> Any:
            self._in_thread = True
            return self._threads.run(lambda: function(*first, **arguments), self._thread_ended)

        return call

    def _thread_ended(self) -> None:
        self._in_thread = False
        if self._when_free is not None:
            self._when_free()


def _performance_of(performing: asyncio.Task[Performance]) -> Performance:
    """A task that was cancelled before its first step never got to say anything itself."""
    if performing.cancelled():
        return Raised(asyncio.CancelledError("cancelled before it began"))
    return performing.result()


async def _contained(call: Callable[[], Any]) -> Performance:
    """SystemExit and KeyboardInterrupt would leave an asyncio task through the loop and end the service."""
    try:
        result = call()
        return Returned(await result if inspect.isawaitable(result) else result)
    except BaseException as error:  # noqa: BLE001 - every exception of the task is its job's error
        return Raised(error)
