"""The three executors of attempts, event loop, thread and process: run a task there, cancel it, kill it."""

import asyncio
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from jobtrail.records import Claimed
from jobtrail.task.context import JobContext
from jobtrail.task.outcome import Ended, Raised, raised, returned
from jobtrail.task.task import Task
from jobtrail.worker.processes.pool import Child, Order, Processes
from jobtrail.worker.threads import Threads


@dataclass(frozen=True, slots=True)
class Assignment:
    """An attempt and the task that it runs; `max_result` in bytes of JSON."""

    claimed: Claimed
    task: Task[..., Any]
    context: JobContext
    max_result: int

    def bind(self) -> Callable[[], Any]:
        """The call that it makes. Raises InvalidArgumentsError: the signature may have changed since the submit."""
        arguments = self.task.signature.bind(self.claimed.args)
        first = (self.context,) if self.task.signature.takes_context else ()
        return lambda: self.task.function(*first, **arguments)

    def returned(self, value: object) -> Ended:
        return returned(value, self.claimed.attempt, self.max_result)

    def raised(self, error: BaseException) -> Raised:
        return raised(error, self.claimed.attempt, self.task.retry)


class Executor(Protocol):
    """Where one attempt runs. `hears`: the task can notice that it is told to end."""

    @property
    def hears(self) -> bool: ...

    async def prepare(self, stop: asyncio.Event) -> bool:
        """Get ready; the timeout of the attempt does not run yet. False when `stop` came first.

        Raises ProcessDiedError.
        """

    async def run(self) -> Ended:
        """Run the task to its end. Raises nothing that the task did."""

    def cancel(self, performing: "asyncio.Task[Ended]", /) -> None:
        """Ask the task to end, in a way that lets its clean-up run."""

    async def kill(self, performing: "asyncio.Task[Ended]", /) -> None:
        """End a task that did not end when cancelled, where that is possible."""


@contextmanager
def _one_process() -> Iterator[None]:
    """A fork that comes back from a task ends here: it would be a second node with the id and connections of this."""
    this = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != this:
            os._exit(0)


class LoopExecutor:
    """A coroutine of the main loop: it is cancelled, and left behind when it swallows that."""

    hears = True

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment

    async def prepare(self, stop: asyncio.Event) -> bool:
        return not stop.is_set()

    async def run(self) -> Ended:
        try:
            with _one_process():
                result = await self._assignment.bind()()
            ended = self._assignment.returned(result)
        # SystemExit and KeyboardInterrupt would leave an asyncio task through the loop and end the service
        except BaseException as error:  # noqa: BLE001 - every exception of the task is its job's error
            ended = self._assignment.raised(error)
        try:
            if _is_being_cancelled():
                # it may have cancelled itself just before its end, and asyncio would tell that instead of the end
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)
            return ended
        finally:
            del ended  # it has the exception, whose traceback has this frame: all that the task held would stay

    def cancel(self, performing: "asyncio.Task[Ended]", /) -> None:
        performing.cancel()

    async def kill(self, performing: "asyncio.Task[Ended]", /) -> None:
        """It goes on by itself, and `asyncio.run` shall not wait for it at its end: that might be for ever."""
        asyncio._unregister_task(performing)  # noqa: SLF001 - documented (Python, "asyncio: Extending")
        vars_of: Any = performing
        vars_of._log_destroy_pending = False  # noqa: SLF001 - as asyncio's own gather does


def _is_being_cancelled() -> bool:
    this = asyncio.current_task()
    return this is not None and this.cancelling() > 0


class ThreadExecutor:
    """A thread is told by `context.cancelled` alone; Python cannot stop it."""

    def __init__(self, assignment: Assignment, threads: Threads) -> None:
        self._assignment = assignment
        self._threads = threads
        self.hears = assignment.task.signature.takes_context

    async def prepare(self, stop: asyncio.Event) -> bool:
        return not stop.is_set()

    async def run(self) -> Ended:
        return await self._threads.run(self._call)

    def cancel(self, performing: "asyncio.Task[Ended]", /) -> None:
        """The context says it already."""

    async def kill(self, performing: "asyncio.Task[Ended]", /) -> None:
        """It goes on by itself."""

    def _call(self) -> Ended:
        try:
            with _one_process():
                result = self._assignment.bind()()
            if inspect.iscoroutine(result):
                result.close()
                raise TypeError("the task returned a coroutine, which nobody awaits: write async def")  # noqa: TRY301
            return self._assignment.returned(result)
        except BaseException as error:  # noqa: BLE001 - every exception of the task is its job's error
            return self._assignment.raised(error)


class ProcessExecutor:
    """A process of its own is told by an exception where it is, and killed when it goes on."""

    hears = True

    def __init__(self, assignment: Assignment, processes: Processes) -> None:
        self._assignment = assignment
        self._order = Order(assignment.claimed, assignment.task.function.__module__, assignment.max_result)
        self._processes = processes
        self._child: Child | None = None

    async def prepare(self, stop: asyncio.Event) -> bool:
        starting, stopping = asyncio.create_task(self._processes.child()), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            if not starting.done():
                starting.cancel()
        if not stop.is_set():
            self._child = await starting
            return True
        await asyncio.wait({starting})
        if not starting.cancelled() and starting.exception() is None:
            starting.result().kill()
        return False

    async def run(self) -> Ended:
        return await self._entered.run(self._order, self._assignment.context.ties, self._assignment.task.retry)

    def cancel(self, _performing: "asyncio.Task[Ended]", /) -> None:
        self._entered.cancel()

    async def kill(self, performing: "asyncio.Task[Ended]", /) -> None:
        self._entered.kill()
        await asyncio.wait({performing})

    @property
    def _entered(self) -> Child:
        if self._child is None:
            raise AssertionError("an executor is prepared first")
        return self._child
