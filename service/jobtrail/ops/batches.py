"""Batches: jobs that are stored together and counted together, with a job that is submitted once all of them ended.

Their end is looked for after the commit in which a job ended, never within: two that end at once do not see each other.
The node that ended one does so at once, which is a hint; each node looks at all open batches every few seconds. The job
that is submitted then is stored in the transaction that sets `done_at`, so there is exactly one.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import Column, Index, Integer, Table, Text, Uuid, insert, text
from sqlalchemy.ext.asyncio import AsyncConnection

from jobtrail.db.engine import Database
from jobtrail.db.errors import FAILURES, reason
from jobtrail.db.tables import TIME, Json, metadata
from jobtrail.errors import BatchNotFoundError, FieldError, InvalidInputError, UnavailableError
from jobtrail.ids import Trace, new_job_id
from jobtrail.jobs.after import require_parents
from jobtrail.jobs.bulk import Action, Bulk, bulk
from jobtrail.jobs.insert import Inserted, insert_rows
from jobtrail.jobs.query import Filter
from jobtrail.jobs.services import Services, require_rights
from jobtrail.jobs.submit import born, prepare_all, prepare_at
from jobtrail.jobs.submit import store as store_jobs
from jobtrail.records import Batch, Job, NewJob
from jobtrail.task.submission import Submission

log = logging.getLogger(__name__)

TOGETHER: Final = 100
"""Batches that are done in one commit, at most."""


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch to be stored together with its jobs; `on_done` is a job that is checked already."""

    id: UUID
    total: int
    created_by: str
    on_done: NewJob | None


TABLE: Final = Table(
    "batches",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("total", Integer, nullable=False),
    Column("on_done", Json(none_as_null=True)),
    Column("created_by", Text, nullable=False),
    Column("created_at", TIME, nullable=False, server_default=text("clock_timestamp()")),
    Column("done_at", TIME),
    Column("succeeded", Integer),
    Column("failed", Integer),
    Column("cancelled", Integer),
    Index("ix_batches_open", "id", postgresql_where=text("done_at IS NULL")),
    info={"rights": "SELECT, INSERT, UPDATE, DELETE"},
)

_JOB: Final = TypeAdapter(NewJob)

NO_UNIQUE: Final = "the jobs of a batch have no unique keys: the one that has a key may be none of them"


async def submit_batch(
    services: Services,
    wanted: Sequence[Submission],
    on_done: Submission | None = None,
    *,
    by: str,
    trace: Trace | None = None,
    only_of: str | None = None,
) -> tuple[Batch, Sequence[Job]]:
    """Store the jobs and their batch, or none of it; `on_done` is submitted once all of them ended.

    Raises as `submit` does; pointers begin with `/jobs/INDEX` or `/on_done`.
    """
    with services.admission.admit(len(wanted)):
        rows = prepare_all(services, wanted, by=by, trace=trace)
        last = prepare_at(services, "/on_done", on_done, by=by, trace=trace) if on_done else None
        flaws = [FieldError(f"{pointer}/unique_key", NO_UNIQUE) for pointer, row in rows if row.unique_key is not None]
        if last is not None and last.unique_key is not None:
            flaws.append(FieldError("/on_done/unique_key", NO_UNIQUE))
        if flaws:
            raise InvalidInputError(flaws)
        batch = NewBatch(new_job_id(), len(rows), by, last)
        for _, row in rows:
            row.batch_id = batch.id
        await require_rights(services)
        stored = await store_jobs(services, rows, only_of=only_of, beside=partial(store, new=batch, only_of=only_of))
    services.has_batches.set()
    births = [(row, stored[row.id]) for _, row in rows]
    return await read(services, batch.id), [born(row, each) for row, each in births if isinstance(each, Inserted)]


async def store(connection: AsyncConnection, new: NewBatch, only_of: str | None = None) -> None:
    """In the transaction that stores its jobs. Raises InvalidInputError for an unknown id in the `after` of its end."""
    if new.on_done is not None:
        await require_parents(connection, [("/on_done", new.on_done)], only_of=only_of)
    on_done = None if new.on_done is None else _JOB.dump_python(new.on_done, mode="json")
    await connection.execute(
        insert(TABLE).values(id=new.id, total=new.total, created_by=new.created_by, on_done=on_done)
    )


async def store_batches(connection: AsyncConnection, *, services: Services, new: Sequence[NewBatch]) -> None:
    """As `store`, for several."""
    for each in new:
        await store(connection, each)
    services.has_batches.set()


# Once rows were purged, the numbers are those that were kept.
_READ: Final = text("""
SELECT b.id, b.total, n.pending, n.running,
       CASE WHEN kept THEN b.succeeded ELSE n.succeeded END AS succeeded,
       CASE WHEN kept THEN b.failed ELSE n.failed END AS failed,
       CASE WHEN kept THEN b.cancelled ELSE n.cancelled END AS cancelled,
       b.created_at, b.created_by, b.done_at,
       CASE WHEN b.done_at IS NOT NULL THEN CAST(b.on_done ->> 'id' AS uuid) END AS on_done
  FROM jobtrail.batches b CROSS JOIN LATERAL (
       SELECT count(*) FILTER (WHERE status = 'pending') AS pending,
              count(*) FILTER (WHERE status = 'running') AS running,
              count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
              count(*) FILTER (WHERE status = 'failed') AS failed,
              count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
              b.done_at IS NOT NULL AND count(*) < b.total AS kept
         FROM jobtrail.jobs WHERE batch_id = ANY(ARRAY[b.id])) n
 WHERE b.id = :id AND b.created_by = coalesce(:only_of, b.created_by)
""")


