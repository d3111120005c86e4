"""Changing what does not move a job: ttl and tags of any, priority and run_at of a pending one."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import case, exists, func, or_, update

from jobtrail.db.tables import app_keys, jobs
from jobtrail.errors import JobConflictError, PreconditionError
from jobtrail.jobs.query import get
from jobtrail.jobs.services import Services
from jobtrail.records import Job
from jobtrail.status import Status
from jobtrail.task.submission import Amendment, seconds

KEY_LIFE: Final = timedelta(hours=24)
"""How long an idempotency key is kept at least."""


async def amend(
    services: Services,
    job_id: UUID,
    wanted: Amendment,
    *,
    by: str,
    unchanged: Callable[[Job], bool] = lambda _job: True,
) -> Job:
    """The job with the change, which is in the history of a pending one.

    `unchanged` is asked about the locked row: False raises PreconditionError.
    Raises JobNotFoundError, JobConflictError (priority and run_at need a pending job), UnavailableError.
    """
    async with services.transaction() as session:
        job = await get(session, job_id, lock=True)
        if not unchanged(job):
            raise PreconditionError(f"job {job_id} has changed since you read it; read it again")
        if wanted.model_fields_set & {"priority", "run_at"} and job.status is not Status.PENDING:
            raise JobConflictError(job_id, job.status, "given another priority or run_at")
        if wanted.model_fields_set:
            values = _values(wanted)
            if job.status is Status.PENDING:
                values |= {"seq": jobs.c.seq + 1, "moved_by": by, "move_reason": "changed"}
            await session.execute(update(jobs).where(jobs.c.id == job_id).values(**values))
            job = await get(session, job_id)
        return job


def _values(wanted: Amendment) -> dict[str, Any]:
    """The columns to write. `run_at` None is now, by the database's clock; a new ttl counts from the finish, and None
    keeps the row.
    """
    values: dict[str, Any] = {}
    named = wanted.model_fields_set
    if "priority" in named:
        values["priority"] = wanted.priority
    if "tags" in named:
        values["tags"] = list(wanted.tags)
    if "run_at" in named:
        values["run_at"] = wanted.run_at or func.statement_timestamp()
    if "ttl" in named:
        ttl: Any = None
        if (given := seconds(wanted.ttl)) is not None:
            # a key must be remembered for a day, or a late repeat would run twice; and a callback until it is derived
            has_app_key = exists().where(app_keys.c.job_id == jobs.c.id)
            has_key = or_(jobs.c.idempotency_key.is_not(None), has_app_key, jobs.c.callback_url.is_not(None))
            ttl = case((has_key, func.greatest(given, KEY_LIFE)), else_=given)
        values |= {"ttl": ttl, "ttl_failed": ttl, "expires_at": None if ttl is None else jobs.c.finished_at + ttl}
    return values
