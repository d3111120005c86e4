"""failed, cancelled → pending, by hand. The attempt is never reset: it is half of the fence."""

from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_RETRY: Final = text("""
UPDATE jobtrail.jobs
   SET status = 'pending', seq = seq + 1, moved_by = :actor, move_reason = 'retried by hand',
       max_attempts = greatest(max_attempts, attempt + 1), run_at = statement_timestamp(),
       result = NULL, error = NULL, progress = NULL, started_at = NULL, finished_at = NULL, expires_at = NULL,
       node_id = NULL, cancel_requested_at = NULL, cancel_requested_by = NULL, cancel_reason = NULL
 WHERE id = :id AND status IN ('failed', 'cancelled')
RETURNING id
""")


async def retry(session: AsyncSession, job_id: UUID, *, actor: str) -> bool:
    """Whether the job went back to pending, in the caller's transaction."""
    moved = await session.execute(_RETRY, {"id": job_id, "actor": actor})
    return moved.one_or_none() is not None
