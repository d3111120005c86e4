"""Changing what does not move a job: ttl and tags of any, priority and run_at of a pending one."""

from collections.abc import Callable
from uuid import UUID

from jobtrail.job.errors import JobConflictError, JobNotFoundError, PreconditionError
from jobtrail.job.record import Job
from jobtrail.job.status import Status
from jobtrail.job.submission import Amendment, seconds
from jobtrail.lifecycle.desk import Desk
from jobtrail.store import amend as rows
from jobtrail.store import jobs


async def amend(
    desk: Desk, job_id: UUID, wanted: Amendment, *, unchanged: Callable[[Job], bool] = lambda _job: True
) -> Job:
    """The job with the change. `unchanged` is asked about the locked row: False raises PreconditionError.

    Raises JobNotFoundError, JobConflictError (priority and run_at need a pending job), UnavailableError.
    """
    change = rows.Change(
        fields=frozenset(wanted.model_fields_set),
        ttl=seconds(wanted.ttl),
        priority=wanted.priority,
        run_at=wanted.run_at,
        tags=wanted.tags,
    )
    async with desk.transaction() as session:
        job = await jobs.get(session, job_id, lock=True)
        if job is None:
            raise JobNotFoundError(job_id)
        if not unchanged(job):
            raise PreconditionError(f"job {job_id} has changed since you read it; read it again")
        if change.needs_pending and job.status is not Status.PENDING:
            raise JobConflictError(job_id, job.status, "given another priority or run_at")
        if change.fields:
            await rows.amend(session, job_id, change)
            job = await jobs.get(session, job_id)
        if job is None:
            raise JobNotFoundError(job_id)
        return job
