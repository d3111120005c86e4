"""Processes for tasks that a node must be able to kill: one job at a time each, kept for the next."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

from jobtrail.errors import ProcessDiedError
from jobtrail.task.context import JobRuntime
from jobtrail.task.outcome import Ended, Raised, raised
from jobtrail.task.retry import Retry
from jobtrail.worker.processes.messages import Done, Order, Reported, Said, Tell, Unfound
from jobtrail.worker.processes.spawned import ProcessHandle

__all__ = ["Child", "Order", "Processes"]

_PATIENCE: Final = 60.0
"""Seconds that a process may take to come up, with all that the modules of its tasks import."""


class Processes:
    """They start when first needed and stay. How many there are is bounded by who asks for them.

    `modules`: the names of those that declare tasks, which each process imports before it says that it is ready.
    """

    def __init__(self, modules: Sequence[str] = ()) -> None:
        self._modules: Final = tuple(modules)
        self._all: Final[set[ProcessHandle]] = set()
        self._idle: Final[list[ProcessHandle]] = []
        self._reaping: set[asyncio.Task[None]] = set()
        self._closed = False

    async def child(self) -> "Child":
        """One that is ready, for one job. Run it or kill it. Raises ProcessDiedError when there can be none."""
        if self._closed:
            raise ProcessDiedError("no process is started any more: the node has stopped")
        self._idle[:] = [each for each in self._idle if each.is_open]
        return Child(self._idle.pop() if self._idle else await self._start(), self._idle.append)

    async def close(self) -> None:
        """Kill what is left, and see that nothing of it stays, not even a zombie. Idempotent."""
        self._closed = True
        for each in self._all:
            each.kill()
        # a loop that is closed has cancelled these
        await asyncio.gather(*(each.death for each in self._all), return_exceptions=True)
        await asyncio.gather(*self._reaping, return_exceptions=True)

    def _mourn(self, spawned: ProcessHandle) -> None:
        self._all.discard(spawned)
        if spawned.reaping is not None:
            self._reaping.add(spawned.reaping)
            spawned.reaping.add_done_callback(self._reaping.discard)

    async def _start(self) -> ProcessHandle:
        try:
            spawned = await ProcessHandle.start(self._modules)
        except (OSError, RuntimeError) as error:
            raise ProcessDiedError(f"no process can be started: {' '.join(str(error).split())}") from error
        self._all.add(spawned)
        spawned.death.add_done_callback(lambda _: self._mourn(spawned))
        if self._closed:
            spawned.kill()
        try:
            async with asyncio.timeout(_PATIENCE):
                await spawned.receive()  # it is ready
        except TimeoutError:
            spawned.kill(
                f"was killed since it was not ready after {_PATIENCE:g} s: what do the modules of the tasks do?"
            )
            raise await spawned.death from None
        except EOFError:
            raise await spawned.death from None
        except BaseException:
            spawned.kill()
            raise
        return spawned


class Child:
    """A process, lent for one job. Once that has ended, `tell` and `kill` do nothing: others may run there."""

    def __init__(self, spawned: ProcessHandle, give_back: Callable[[ProcessHandle], None]) -> None:
        self._spawned = spawned
        self._give_back = give_back
        self._begun = False
        self._told = False
        self._over = False

    async def run(self, order: Order, ties: JobRuntime, retry: Retry | None) -> Ended:
        """Never raises for what the task did. `retry` is the task's, for a process that dies under it."""
        try:
            ended = await self._listen(ties) if self._begin(order) else None
        except EOFError:
            self._over = True
            return raised(await self._spawned.death, order.claimed.attempt, retry)
        except BaseException:
            self.kill()
            raise
        self._over = True
        self._give_back(self._spawned)
        if ended is None:
            return raised(asyncio.CancelledError("told to end before it began"), order.claimed.attempt, retry)
        return _retried(ended, retry) if isinstance(ended, Unfound) else ended

    def tell(self) -> None:
        """Ask the task to end: its context says so, and CancelledError is raised where it is, for its clean-up.

        Before `run`: the task does not begin.
        """
        if self._begun and not self._told and not self._over:
            self._spawned.send(Tell())
        self._told = True

    def kill(self) -> None:
        """End the process at once; `run` then returns what it died of."""
        if not self._over:
            self._spawned.kill()

    def _begin(self, order: Order) -> bool:
        if not self._told:
            self._begun = True
            # the database driver's own kind of UUID would bring the driver with it
            claimed = replace(order.claimed, id=UUID(int=order.claimed.id.int))
            self._spawned.send(replace(order, claimed=claimed))
        return self._begun

    async def _listen(self, ties: JobRuntime) -> Ended | Unfound:
        """In the context of who runs it: what the task logs gets the ids that are bound here."""
        while True:
            match await self._spawned.receive():
                case Done(ended):
                    return ended
                case Reported(progress):
                    ties.report(progress)
                case Said(record):
                    _log(logging.makeLogRecord(record))
                case _:
                    continue


def _log(record: logging.LogRecord) -> None:
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


def _retried(unfound: Unfound, retry: Retry | None) -> Raised:
    """Whatever went wrong, for a Retry it was an import: the error itself stayed in the process."""
    error = ImportError(unfound.failure.message)
    return Raised(unfound.failure, retried=retry is not None and retry.retries(error))
