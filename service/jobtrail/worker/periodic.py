"""The only `while True` of a node: everything periodic is a tick. And the ticks that any node does for all."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from jobtrail.db.engine import Database, trace_no_more
from jobtrail.db.errors import reason
from jobtrail.jobs import after
from jobtrail.jobs.purge import purge_history, purge_jobs, purge_nodes
from jobtrail.jobs.rescue import rescue
from jobtrail.jobs.services import Services
from jobtrail.ops import batches, nodes
from jobtrail.ops.declarations import declare, declared
from jobtrail.ops.due import fire_due
from jobtrail.ops.limits import purge_limits
from jobtrail.task.catalog import HOW_TO_PART, Known, Namesakes, namesakes

log = logging.getLogger(__name__)

_JITTER: Final = 0.1

_SPREAD: Final = 0.1
"""Seconds over which nodes wake for the same due time."""

_PATIENCE: Final = 3.0
"""Seconds that a stopping loop waits for its tick: a database that hangs must not keep the process from ending."""


class Loop:
    """Calls `tick` every `every` seconds, give or take a tenth, and at once when woken.

    A tick that returns True wants to be called again without a pause. An error is logged and counted, never fatal. What
    it does is in no trace; the jobs that it starts need a context of their own.
    """

    def __init__(self, name: str, tick: Callable[[], Awaitable[bool | None]], *, every: float) -> None:
        self.name: Final = name
        self.errors = 0
        self.ticks = 0
        self._failing = False
        self._tick = tick
        self._every = every
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

    async def stop(self) -> None:
        """End after the tick that is under way, which is cancelled when it takes too long. Idempotent."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            _, late = await asyncio.wait({self._task}, timeout=_PATIENCE)
            if late:
                log.warning("jobtrail: %s: the tick under way does not end; it is given up", self.name)
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
            pause = self._every * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - jitter is no secret
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
            log.log(level, "jobtrail: %s: %s; it is tried again", self.name, reason(error))
            log.debug("jobtrail: %s failed", self.name, exc_info=error)
            self._failing = True
            return False
        else:
            if self._failing:
                log.warning("jobtrail: %s: it works again", self.name)
                self._failing = False
            return again
        finally:
            self.ticks += 1
            async with self._ticked:
                self._ticked.notify_all()


@dataclass(frozen=True, slots=True)
class MaintenanceConfig:
    """`history_ttl` None keeps the history for ever; `due_every` None makes no jobs of schedules. `look_every`: how
    soon a node hears that jobs come after others; from then on it gives hints, and looks for what those missed at
    `release_every`.
    """

    purge_every: timedelta = timedelta(seconds=60)
    history_ttl: timedelta | None = timedelta(days=90)
    due_every: timedelta | None = timedelta(seconds=5)
    release_every: timedelta = timedelta(seconds=15)
    look_every: timedelta = timedelta(seconds=10)


class Maintenance:
    """`tasks`: those that this node runs, so that it makes the jobs of their schedules, and hands them to `launch`."""

    def __init__(
        self,
        services: Services,
        config: MaintenanceConfig,
        *,
        node_id: UUID,
        lease: timedelta,
        tasks: Sequence[str],
        launch: Callable[[UUID, str, str], None],
    ) -> None:
        self._services = services
        self._database = services.database
        self._config = config
        self._tasks = tasks
        self._launch = launch
        self._declared = declared(services.catalog, tasks)
        self._node_id = node_id
        self._actor = f"node {node_id}"
        self.rescue_loop: Final = Loop("rescue", self._rescue, every=lease.total_seconds() / 4)
        every = config.purge_every.total_seconds()
        self.purge_loop: Final = Loop("purge", self._purge, every=every)
        # loops of their own: a part that fails, or that has work for hours, keeps no other from going
        history = Loop("purge of the history", self._purge_history, every=every)
        nodes = Loop("purge of silent nodes", self._purge_nodes, every=every)
        limits = Loop("purge of unused limits", self._purge_limits, every=every)
        self.release_loop: Final = Loop("release", self._release, every=config.look_every.total_seconds())
        self._released_at = 0.0
        self._due_every: Final = config.due_every or timedelta(0)
        self._alarm: asyncio.TimerHandle | None = None
        self.due_loop: Final = Loop("schedules", self._fire, every=self._due_every.total_seconds())
        schedules = []
        if config.due_every is not None and tasks:
            schedules = [
                Loop("declared schedules", self._declare, every=lease.total_seconds() / 2),
                self.due_loop,
            ]
        self._loops: Final = (
            self.rescue_loop, self.purge_loop, history, nodes, limits, self.release_loop, *schedules
        )  # fmt: skip

    def start(self) -> None:
        for loop in self._loops:
            loop.start()

    async def stop(self) -> None:
        await asyncio.gather(*(loop.stop() for loop in self._loops))

    async def _rescue(self) -> None:
        await rescue(self._database, node=self._node_id, by=self._actor)

    async def _purge(self) -> None:
        if jobs := await purge_jobs(self._database, by=self._actor):
            log.info("purged", extra={"jobs": jobs})

    async def _purge_history(self) -> None:
        if moves := await purge_history(self._database, age=self._config.history_ttl):
            log.info("purged", extra={"transitions": moves})
        await batches.forget(self._database, age=self._config.history_ttl)

    async def _release(self) -> None:
        was_known = self._services.has_edges.is_set()
        await batches.look(self._services)
        now, every = time.monotonic(), self._config.release_every.total_seconds()
        if self._services.has_edges.is_set() and (not was_known or now - self._released_at >= every):
            self._released_at = now
            await after.sweep(self._services)
        if self._services.has_batches.is_set():
            await batches.finish_all(self._services)

    async def _purge_nodes(self) -> None:
        await purge_nodes(self._database)

    async def _purge_limits(self) -> None:
        await purge_limits(self._database)

    async def _declare(self) -> None:
        await declare(self._database, self._declared)

    async def _fire(self) -> None:
        """Looks rarely, and wakes for a due time that it has seen; of several nodes one is first."""
        fired, wait = await fire_due(self._services, self._tasks, self._due_every * (1 + _JITTER))
        for job in fired:
            self._launch(*job)
        if self._alarm is not None:
            self._alarm.cancel()  # of two alarms each would bring another
            self._alarm = None
        if wait is not None:
            late = random.uniform(0, _SPREAD)  # noqa: S311 - no secret
            self._alarm = asyncio.get_running_loop().call_later(wait.total_seconds() + late, self.due_loop.wake)


class Neighbours:
    """Warns once of each task that a living node knows by another module than this one does, whoever came first."""

    def __init__(self, database: Database, own: Known, *, node_id: UUID, every: timedelta) -> None:
        self._database = database
        self._own = own
        self._node_id = node_id
        self._told: set[tuple[str, str]] = set()
        self.loop: Final = Loop("neighbours", self._look, every=every.total_seconds())

    async def _look(self) -> None:
        async with self._database.reading() as session:
            others = await nodes.known(session, except_of=self._node_id)
        for other in others:
            for found in namesakes([self._own, other]):
                self._tell(found)

    def _tell(self, found: Namesakes) -> None:
        if (found.task, found.other_module) not in self._told:
            self._told.add((found.task, found.other_module))
            log.warning("%s; %s", found, HOW_TO_PART)
