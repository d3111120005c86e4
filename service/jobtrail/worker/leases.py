"""The renewal of leases, in a thread with a loop and a connection of its own.

A task that blocks the main loop for longer than a lease so does not lose its neighbours. When the main loop has not
answered for the stall limit, renewal gives up: then the process is no longer able to finish anything.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from jobtrail.db.engine import connected, trace_no_more
from jobtrail.db.errors import FAILURES, Fault, fault_of
from jobtrail.db.loop import Loop
from jobtrail.jobs.fence import AttemptRef
from jobtrail.jobs.renew import RunningAttempt, renew, running_of
from jobtrail.ops import nodes
from jobtrail.ops.nodes import Counts

log = logging.getLogger(__name__)

_AGAIN: Final = (0.0, 0.05, 0.2)
"""Seconds before each further try of a heartbeat: the first may find a connection that died long ago, the next one may
lose a new one at once, and a lease of a living node must not run out by that.
"""


@dataclass(frozen=True, slots=True)
class LeaseConfig:
    """`lease` is how long a renewal is believed; `stall` how long the main loop may be silent."""

    lease: timedelta
    stall: timedelta


class Leases:
    """`held` is asked in this thread and must be safe to call from it; `report` is called on the main loop with what
    the database says this node runs and with what it held when it asked. `beside` ticks in this thread too.
    """

    def __init__(
        self,
        connect: Callable[[], AsyncEngine],
        node: dict[str, Any],
        config: LeaseConfig,
        *,
        held: Callable[[], Sequence[AttemptRef]],
        counts: Callable[[], Counts],
        report: Callable[[Sequence[AttemptRef], Sequence[RunningAttempt]], None],
        beside: Sequence[Loop] = (),
    ) -> None:
        self._connect = connect
        self._node = node
        self._id: Final[UUID] = node["id"]
        self._config = config
        self._held = held
        self._counts = counts
        self._report = report
        self._beside = beside
        self._main: asyncio.AbstractEventLoop | None = None
        self._answered = time.monotonic()
        self._thread: threading.Thread | None = None
        self._own: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def start(self) -> None:
        """Call on the main loop."""
        self._main = asyncio.get_running_loop()
        self._answered = time.monotonic()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="jobtrail-leases", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Take the node off the list and end the thread. Idempotent."""
        if self._thread is None:
            return
        if self._own is not None and self._stopping is not None:
            try:
                self._own.call_soon_threadsafe(self._stopping.set)
            except RuntimeError:
                log.debug("the thread of the leases had ended")
        thread, self._thread = self._thread, None
        await asyncio.to_thread(thread.join, 5.0)

    async def _run(self) -> None:
        trace_no_more()
        self._own = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        engine = self._connect()
        beats = Loop("heartbeat", lambda: self._beat(engine), every=self._config.lease.total_seconds() / 4)
        for loop in (beats, *self._beside):
            loop.start()
        await self._stopping.wait()
        for loop in (*self._beside, beats):
            await loop.stop()
        await self._say_goodbye(engine)
        await engine.dispose()

    async def _beat(self, engine: AsyncEngine) -> None:
        for pause in _AGAIN:
            if not self._main_loop_answers():
                return
            try:
                await self._exchange(engine)
            except FAILURES as error:
                log.debug("the heartbeat is repeated on another connection: %s", error)
                await asyncio.sleep(pause)
            else:
                return
        await self._exchange(engine)

    async def _exchange(self, engine: AsyncEngine) -> None:
        # a connection that died or says nothing is given up in time for another one
        patience = self._config.lease.total_seconds() / 3
        async with connected(engine, patience) as connection:
            held = list(self._held())
            await renew(connection, held, node=self._id, lease=self._config.lease)
            running = await running_of(connection, self._id)
        self._tell(self._report, held, running)
        # last and apart: whoever locks the row of this node shall not cost its jobs their leases
        try:
            async with connected(engine, patience) as connection:
                await nodes.beat(connection, self._node, self._counts())
        except DBAPIError as error:
            if fault_of(error) is not Fault.LOCKED:
                raise
            log.warning("somebody holds the row of this node in the table of nodes: its heartbeat is not written")

    async def _say_goodbye(self, engine: AsyncEngine) -> None:
        try:
            async with connected(engine, 2) as connection:
                await nodes.leave(connection, self._id)
        except Exception as error:  # noqa: BLE001 - the list forgets silent nodes by itself
            log.debug("the node could not sign off: %s", error)

    def _main_loop_answers(self) -> bool:
        self._tell(self._answer)
        silent = time.monotonic() - self._answered
        if silent < self._config.stall.total_seconds():
            return True
        log.error("the event loop has not answered for %.0f s: this node's leases are no longer renewed", silent)
        return False

    def _answer(self) -> None:
        self._answered = time.monotonic()

    def _tell(self, step: Callable[..., None], *args: Any) -> None:
        if self._main is not None and not self._main.is_closed():
            self._main.call_soon_threadsafe(step, *args)
