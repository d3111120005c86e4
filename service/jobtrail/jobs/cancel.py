"""pending → cancelled. A running job gets a request; it becomes cancelled in `finish`, or in `rescue`.

`bulk`, `after` and `on_full` cancel by these statements too.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from jobtrail.db.engine import Database
from jobtrail.errors import FieldError, InvalidInputError, JobFinishedError, JobNotFoundError
from jobtrail.jobs.query import read
from jobtrail.jobs.services import Services
from jobtrail.ranges import MAX_REASON
from jobtrail.records import Job
from jobtrail.status import Status
from jobtrail.task.storable import check


async def cancel(
    services: Services, job_id: UUID, *, by: str, reason: str | None = None, only_of: str | None = None
) -> Job:
    """The job afterwards: `cancelled`, or still `running` with a request that is on its way to its node.

    `only_of`: a job of another caller is not found. Cancelling a cancelled job changes nothing.
    Raises InvalidInputError for a reason that cannot be kept, JobNotFoundError, JobFinishedError, UnavailableError.
    """
    status = await services.group(cancel_group).put(Cancellation(job_id, by, reason_of(reason), only_of))
    if status is None:
        raise JobNotFoundError(job_id)
    if status in (Status.SUCCEEDED, Status.FAILED):
        raise JobFinishedError(job_id, status, "cancelled")
    return await read(services, job_id, only_of=only_of)


def reason_of(text: str | None) -> str | None:
    """The reason as it is kept: None where the text is empty. Raises InvalidInputError."""
    flaws = check(text)
    if text is not None and len(text) > MAX_REASON:
        flaws.append(FieldError("", f"at most {MAX_REASON} characters"))
    if flaws:
        raise InvalidInputError([flaw.under("/reason") for flaw in flaws])
    return text or None


CANCELLABLE: Final = (Status.PENDING, Status.RUNNING)

FIT: Final = """(jobtrail.jobs.status = 'pending'
    OR jobtrail.jobs.status = 'running' AND jobtrail.jobs.cancel_requested_at IS NULL)"""
"""As alternatives, each of which has an index of its own. A running job with a request does not fit."""


class Cancellation(NamedTuple):
    """`only_of`: a job of another caller stays as it is, and is not found."""

    id: UUID
    actor: str
    reason: str | None
    only_of: str | None = None


# Each caller keeps its own actor and reason, also within one group. The first request on a running job stands.
_CANCEL: Final = text("""
UPDATE jobtrail.jobs j
   SET status = CASE j.status WHEN 'pending' THEN 'cancelled' ELSE j.status END,
       seq = j.seq + CASE j.status WHEN 'pending' THEN 1 ELSE 0 END,
       moved_by = CASE j.status WHEN 'pending' THEN u.actor ELSE j.moved_by END,
       move_reason = CASE j.status WHEN 'pending' THEN coalesce(u.reason, 'cancelled') ELSE j.move_reason END,
       finished_at = CASE j.status WHEN 'pending' THEN statement_timestamp() END,
       expires_at = CASE j.status WHEN 'pending' THEN statement_timestamp() + j.ttl_failed END,
       cancel_requested_at = coalesce(j.cancel_requested_at, statement_timestamp()),
       cancel_requested_by = coalesce(j.cancel_requested_by, u.actor),
       cancel_reason = CASE WHEN j.cancel_requested_at IS NULL THEN u.reason ELSE j.cancel_reason END
  FROM unnest(CAST(:id AS uuid[]), CAST(:actor AS text[]), CAST(:reason AS text[]), CAST(:only_of AS text[]))
       AS u(id, actor, reason, only_of)
 WHERE j.id = ANY(ARRAY[u.id]) AND j.status || '' IN ('pending', 'running')
   AND j.created_by = coalesce(u.only_of, j.created_by)
RETURNING j.id, j.status, j.created_by
""")

_STATUS: Final = text("""
SELECT j.id, j.status, j.created_by
  FROM unnest(CAST(:ids AS uuid[])) AS u(id) JOIN jobtrail.jobs j ON j.id = ANY(ARRAY[u.id])
""")


async def cancel_group(database: Database, rows: Sequence[Cancellation]) -> Sequence[Status | None]:
    """What each job is afterwards: cancelled, still running (with a request), as it ended before, or None: no row."""
    async with database.autocommit() as connection:
        found = await cancel_rows(connection, rows)
        missing = [row.id for row in rows if row.id not in found]
        if missing:
            others = await connection.execute(_STATUS, {"ids": missing})
            found |= {row.id: (Status(row.status), row.created_by) for row in others}
    told = []
    for row in rows:
        status, created_by = found.get(row.id, (None, ""))
        # one group may hold the same job for its submitter and for another caller
        told.append(status if row.only_of in (None, created_by) else None)
    return told


async def cancel_these(session: AsyncSession, ids: Sequence[UUID], *, actor: str, reason: str | None) -> int:
    """How many of the jobs were cancelled or, where they run, asked to stop; in the caller's transaction."""
    rows = [Cancellation(job_id, actor, reason) for job_id in ids]
    return len(await cancel_rows(await session.connection(), rows))


async def cancel_rows(connection: AsyncConnection, rows: Sequence[Cancellation]) -> dict[UUID, tuple[Status, str]]:
    """The status of those that were pending or running, and who submitted them."""
    parameters = {name: [getattr(row, name) for row in rows] for name in Cancellation._fields}
    return {row.id: (Status(row.status), row.created_by) for row in await connection.execute(_CANCEL, parameters)}
