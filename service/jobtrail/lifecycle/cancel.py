"""A pending job ends at once; a running one is asked to, by whoever holds it."""

from uuid import UUID

from jobtrail.job.errors import JobFinishedError, JobNotFoundError
from jobtrail.job.record import Job
from jobtrail.job.status import Status
from jobtrail.lifecycle.desk import Desk
from jobtrail.lifecycle.read import read
from jobtrail.store.transitions.cancel import Cancellation


async def cancel(desk: Desk, job_id: UUID, *, by: str, reason: str | None = None, only_of: str | None = None) -> Job:
    """The job afterwards: `cancelled`, or still `running` with a request that is on its way to its node.

    `only_of`: a job that somebody else submitted is not found. Cancelling a cancelled job changes nothing.
    Raises JobNotFoundError, JobFinishedError, UnavailableError.
    """
    status = await desk.cancels.put(Cancellation(job_id, by, reason, only_of))
    if status is None:
        raise JobNotFoundError(job_id)
    if status in (Status.SUCCEEDED, Status.FAILED):
        raise JobFinishedError(job_id, status, "cancelled")
    return await read(desk, job_id, only_of=only_of)
