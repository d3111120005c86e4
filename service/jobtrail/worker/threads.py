"""Threads for tasks that block: as many as asked, daemons, so that a task that never ends cannot hold the process."""

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

Result = TypeVar("Result")


class Threads:
    """`concurrent.futures` waits for its threads when the interpreter ends; these end with it.

    Threads start when first needed. The slots bound how many jobs come, so nothing queues here.
    """

    def __init__(self, name: str = "jobtrail") -> None:
        self._name = name
        self._calls: queue.SimpleQueue[Callable[[], Callable[[], None]] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._count = 0

    async def run(self, function: Callable[[], Result]) -> Result:
        """Call `function` in a thread, with the caller's context variables. Raises what it raises.

        When the caller is cancelled the thread goes on, since Python cannot stop it.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Result] = loop.create_future()
        context = contextvars.copy_context()

        def call() -> Callable[[], None]:
            try:
                result = context.run(function)
            except BaseException as error:  # noqa: BLE001 - the thread lives on, and its caller has to hear of it
                return partial(_tell, loop, _fail, answer, error)
            return partial(_tell, loop, _answer, answer, result)

        self._calls.put(call)
        if not self._idle.acquire(blocking=False):
            self._add()
        return await answer

    def close(self) -> None:
        """Idle threads end; busy ones end after their call, or with the process."""
        for _ in range(self._count):
            self._calls.put(None)

    def _add(self) -> None:
        self._count += 1
        threading.Thread(target=self._work, name=f"{self._name}-{self._count}", daemon=True).start()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            tell = call()
            self._idle.release()  # before the caller goes on, who may have the next call
            tell()
            del call, tell  # an idle thread keeps no result


def _tell(loop: asyncio.AbstractEventLoop, step: Callable[..., None], *args: Any) -> None:
    try:
        loop.call_soon_threadsafe(step, *args)
    except RuntimeError:
        return  # the loop is closed: the process is ending, and another node rescues the job


def _answer(answer: asyncio.Future[Any], result: Any) -> None:
    if not answer.done():
        answer.set_result(result)


def _fail(answer: asyncio.Future[Any], error: BaseException) -> None:
    if not answer.done():
        # a future cannot carry a StopIteration (PEP 479)
        answer.set_exception(RuntimeError(repr(error)) if isinstance(error, StopIteration) else error)
