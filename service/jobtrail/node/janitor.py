"""What any node does for all: rescue attempts of silent nodes, purge what has expired."""

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from jobtrail.lifecycle.purge import purge
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
        self.purge_loop: Final = Loop("purge", self._purge, every=upkeep.purge_every.total_seconds())

    def start(self) -> None:
        self.rescue_loop.start()
        self.purge_loop.start()

    async def stop(self) -> None:
        await self.rescue_loop.stop()
        await self.purge_loop.stop()

    async def _rescue(self) -> None:
        await rescue(self._database, node=self._node_id, by=self._actor)

    async def _purge(self) -> None:
        gone = await purge(self._database, by=self._actor, history_ttl=self._upkeep.history_ttl)
        if gone.jobs or gone.transitions:
            log.info("purged", extra={"jobs": gone.jobs, "transitions": gone.transitions})
