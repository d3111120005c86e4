"""→ pending, at a due time of a schedule: the schedule moves on and its jobs are born in one statement, or neither."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from jobtrail.db.direct import Statement, fetch_on
from jobtrail.db.engine import Database
from jobtrail.db.tables import SCHEMA
from jobtrail.jobs.insert import Inserted, columns
from jobtrail.jobs.services import Services
from jobtrail.records import NewJob


@dataclass(frozen=True, slots=True)
class ScheduleStep:
    """Plans a schedule anew, if its row is as it was read: its next due time, `was`, becomes `following`.

    `was` None: it had none yet. `following` None: it is never due again. Of the due times in between, `skipped` have no
    job, for this `reason`; the last of these is `last`.
    """

    name: str
    edition: int
    was: datetime | None
    following: datetime | None
    skipped: int = 0
    last: datetime | None = None
    reason: str = "missed"


class Fired(NamedTuple):
    id: UUID
    task: str
    queue: str


_NEW: Final = """
    INSERT INTO jobtrail.jobs (
        id, task, queue, args, trace_id, priority, tags, max_attempts, timeout, run_at, created_at,
        created_by, moved_by, move_reason, ttl, ttl_failed, batch_id, limit_keys, limit_terms, unique_key, replaceable,
        schedule, scheduled_for, exclusive)
    SELECT u.id, u.task, u.queue, u.args, u.trace_id, u.priority, u.tags::text[], u.max_attempts, u.timeout,
           coalesce(u.run_at, statement_timestamp()), statement_timestamp(),
           u.created_by, u.created_by, CAST(:reason AS text), u.ttl, u.ttl_failed, u.batch_id,
           u.limit_keys::text[], u.limit_terms, u.unique_key, u.replaceable, u.schedule, u.scheduled_for, u.exclusive
      FROM wanted u {only}
    ON CONFLICT DO NOTHING"""

_WANTED: Final = """
WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest(
        CAST(:id AS uuid[]), CAST(:task AS text[]), CAST(:queue AS text[]), CAST(:args AS jsonb[]),
        CAST(:trace_id AS text[]), CAST(:priority AS smallint[]), CAST(:tags AS text[]), CAST(:max_attempts AS int[]),
        CAST(:timeout AS interval[]), CAST(:run_at AS timestamptz[]), CAST(:created_by AS text[]),
        CAST(:ttl AS interval[]), CAST(:ttl_failed AS interval[]), CAST(:batch_id AS uuid[]),
        CAST(:limit_keys AS text[]), CAST(:limit_terms AS jsonb[]), CAST(:unique_key AS text[]),
        CAST(:replaceable AS boolean[]), CAST(:schedule AS text[]), CAST(:scheduled_for AS timestamptz[]),
        CAST(:exclusive AS boolean[])
    ) AS u(id, task, queue, args, trace_id, priority, tags, max_attempts, timeout, run_at, created_by, ttl, ttl_failed,
           batch_id, limit_keys, limit_terms, unique_key, replaceable, schedule, scheduled_for, exclusive)
)"""

# A schedule is taken only as it was read: `next_at` tells a due time that another node was quicker with, `edition` a
# schedule that was edited, or deleted and made anew, meanwhile. One that somebody is editing is left to the next tick.
_FIRE: Final = Statement(
    f"""{_WANTED}, steps AS MATERIALIZED (
    SELECT * FROM unnest(
        CAST(:names AS text[]), CAST(:editions AS bigint[]), CAST(:was AS timestamptz[]),
        CAST(:following AS timestamptz[]), CAST(:skipped AS int[]), CAST(:last AS timestamptz[]),
        CAST(:reasons AS text[])) AS t(name, edition, was, following, skipped, last, reason)
), picked AS MATERIALIZED (
    SELECT s.name, t.following, t.skipped, t.last, t.reason
      FROM steps t JOIN jobtrail.schedules s ON s.name = ANY(ARRAY[t.name])
     WHERE s.edition = t.edition AND s.next_at = coalesce(t.was, '-infinity')
       AND s.paused_at IS NULL AND s.disabled_at IS NULL
       FOR NO KEY UPDATE OF s SKIP LOCKED
), moved AS (
    UPDATE jobtrail.schedules s SET next_at = coalesce(p.following, 'infinity') FROM picked p
     WHERE s.name = ANY(ARRAY[p.name]) RETURNING s.name, p.skipped, p.last, p.reason
), born AS ({_NEW.format(only="JOIN moved m ON m.name = u.schedule")}
    RETURNING id, task, queue
), told AS (
    INSERT INTO jobtrail.schedule_skips AS k (schedule, reason, count, last_for)
    SELECT m.name, m.reason, m.skipped, m.last FROM moved m WHERE m.skipped > 0
    UNION ALL
    SELECT u.schedule, 'overlap', count(*), max(u.scheduled_for) FROM wanted u JOIN moved m ON m.name = u.schedule
     WHERE u.id NOT IN (SELECT id FROM born) GROUP BY u.schedule
    ON CONFLICT (schedule, reason) DO UPDATE
       SET count = k.count + excluded.count, last_for = excluded.last_for, last_at = clock_timestamp()
)
SELECT id, task, queue FROM born"""
)

_ALONE: Final = Statement(
    f"""{_WANTED}, born AS ({_NEW.format(only="")} RETURNING id, created_at, coalesce(run_at, due_at) AS due)
SELECT id, created_at, due FROM born"""
)


async def fire(database: Database, steps: Sequence[ScheduleStep], jobs: Sequence[NewJob]) -> Sequence[Fired]:
    """Move these schedules on, those of them that are still as they were read, and store their jobs. An exclusive job
    whose schedule has an unfinished one is not stored; that due time is counted as skipped.
    """
    found = await database.fetch(
        _FIRE, **_arrays(jobs), reason="due",
        names=[each.name for each in steps], editions=[each.edition for each in steps],
        was=[each.was for each in steps], following=[each.following for each in steps],
        skipped=[each.skipped for each in steps], last=[each.last for each in steps],
        reasons=[each.reason for each in steps],
    )  # fmt: skip
    return [Fired(*row) for row in found]


async def fire_by_hand(services: Services, job: NewJob) -> Inserted | None:
    """Store one job of a schedule now; None where it is exclusive and one is unfinished. Raises as `submit`."""
    async with services.transaction() as session:
        stored = await insert_scheduled(await session.connection(), [job], reason="run by hand")
    return stored.get(job.id)


async def insert_scheduled(
    connection: AsyncConnection, jobs: Sequence[NewJob], *, reason: str
) -> Mapping[UUID, Inserted]:
    """In the caller's transaction, and the schedule stays as it is; without those that are excluded."""
    rows = await fetch_on(connection, _ALONE, SCHEMA, **_arrays(jobs), reason=reason)
    return {job_id: Inserted(created_at, due) for job_id, created_at, due in rows}


def _arrays(jobs: Sequence[NewJob]) -> dict[str, Sequence[object] | None]:
    own = {name: [getattr(job, name) for job in jobs] for name in ("schedule", "scheduled_for", "exclusive")}
    return {**columns(jobs), **own}
