"""failed, cancelled → pending, by hand. The attempt is never reset: it is half of the fence."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.errors import JobConflictError
from jobtrail.jobs.after import hint_of
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
            held_by = (await session.execute(_HELD_BY, {"id": job_id})).scalars().first()
            raise JobConflictError(job_id, job.status, "retried", held_by)
    await hint_of(services, [job])
    return job


_TAKEN_MEANWHILE: Final = "23505"
"""A unique key was taken after the statement began (PostgreSQL, "Error Codes")."""

RETRIABLE: Final = (Status.FAILED, Status.CANCELLED)

FIT: Final = "jobtrail.jobs.status IN ('failed', 'cancelled')"
"""The same as the index of the jobs that ended badly says it."""

# Parents that will not succeed, unless they are retried themselves.
_HOPELESS: Final = """
SELECT p.id, jobtrail.outcome_of(p.id) AS outcome FROM unnest(j.after) AS p(id)
 WHERE jobtrail.outcome_of(p.id) IN ('failed', 'cancelled', 'unknown')"""

# One that has begun before is never the one that waits.
_TAKEN: Final = """
SELECT o.id FROM jobtrail.jobs o
 WHERE o.unique_key = j.unique_key AND NOT o.replaceable AND o.status || '' IN ('pending', 'running')
   AND NOT j.replaceable
UNION ALL
SELECT o.id FROM jobtrail.jobs o
 WHERE o.unique_key = j.unique_key AND o.replaceable AND o.status || '' = 'pending' AND o.attempt = 0
   AND j.replaceable AND j.attempt = 0"""

_HELD_BY: Final = text(f"""
SELECT format('it comes after job %s, which is %s', p.id, p.outcome)
  FROM jobtrail.jobs j CROSS JOIN LATERAL ({_HOPELESS}) p
 WHERE j.id = :id AND j.status IN ('failed', 'cancelled')
UNION ALL
SELECT format('job %s has its unique key and is not finished', t.id)
  FROM jobtrail.jobs j CROSS JOIN LATERAL ({_TAKEN}) t
 WHERE j.id = :id AND j.status IN ('failed', 'cancelled')
""")

# A job that comes after others waits again for those that did not succeed: `follow` of the migrations sees to it.
# exclusive: by hand a job of a schedule may run beside its next one, else one of them would refuse a whole batch
_RETRY: Final = text(f"""
UPDATE jobtrail.jobs j
   SET status = 'pending', seq = seq + 1, moved_by = :actor, move_reason = 'retried by hand',
       max_attempts = greatest(max_attempts, attempt + 1), run_at = statement_timestamp(),
       result = NULL, error = NULL, progress = NULL, started_at = NULL, finished_at = NULL, expires_at = NULL,
       node_id = NULL, cancel_requested_at = NULL, cancel_requested_by = NULL, cancel_reason = NULL,
       exclusive = NULL
  FROM (SELECT DISTINCT ON (once) k.id, CASE WHEN k.unique_key IS NULL OR k.replaceable AND k.attempt > 0
                                             THEN CAST(k.id AS text)
                                             ELSE format('%s:%s', k.replaceable, k.unique_key) END AS once
          FROM unnest(CAST(:ids AS uuid[])) AS v(id) JOIN jobtrail.jobs k ON k.id = ANY(ARRAY[v.id])
         WHERE k.status || '' IN ('failed', 'cancelled') ORDER BY once, k.id DESC) AS u
 WHERE j.id = ANY(ARRAY[u.id]) AND j.status || '' IN ('failed', 'cancelled')
   AND (j.after IS NULL OR NOT EXISTS ({_HOPELESS}))
   AND (j.unique_key IS NULL OR NOT EXISTS ({_TAKEN}))
RETURNING j.id
""")


async def retry_these(session: AsyncSession, ids: Sequence[UUID], *, actor: str) -> int:
    """Moves those of the jobs that failed or were cancelled, in the caller's transaction; how many.

    Left as it is: a job that comes after one which failed or was cancelled and is not among them, and one whose unique
    key another unfinished one has. Of several with the same key the newest is moved.
    """
    left = set(ids)
    while left:
        try:
            async with session.begin_nested():
                moved = set((await session.execute(_RETRY, {"ids": list(left), "actor": actor})).scalars())
        except IntegrityError as error:
            if getattr(error.orig, "sqlstate", None) != _TAKEN_MEANWHILE:
                raise
            continue  # then it is seen
        left -= moved
        if not moved:
            break
    return len(ids) - len(left)
