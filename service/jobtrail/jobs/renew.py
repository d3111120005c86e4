"""running stays running: the leases of the jobs that a node really holds. No move, so `seq` stays."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from jobtrail.jobs.fence import AttemptRef, fenced

_RENEW: Final = fenced("lease_until = clock_timestamp() + CAST(:lease AS interval)", returning="j.id, j.attempt")


async def renew(connection: AsyncConnection, held: Sequence[AttemptRef], *, node: UUID, lease: timedelta) -> None:
    """Put off the end of the leases that are still ours; the others stay as they are.

    Asked of nothing too: a node that holds nothing so finds out that leases cannot be renewed just now, while the table
    is locked for instance, and is not heard of either. So it does not judge those that hold something.
    """
    await _RENEW.execute_on(connection, _RENEW.values(held, node, lease=lease))


class RunningAttempt(NamedTuple):
    """An attempt that the database says this node runs."""

    id: UUID
    attempt: int
    cancel_requested: bool


_RUNNING: Final = text("""
SELECT id, attempt, cancel_requested_at IS NOT NULL AS cancel_requested
  FROM jobtrail.jobs WHERE node_id = :node AND status = 'running'
""")


async def running_of(connection: AsyncConnection, node: UUID) -> Sequence[RunningAttempt]:
    """What the database says this node runs: the truth to compare with what it holds."""
    return [RunningAttempt(*row) for row in await connection.execute(_RUNNING, {"node": node})]
