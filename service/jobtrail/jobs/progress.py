"""running stays running: the progress of the jobs that a node really holds. No move, so `seq` stays."""

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from jobtrail.jobs.fence import AttemptRef, fenced


class NewProgress(NamedTuple):
    """The progress of a running attempt, as JSON text."""

    id: UUID
    attempt: int
    progress: str


_REPORT: Final = fenced("progress = u.progress", returning="j.id, j.attempt", progress="jsonb")


async def report(connection: AsyncConnection, new: Sequence[NewProgress], *, node: UUID) -> Collection[AttemptRef]:
    """Write it to the rows; those that have it now. The others are no longer ours, or their rows are locked."""
    return {AttemptRef(*row) for row in await _REPORT.execute_on(connection, _REPORT.values(new, node))}
