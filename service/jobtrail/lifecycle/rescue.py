"""Attempts whose node went silent end or go back, on whichever node looks first."""

import logging
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from jobtrail.job.context import TASK_LOGGER
from jobtrail.job.status import Status
from jobtrail.store.batches import in_batches
from jobtrail.store.engine import Database
from jobtrail.store.transitions import rescue as moves
from jobtrail.store.transitions.rescue import Rescued

log = logging.getLogger(__name__)
of_tasks = logging.getLogger(TASK_LOGGER)

BATCH: Final = 500
"""Attempts of one commit, at most."""


async def rescue(database: Database, *, node: UUID, by: str) -> Sequence[Rescued]:
    """All the attempts whose lease ran out, in batches; `node` judges, as `moves.rescue` says."""
    found: list[Rescued] = []

    async def step(most: int) -> bool:
        batch = await moves.rescue(database, node=node, actor=by, most=most)
        for each in batch:
            is_over = each.status is Status.FAILED
            (of_tasks if is_over else log).log(
                logging.ERROR if is_over else logging.WARNING,
                "%s: attempt %d of job %s was lost: its node went silent; the job is %s now",
                each.task,
                each.attempt,
                each.id,
                each.status,
                extra={"job_id": str(each.id), "task": each.task, "attempt": each.attempt},
            )
        found.extend(batch)
        return len(batch) == most

    await in_batches(step, most=BATCH)
    return found
