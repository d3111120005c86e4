"""Other nodes in the same schema, and whether they are of another app: then each runs the other's jobs."""

import logging
from datetime import timedelta
from typing import Final
from uuid import UUID

from jobtrail.db.engine import Database
from jobtrail.ops import nodes
from jobtrail.task.catalog import HOW_TO_PART, Known, Namesakes, namesakes
from jobtrail.worker.periodic import Loop

log = logging.getLogger(__name__)


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
