"""A failed or cancelled job goes back to pending, by hand."""

from uuid import UUID

from jobtrail.job.errors import JobConflictError, JobNotFoundError
from jobtrail.job.record import Job
from jobtrail.lifecycle.desk import Desk
from jobtrail.store import jobs
from jobtrail.store.transitions import retry as moves


async def retry(desk: Desk, job_id: UUID, *, by: str) -> Job:
    """The job, pending again and due now; its attempts go on counting and one more is allowed.

    Raises JobNotFoundError, JobConflictError, UnavailableError.
    """
    async with desk.transaction() as session:
        moved = await moves.retry(session, job_id, actor=by)
        job = await jobs.get(session, job_id)
    if job is None:
        raise JobNotFoundError(job_id)
    if not moved:
        raise JobConflictError(job_id, job.status, "retried")
    return job