async def read(services: Services, batch_id: UUID, *, only_of: str | None = None) -> Batch:
    """Raises BatchNotFoundError, also for a batch that another than `only_of` submitted; UnavailableError."""
    async with services.session() as session:
        row = (await session.execute(_READ, {"id": batch_id, "only_of": only_of})).mappings().one_or_none()
    if row is None:
        raise BatchNotFoundError(batch_id)
    open_ones = row["pending"] + row["running"]
    purged = max(0, row["total"] - open_ones - row["succeeded"] - row["failed"] - row["cancelled"])
    return Batch(**row, purged=purged, progress=(row["total"] - open_ones) / row["total"])


async def move(
    services: Services,
    batch_id: UUID,
    action: Action,
    *,
    by: str,
    reason: str | None = None,
    only_of: str | None = None,
) -> Bulk:
    """Cancel or retry the jobs of a batch, each as if it were named alone. Raises as `read` and `bulk` do."""
    await read(services, batch_id, only_of=only_of)  # there is such a batch
    return await bulk(services, action, Filter(batch_id=batch_id), by=by, reason=reason)


# SKIP LOCKED: another node that does the same is no reason to wait. `done_at` is judged again under the lock.
_DONE: Final = """
UPDATE jobtrail.batches b
   SET done_at = statement_timestamp(), succeeded = n.succeeded, failed = n.failed, cancelled = n.cancelled
  FROM (SELECT id FROM jobtrail.batches o
         WHERE done_at IS NULL AND {which} AND NOT EXISTS (
               SELECT FROM jobtrail.jobs j WHERE j.batch_id = ANY(ARRAY[o.id]) AND j.status IN ('pending', 'running'))
         ORDER BY id LIMIT :most FOR UPDATE SKIP LOCKED) ended
 CROSS JOIN LATERAL (
       SELECT count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
              count(*) FILTER (WHERE status = 'failed') AS failed,
              count(*) FILTER (WHERE status = 'cancelled') AS cancelled
         FROM jobtrail.jobs j WHERE j.batch_id = ANY(ARRAY[ended.id])) n
 WHERE b.id = ended.id AND b.done_at IS NULL
RETURNING b.id, CAST(b.on_done AS text) AS on_done
"""

_ANY: Final = text(_DONE.format(which="true"))

_OF_JOBS: Final = text(
    _DONE.format(
        which="""id = ANY(ARRAY(
               SELECT m.batch_id FROM unnest(CAST(:jobs AS uuid[])) AS u(id)
                 JOIN jobtrail.jobs m ON m.id = ANY(ARRAY[u.id]) WHERE m.batch_id IS NOT NULL))"""
    )
)

_LOOK: Final = text("""
SELECT EXISTS (SELECT FROM jobtrail.edges) AS edges,
       EXISTS (SELECT FROM jobtrail.batches WHERE done_at IS NULL) AS batches
""")


async def look(services: Services) -> None:
    """Note whether there is anything that `finish_all`, and `sweep` of the jobs that come after others, would look at;
    in one statement, as idle nodes do it too.
    """
    async with services.database.autocommit() as connection:
        found = (await connection.execute(_LOOK)).one()
    for is_there, flag in ((found.edges, services.has_edges), (found.batches, services.has_batches)):
        flag.set() if is_there else flag.clear()


async def finish_all(services: Services) -> bool:
    """Finish every batch whose jobs have ended, whoever ended them; whether a job was submitted for it.

    Any node may do so at any time.
    """
    return await _finish(services.database, None)


async def hint(services: Services, job_id: UUID) -> bool:
    """The same for the batch of a job that ended just now, if it has one; what fails here is left to `finish_all`."""
    try:
        return await services.group(_finish_group).put(job_id)
    except (UnavailableError, *FAILURES) as error:
        log.debug("a batch is finished later: %s", reason(error))
        return False


async def _finish_group(database: Database, job_ids: Sequence[UUID]) -> Sequence[bool]:
    return [await _finish(database, job_ids)] * len(job_ids)


async def _finish(database: Database, job_ids: Sequence[UUID] | None) -> bool:
    """Mark the batches whose jobs have all ended as done, and submit their `on_done`; whether there was any to submit.

    Looks at the batches of these jobs, or at all that are open; in commits of at most `TOGETHER` batches.
    """
    submitted, count = False, TOGETHER
    while count == TOGETHER:
        async with database.transaction() as session:
            asked: Mapping[str, object] = {"most": TOGETHER, "jobs": list(job_ids or ())}
            done = (await session.execute(_ANY if job_ids is None else _OF_JOBS, asked)).all()
            last = [_JOB.validate_json(each.on_done) for each in done if each.on_done is not None]
            await insert_rows(await session.connection(), last)
        count, submitted = len(done), submitted or bool(last)
    return submitted


_FORGET: Final = text("""
DELETE FROM jobtrail.batches b WHERE done_at < statement_timestamp() - CAST(:age AS interval)
   AND NOT EXISTS (SELECT FROM jobtrail.jobs WHERE batch_id = b.id)
""")


async def forget(database: Database, *, age: timedelta | None) -> None:
    """Remove batches that were done longer than `age` ago and have no jobs any more; None keeps them for ever."""
    if age is not None:
        async with database.autocommit() as connection:
            await connection.execute(_FORGET, {"age": age})
