"""running stays running: the lease and the progress of the jobs that a node really holds. No move, so `seq` stays."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from jobtrail.jobs.fence import execute, fenced, in_order, keys


class AttemptRef(NamedTuple):
    """An attempt that this process runs."""

    id: UUID
    attempt: int


class RunningAttempt(NamedTuple):
    """An attempt that the database says this node runs."""

    id: UUID
    attempt: int
    cancel_requested: bool


_RENEW: Final = fenced(
    "lease_until = clock_timestamp() + CAST(:lease AS interval)", arrays={}, returning="j.id, j.attempt"
)

_RUNNING: Final = text("""
SELECT id, attempt, cancel_requested_at IS NOT NULL AS cancel_requested
  FROM jobtrail.jobs WHERE node_id = :node AND status = 'running'
""")


async def renew(connection: AsyncConnection, held: Sequence[AttemptRef], *, node: UUID, lease: timedelta) -> None:
    """Put off the end of the leases that are still ours; the others stay as they are.

    Asked of nothing too: a node that holds nothing so finds out that nobody can renew just now, while the table is
    locked for instance, and is not heard of either. So it does not judge those who hold something.
    """
    await execute(connection, _RENEW, {**keys(in_order(held), node), "lease": lease})


async def running_of(connection: AsyncConnection, node: UUID) -> Sequence[RunningAttempt]:
    """What the database says this node runs: the truth to compare with what it holds."""
    rows = (await connection.execute(_RUNNING, {"node": node})).all()
    return [RunningAttempt(row.id, row.attempt, row.cancel_requested) for row in rows]


class Said(NamedTuple):
    """`progress` is JSON text."""

    id: UUID
    attempt: int
    progress: str


_REPORT: Final = fenced("progress = u.progress", arrays={"progress": "jsonb"}, returning="j.id, j.attempt")


async def report(connection: AsyncConnection, said: Sequence[Said], *, node: UUID) -> Collection[AttemptRef]:
    """Those whose rows have it now; the others are no longer ours, or somebody holds their rows."""
    said = in_order(said)
    parameters = {**keys(said, node), "progress": [each.progress for each in said]}
    return {AttemptRef(row.id, row.attempt) for row in await execute(connection, _REPORT, parameters)}
