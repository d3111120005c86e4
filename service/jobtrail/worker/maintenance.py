"""Maintenance: the ticks that any node does for all, such as rescue, purge and schedules."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final
from uuid import UUID

from jobtrail.db.engine import Database
from jobtrail.db.loop import JITTER, Loop
from jobtrail.events import delivery, feed, numbers
from jobtrail.events.hub import Hub
from jobtrail.jobs import after
from jobtrail.jobs.purge import purge_history, purge_jobs, purge_nodes
from jobtrail.jobs.rescue import rescue
from jobtrail.jobs.services import Services
from jobtrail.ops import batches, nodes
from jobtrail.ops.declarations import declare, declared
from jobtrail.ops.due import fire_due
from jobtrail.ops.limits import purge_limits
from jobtrail.ops.totals import purge_minutes
from jobtrail.task.catalog import HOW_TO_PART, Known, Namesakes, namesakes

log = logging.getLogger(__name__)

DERIVED: Final[Sequence[tuple[str, Callable[[Services], Awaitable[bool]]]]] = (
    ("webhooks", delivery.advance),
    ("numbers", numbers.advance),
)
"""By the names of their loops: what follows the feed."""

_MARK_EVERY: Final = 1.0
"""Seconds between two marks of a node while something moves, so that none holds too much."""

_MARK_LATER: Final = 10.0
"""Seconds between two looks, at most, while nothing moves."""

_SPREAD: Final = 0.1
"""Seconds over which nodes wake for the same due time."""


@dataclass(frozen=True, slots=True)
class MaintenanceConfig:
    """How often a node does what it does for all, and what it keeps how long.

    - `history_ttl`: how long the history outlives its job's row; None: for ever.
    - `feed_ttl`: how long a reader of the feed may be away, but no longer than `history_ttl`.
    - `due_every`: how often it looks for schedules that are due; None: it makes no jobs of schedules.
    - `look_every`: how often it looks whether any job comes after others, or any batch is open. While that is so, it
      tells of each end at once, and each `release_every` it looks for the ends that nothing told of.
    """

    purge_every: timedelta = timedelta(seconds=60)
    history_ttl: timedelta | None = timedelta(days=90)
    feed_ttl: timedelta = timedelta(hours=24)
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
        self.feed_loop: Final = Loop("feed", self._mark, every=_MARK_EVERY)
        self._marked = 0
        # each follows in a loop of its own
        self._derived: Final = [Loop(name, partial(follow, services), every=60) for name, follow in DERIVED]
        services.once(Hub).on_end = self._stir
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
            self.rescue_loop, self.purge_loop, history, nodes, limits, self.release_loop, *schedules,
            self.feed_loop, *self._derived,
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
            log.info("purged %d expired jobs", jobs)

    async def _purge_history(self) -> None:
        # first, since the history of what a mark holds stays
        await feed.forget(self._database, age=min(self._config.feed_ttl, self._config.history_ttl or timedelta.max))
        if moves := await purge_history(self._database, age=self._config.history_ttl):
            log.info("purged %d old history rows", moves)
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

    async def _mark(self) -> None:
        """Rarely where nothing moves. What moves in this process brings a tick at once, and then one each second."""
        found = await feed.mark(self._database)
        if found.no == self._marked:
            self.feed_loop.every = min(2 * self.feed_loop.every, _MARK_LATER)
            return
        self._marked, self.feed_loop.every = found.no, _MARK_EVERY
        for each in self._derived:
            each.wake()

    def _stir(self) -> None:
        if self.feed_loop.every > _MARK_EVERY:
            self.feed_loop.every = _MARK_EVERY
            self.feed_loop.wake()

    async def _purge_nodes(self) -> None:
        await purge_nodes(self._database)
        await purge_minutes(self._database)

    async def _purge_limits(self) -> None:
        await purge_limits(self._database)

    async def _declare(self) -> None:
        await declare(self._database, self._declared)

    async def _fire(self) -> None:
        """Looks rarely, and wakes for a due time that it has seen; of several nodes one is first."""
        fired, wait = await fire_due(self._services, self._tasks, self._due_every * (1 + JITTER))
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
