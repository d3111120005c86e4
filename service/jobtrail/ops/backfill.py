"""Backfill of a schedule: a job for each of its due times within a time that has passed, counted as one batch.

The schedule itself goes on as if there were none: its next due time stays, and none of its jobs is skipped for these.
Unless it allows both, these run one after the other, oldest first, in the lane of those that queue behind each other.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile

from jobtrail.db.engine import clock
from jobtrail.db.group_commit import MOST_BYTES, MOST_ROWS
from jobtrail.errors import FieldError, InvalidInputError
from jobtrail.ids import new_job_id
from jobtrail.jobs.fire import insert_scheduled
from jobtrail.jobs.services import Services, require_rights
from jobtrail.ops import batches
from jobtrail.ops.batches import NewBatch
from jobtrail.ops.schedules import find, job_of
from jobtrail.ranges import FIRST_TIME, MAX_BATCHED
from jobtrail.records import NewJob
from jobtrail.task.schedule import SHOWN_TIMES, Backfill, Schedule, ScheduleSpec, Timetable

log = logging.getLogger(__name__)


async def backfill(
    services: Services, name: str, since: datetime, until: datetime, *, by: str, dry_run: bool = False
) -> Backfill:
    """Store a job for each due time from `since` on and before `until`, whatever jobs there are of them already, and
    whether the schedule is paused or not; or only tell the due times.

    Raises ScheduleNotFoundError, InvalidInputError for a time without due times, with too many, or that is not over,
    UnknownTaskError, InvalidArgumentsError, UnavailableError: nothing is stored, unless it is an OutcomeUnknownError.
    """
    async with services.session() as session:
        schedule = await find(session, name)
        now = await clock(session)
    if until > now:
        advice = f"due times to come become jobs by themselves: write a time up to now, {_written(now)}"
        raise InvalidInputError([FieldError("/until", advice)])
    if since >= until:
        raise InvalidInputError([FieldError("/until", "this is not after from: give a later time, or an earlier from")])
    spec = schedule.spec()
    # ten thousand times of cron take a second
    times = await asyncio.to_thread(_due_times, Timetable(spec, schedule.edited_at), since, until)
    first = _job(services, schedule, spec, times[0], by)
    if first.unique_key is not None:
        raise InvalidInputError([FieldError("{name}", f"{batches.NO_UNIQUE}, as those of the task {first.task} have")])
    found = Backfill(name, dry_run, len(times), times[:SHOWN_TIMES], None)
    if dry_run:
        return found
    await require_rights(services)
    batch = NewBatch(new_job_id(), len(times), by, None)
    jobs = (replace(_job(services, schedule, spec, each, by), batch_id=batch.id) for each in times)
    await _store(services, batch, jobs, rows=max(1, min(MOST_ROWS, MOST_BYTES // len(first.args_json))))
    services.database.hints.send(first.queue)
    log.info("schedule backfilled", extra={"schedule": name, "by": by, "jobs": len(times), "batch": str(batch.id)})
    return replace(found, batch_id=batch.id)


def _due_times(table: Timetable, since: datetime, until: datetime) -> Sequence[datetime]:
    """Raises InvalidInputError."""
    following = table.following(max(since, FIRST_TIME).astimezone(UTC) - timedelta(microseconds=1))
    times = list(islice(takewhile(lambda due: due < until, following), MAX_BATCHED + 1))
    if not times:
        after = table.after(until - timedelta(microseconds=1))
        when = "none is later" if after is None else f"the next one is {_written(after)}"
        raise InvalidInputError([FieldError("/until", f"the schedule has no due time from `from` until then: {when}")])
    if len(times) > MAX_BATCHED:
        advice = (
            f"there are more than {MAX_BATCHED} due times from `from` until then, and a batch has at most so many "
            f"jobs: write {_written(times[-1])}, and go on from there"
        )
        raise InvalidInputError([FieldError("/until", advice)])
    return times


def _written(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _job(services: Services, schedule: Schedule, spec: ScheduleSpec, due: datetime, by: str) -> NewJob:
    """None excludes a job that comes due, and none is skipped for another; so what would be waits its turn."""
    turns = spec if spec.overlap == "allow" else spec.model_copy(update={"overlap": "queue"})
    return job_of(services, schedule, turns, by=by, scheduled_for=due)


async def _store(services: Services, batch: NewBatch, jobs: Iterator[NewJob], *, rows: int) -> None:
    """All or none of it, so many rows in a statement. Jobs of one lane have the order in which they are stored."""
    async with services.transaction() as session:
        connection = await session.connection()
        await batches.store(connection, batch)
        while some := list(islice(jobs, rows)):
            await insert_scheduled(connection, some, reason="backfill")
    services.has_batches.set()
    services.has_limited.set()
