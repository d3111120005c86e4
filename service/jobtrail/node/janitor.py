"""What any node does for all: rescue attempts of silent nodes, purge what has expired."""

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from jobtrail.lifecycle.purge import purge_history, purge_jobs, purge_nodes
from jobtrail.lifecycle.rescue import rescue
from jobtrail.node.loop import Loop
from jobtrail.store.engine import Database

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Upkeep:
    """`history_ttl` None keeps the history for ever."""

    purge_every: timedelta = timedelta(seconds=60)
    history_ttl: timedelta | None = timedelta(days=90)


class Janitor:
    def __init__(self, database: Database, upkeep: Upkeep, *, node_id: UUID, lease: timedelta) -> None:
        self._database = database
        self._upkeep = upkeep
        self._node_id = node_id
        self._actor = f"node {node_id}"
        self.rescue_loop: Final = Loop("rescue", self._rescue, every=lease.total_seconds() / 4)
        every = upkeep.purge_every.total_seconds()
        self.purge_loop: Final = Loop("purge", self._purge, every=every)
        # loops of their own: a part that fails, or that has work for hours, keeps no other from going
        history = Loop("purge of the history", self._purge_history, every=every)
        nodes = Loop("purge of silent nodes", self._purge_nodes, every=every)
        self._loops: Final = (self.rescue_loop, self.purge_loop, history, nodes)

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
        if moves := await purge_history(self._database, age=self._upkeep.history_ttl):
            log.info("purged", extra={"transitions": moves})

    async def _purge_nodes(self) -> None:
        await purge_nodes(self._database)
