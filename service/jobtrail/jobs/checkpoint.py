"""running stays running: the cursor, from which the next attempt goes on. No move, so `seq` stays."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple
from uuid import UUID

from jobtrail.db.engine import Database
from jobtrail.db.errors import Fault, fault_of, reason
from jobtrail.db.group_commit import GroupCommit
from jobtrail.errors import CheckpointError, UnavailableError
from jobtrail.jobs.fence import AttemptRef, fenced
from jobtrail.jobs.renew import running_of

log = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
    """`cursor` is JSON text."""

    id: UUID
    attempt: int
    cursor: str


_CHECKPOINT: Final = fenced("cursor = u.cursor", returning="j.id, j.attempt", cursor="jsonb")


async def checkpoint_group(database: Database, asked: Sequence[Checkpoint], *, node: UUID) -> Sequence[bool]:
    """Store them in one statement and one commit; False: the attempt is no longer ours, or its row is locked."""
    # of two for one row PostgreSQL would take either
    latest = {AttemptRef(each.id, each.attempt): each for each in asked}
    rows = await _CHECKPOINT.execute(database.fetch, _CHECKPOINT.values(list(latest.values()), node))
    stored = {AttemptRef(*row) for row in rows}
    return [AttemptRef(each.id, each.attempt) in stored for each in asked]


class CheckpointRecorder:
    """The way of a node's checkpoints to their rows, together where it can be, and in the order in which they come."""

    def __init__(self, database: Database, node: UUID) -> None:
        self._database = database
        self._node = node
        self._group = GroupCommit(
            partial(checkpoint_group, database, node=node),
            weigh=lambda each: len(each.cursor),
            patience=float("inf"),
        )

    async def store(self, ref: AttemptRef, latest: Callable[[], str]) -> bool:
        """Offer the latest cursor of an attempt until it is stored, however long the database is away or refuses it.

        `latest` is asked each time, so that one that had to wait does not undo a later one. False: the attempt is no
        longer ours, and nothing was changed. Raises CheckpointError for what the database can never hold.
        """
        pause, is_told = 0.05, False
        while True:
            try:
                if await self._group.put(Checkpoint(*ref, latest())):
                    return True
                if not await self._is_ours(ref):
                    return False
            except Exception as error:
                if fault_of(error) is Fault.DATA:
                    raise CheckpointError(f"the database cannot hold the checkpoint: {reason(error)}") from error
                if not is_told and not isinstance(error, UnavailableError):
                    is_told = True
                    words = "a checkpoint of job %s is not stored yet, and is offered until it is: %s"
                    log.warning(words, ref.id, reason(error))
                    log.debug("a checkpoint is refused", exc_info=error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    async def _is_ours(self, ref: AttemptRef) -> bool:
        async with self._database.autocommit() as connection:
            return any((each.id, each.attempt) == ref for each in await running_of(connection, self._node))
