"""Attempts whose node went silent end or go back, on whichever node looks first."""

import logging
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from jobtrail.store.batches import in_batches
from jobtrail.store.engine import Database
from jobtrail.store.transitions import rescue as moves
from jobtrail.store.transitions.rescue import Rescued

log = logging.getLogger(__name__)

BATCH: Final = 500
"""Attempts of one commit, at most."""


async def rescue(database: Database, *, node: UUID, by: str) -> Sequence[Rescued]:
    """All the attempts whose lease ran out, in batches; `node` judges, as `moves.rescue` says."""
    found: list[Rescued] = []

    async def step(most: int) -> bool:
        batch = await moves.rescue(database, node=node, actor=by, most=most)
        for each in batch:
            log.warning(
                "rescued: the node went silent; now %s",
                each.status,
                extra={"job_id": str(each.id), "task": each.task, "attempt": each.attempt},
            )
        found.extend(batch)
        return len(batch) == most

    await in_batches(step, most=BATCH)
    return found
