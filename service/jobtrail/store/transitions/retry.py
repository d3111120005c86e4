"""failed, cancelled → pending, by hand. The attempt is never reset: it is half of the fence."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.job.status import Status

RETRIABLE: Final = (Status.FAILED, Status.CANCELLED)

FIT: Final = "jobtrail.jobs.status IN ('failed', 'cancelled')"
"""The same as the index of the jobs that ended badly says it."""

_RETRY: Final = """
UPDATE jobtrail.jobs
   SET status = 'pending', seq = seq + 1, moved_by = :actor, move_reason = 'retried by hand',
       max_attempts = greatest(max_attempts, attempt + 1), run_at = statement_timestamp(),
       result = NULL, error = NULL, progress = NULL, started_at = NULL, finished_at = NULL, expires_at = NULL,
       node_id = NULL, cancel_requested_at = NULL, cancel_requested_by = NULL, cancel_reason = NULL
 WHERE {which} AND {fit}
RETURNING id
"""

_ONE: Final = text(_RETRY.format(which="id = :id", fit=FIT))
_THESE: Final = text(_RETRY.format(which="id = ANY(CAST(:ids AS uuid[]))", fit=FIT))


async def retry(session: AsyncSession, job_id: UUID, *, actor: str) -> bool:
    """Whether the job went back to pending, in the caller's transaction."""
    moved = await session.execute(_ONE, {"id": job_id, "actor": actor})
    return moved.one_or_none() is not None


async def retry_these(session: AsyncSession, ids: Sequence[UUID], *, actor: str) -> int:
    """How many of the jobs went back to pending, in the caller's transaction."""
    moved = await session.execute(_THESE, {"ids": list(ids), "actor": actor})
    return len(moved.all())
