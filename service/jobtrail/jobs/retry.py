"""failed, cancelled → pending, by hand. The attempt is never reset: it is half of the fence."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.errors import JobConflictError
from jobtrail.jobs.query import get
from jobtrail.jobs.services import Services
from jobtrail.records import Job
from jobtrail.status import Status


async def retry(services: Services, job_id: UUID, *, by: str) -> Job:
    """The job, pending again and due now; its attempts go on counting and one more is allowed.

    Raises JobNotFoundError, JobConflictError, UnavailableError.
    """
    async with services.transaction() as session:
        moved = await retry_these(session, [job_id], actor=by)
        job = await get(session, job_id)
    if not moved:
        raise JobConflictError(job_id, job.status, "retried")
    return job


RETRIABLE: Final = (Status.FAILED, Status.CANCELLED)

FIT: Final = "jobtrail.jobs.status IN ('failed', 'cancelled')"
"""The same as the index of the jobs that ended badly says it."""

# exclusive: by hand a job of a schedule may run beside its next one, else one of them would refuse a whole batch
_RETRY: Final = text("""
UPDATE jobtrail.jobs j
   SET status = 'pending', seq = seq + 1, moved_by = :actor, move_reason = 'retried by hand',
       max_attempts = greatest(max_attempts, attempt + 1), run_at = statement_timestamp(),
       result = NULL, error = NULL, progress = NULL, started_at = NULL, finished_at = NULL, expires_at = NULL,
       node_id = NULL, cancel_requested_at = NULL, cancel_requested_by = NULL, cancel_reason = NULL,
       exclusive = NULL
  FROM unnest(CAST(:ids AS uuid[])) AS u(id)
 WHERE j.id = ANY(ARRAY[u.id]) AND j.status || '' IN ('failed', 'cancelled')
RETURNING j.id
""")


async def retry_these(session: AsyncSession, ids: Sequence[UUID], *, actor: str) -> int:
    """Moves those of the jobs that failed or were cancelled, in the caller's transaction; how many."""
    moved = await session.execute(_RETRY, {"ids": list(ids), "actor": actor})
    return len(moved.all())
