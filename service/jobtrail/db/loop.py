"""The one periodic loop: what a process does again and again is a tick of it."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

from jobtrail.db.engine import trace_no_more
from jobtrail.db.errors import reason

log = logging.getLogger(__name__)

JITTER: Final = 0.1

_PATIENCE: Final = 3.0
"""Seconds that a stopping loop waits for its tick: a database that hangs must not keep the process from ending."""


class Loop:
    """Calls `tick` every `every` seconds, give or take a tenth, and at once when woken. A tick may change `every`.

    A tick that returns True wants to be called again without a pause. An error is logged and counted, never fatal. What
    it does is in no trace; the jobs that it starts need a context of their own.
    """

    def __init__(self, name: str, tick: Callable[[], Awaitable[bool | None]], *, every: float) -> None:
        self.name: Final = name
        self.errors = 0
        self.ticks = 0
        self._failing = False
        self._tick = tick
        self.every = every
        self._wake = asyncio.Event()
        self._ticked = asyncio.Condition()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"jobtrail-{self.name}")

    def wake(self) -> None:
        self._wake.set()

    async def ticked(self, after: int | None = None) -> int:
        """Wait until a tick has ended that began after this call; how many ticks there have been."""
        # one may be under way right now, and says nothing of what was done since it began
        wanted = (self.ticks if after is None else after) + (2 if after is None else 1)
        async with self._ticked:
            await self._ticked.wait_for(lambda: self.ticks >= wanted or self._stopping)
        return self.ticks

    def end(self) -> None:
        """Begin no further tick; for a tick that has nothing left to do."""
        self._stopping = True

    async def stop(self) -> None:
        """End after the tick that is under way, which is cancelled when it takes too long. Idempotent."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            _, late = await asyncio.wait({self._task}, timeout=_PATIENCE)
            if late:
                log.warning("jobtrail: background loop %r: the tick under way does not end; it is given up", self.name)
                self._task.cancel()
                await asyncio.wait({self._task}, timeout=_PATIENCE)

    async def _run(self) -> None:
        trace_no_more()
        while not self._stopping:
            self._wake.clear()
            again = await self._once()
            if again or self._stopping:
                await asyncio.sleep(0)
                continue
            pause = self.every * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - jitter is no secret
            # wait_for would make a task each time, which is felt in what an idle node costs
            alarm = asyncio.get_running_loop().call_later(pause, self._wake.set)
            await self._wake.wait()
            alarm.cancel()

    async def _once(self) -> bool:
        try:
            again = bool(await self._tick())
        except Exception as error:
            self.errors += 1
            # once: a database that is away would be told with every tick
            level = logging.DEBUG if self._failing else logging.WARNING
            log.log(level, "jobtrail: background loop %r failed: %s; trying again", self.name, reason(error))
            log.debug("jobtrail: background loop %r failed", self.name, exc_info=error)
            self._failing = True
            return False
        else:
            if self._failing:
                log.warning("jobtrail: background loop %r works again", self.name)
                self._failing = False
            return again
        finally:
            self.ticks += 1
            async with self._ticked:
                self._ticked.notify_all()
