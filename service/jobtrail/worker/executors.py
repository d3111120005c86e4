"""The three executors of attempts, event loop, thread and process: run a task there, ask it to end, kill it."""

import asyncio
import inspect
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol

from jobtrail.records import Claimed
from jobtrail.task.context import JobRuntime
from jobtrail.task.outcome import Ended, Raised
from jobtrail.task.task import Task
from jobtrail.tracing import AttemptSpan
from jobtrail.worker.processes.pool import Child, Order, Processes
from jobtrail.worker.threads import Threads


class Assigned(JobRuntime, Protocol):
    """An attempt as its executor sees it. `max_result` in bytes of JSON. `span`: once it began, where it is traced."""

    claimed: Claimed
    task: Task[..., Any]
    max_result: int
    span: AttemptSpan | None

    def begin(self) -> None:
        """Say that the task begins now: its time runs."""

    def call(self) -> Callable[[], Any]:
        """The call to make. Raises InvalidArgumentsError: the signature may have changed since the submit."""

    def returned(self, value: object) -> Ended: ...

    def raised(self, error: BaseException) -> Raised: ...


class Executor(Protocol):
    """Where one attempt runs. `hears`: the task can notice that it is to end."""

    @property
    def hears(self) -> bool: ...

    async def run(self) -> Ended:
        """Run the task to its end. Raises nothing that the task did; ProcessDiedError where there can be no process.

        Cancelled before the task began, it never begins.
        """

    def cancel(self, running: "asyncio.Task[Ended]", /) -> None:
        """Ask the task to end, in a way that lets its clean-up run."""

    def kill(self) -> bool:
        """End a task that did not end when asked; False where that is not possible."""


class LoopExecutor:
    """A coroutine of the main loop: it is cancelled, and left behind when it swallows that."""

    hears = True

    def __init__(self, attempt: Assigned) -> None:
        self._attempt = attempt

    async def run(self) -> Ended:
        attempt, process = self._attempt, os.getpid()
        attempt.begin()
        try:
            ended = attempt.returned(await attempt.call()())
        # SystemExit and KeyboardInterrupt would leave an asyncio task through the loop and end the service
        except BaseException as error:  # noqa: BLE001 - every exception of the task is its job's error
            ended = attempt.raised(error)
        _end_a_fork(process)
        try:
            if _is_being_cancelled():
                # it may have cancelled itself just before its end, and asyncio would tell that instead of the end
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)
            return ended
        finally:
            del ended  # it has the exception, whose traceback has this frame: all that the task held would stay

    def cancel(self, running: "asyncio.Task[Ended]", /) -> None:
        running.cancel()

    def kill(self) -> bool:
        return False


def _end_a_fork(process: int) -> None:
    """A fork that comes back from a task ends here: it would be a second node with the id and connections of this."""
    if os.getpid() != process:
        os._exit(0)


def _is_being_cancelled() -> bool:
    this = asyncio.current_task()
    return this is not None and this.cancelling() > 0


class ThreadExecutor:
    """A thread is told by `context.cancelled` alone; Python cannot stop it."""

    def __init__(self, attempt: Assigned, threads: Threads) -> None:
        self.hears: Final = attempt.task.signature.takes_context
        self._attempt = attempt
        self._threads = threads

    async def run(self) -> Ended:
        self._attempt.begin()
        return await self._threads.run(self._call)

    def cancel(self, running: "asyncio.Task[Ended]", /) -> None:
        """The context says it already."""

    def kill(self) -> bool:
        return False

    def _call(self) -> Ended:
        attempt, process = self._attempt, os.getpid()
        try:
            result = attempt.call()()
            if inspect.iscoroutine(result):
                result.close()
                raise TypeError("the task returned a coroutine, which nobody awaits: write async def")  # noqa: TRY301
            return attempt.returned(result)
        except BaseException as error:  # noqa: BLE001 - every exception of the task is its job's error
            return attempt.raised(error)
        finally:
            _end_a_fork(process)


class ProcessExecutor:
    """A process of its own is told by an exception where it is, and killed when it goes on."""

    hears = True

    def __init__(self, attempt: Assigned, processes: Processes) -> None:
        self._attempt = attempt
        self._processes = processes
        self._child: Child | None = None

    async def run(self) -> Ended:
        attempt = self._attempt
        self._child = await self._processes.child()
        attempt.begin()
        above = None if attempt.span is None else attempt.span.traceparent
        order = Order(attempt.claimed, attempt.task.function.__module__, attempt.max_result, above)
        return await self._child.run(order, attempt, attempt.task.retry)

    def cancel(self, running: "asyncio.Task[Ended]", /) -> None:  # noqa: ARG002 - the process is asked
        if self._child is not None:
            self._child.cancel()

    def kill(self) -> bool:
        if self._child is not None:
            self._child.kill()
        return True
