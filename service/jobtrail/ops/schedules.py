"""Schedules: jobs at times that are rows. Code declares them (`declarations`), or an operator makes them here or in
psql; a tick of any node makes the jobs (`due`).

The database stamps each edit: its edition, by whom and when, and that it overrides what the code declares.
"""

import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from datetime import datetime
from itertools import islice
from typing import Any, Final

from sqlalchemy import BigInteger, Column, Index, Integer, Interval, SmallInteger, Table, Text, bindparam, text
from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail import errors, ranges
from jobtrail.db.tables import TEXTS, TIME, Json, metadata
from jobtrail.jobs.cancel import reason_of
from jobtrail.jobs.fire import fire_by_hand
from jobtrail.jobs.query import Filter, Page, read_page
from jobtrail.jobs.services import Services, require_rights
from jobtrail.jobs.submit import born, prepare
from jobtrail.records import Job, NewJob
from jobtrail.task.limit import with_key
from jobtrail.task.schedule import Detail, Schedule, ScheduleSpec, Timetable, flaws_of
from jobtrail.task.storable import check, dump
from jobtrail.task.submission import Submission, seconds

log = logging.getLogger(__name__)


DEFINITION: Final = tuple(ScheduleSpec.model_fields)
"""The columns that a schedule is defined by; an edit of one of them is another edition."""

TABLE: Final = Table(
    "schedules",
    metadata,
    Column("name", Text, primary_key=True),
    Column("task", Text, nullable=False),
    Column("args", Json, nullable=False, server_default=text("'{}'")),
    Column("cron", Text),
    Column("every", Interval),
    Column("zone", Text, nullable=False, server_default="UTC"),
    Column("missed", Text, nullable=False, server_default="once"),
    Column("overlap", Text, nullable=False, server_default="skip"),
    Column("jitter", Interval, nullable=False, server_default=text("'0'")),
    Column("starts_at", TIME),
    Column("ends_at", TIME),
    Column("queue", Text),
    Column("priority", SmallInteger),
    Column("tags", TEXTS, nullable=False, server_default=text("'{}'")),
    Column("pause_after", Integer),
    Column("next_at", TIME, nullable=False, server_default=text("'-infinity'")),
    Column("edition", BigInteger, nullable=False),
    Column("edited_at", TIME, nullable=False),
    Column("edited_by", Text, nullable=False),
    Column("resumed_at", TIME),
    Column("paused_at", TIME),
    Column("paused_by", Text),
    Column("pause_reason", Text),
    Column("disabled_at", TIME),
    Column("declared", Text),
    Column("override_at", TIME),
    Column("override_by", Text),
    Index(
        "ix_schedules_due",
        "next_at",
        postgresql_where=text("paused_at IS NULL AND disabled_at IS NULL"),
    ),
    info={"rights": "SELECT, INSERT, UPDATE, DELETE"},
)

SKIPS: Final = Table(
    "schedule_skips",
    metadata,
    Column("schedule", Text, primary_key=True),
    Column("reason", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("last_for", TIME, nullable=False),
    Column("last_at", TIME, nullable=False, server_default=text("clock_timestamp()")),
    info={"rights": "SELECT, INSERT, UPDATE"},
)

_EXPRESSIONS: Final = {
    "state": "CASE WHEN paused_at IS NOT NULL THEN 'paused' WHEN disabled_at IS NOT NULL THEN 'disabled'"
    " WHEN next_at = 'infinity' THEN 'ended' ELSE 'active' END",
    "args": "CAST(args AS text)",
    "next_at": "CASE WHEN paused_at IS NULL AND disabled_at IS NULL AND isfinite(next_at) THEN next_at END",
    "declared": "declared IS NOT NULL",
}

COLUMNS: Final = ", ".join(f"{_EXPRESSIONS.get(each.name, each.name)} AS {each.name}" for each in fields(Schedule))
"""What a Schedule is read from."""


def args_of(text: str) -> dict[str, Any]:
    """The arguments, whatever somebody wrote in psql: those that cannot be read fit no task."""
    try:
        found: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError) as error:
        return {"(unreadable)": str(error)[:200]}
    return found


class _Args(Json):
    cache_ok = True

    def process_result_value(self, value: str | None, _dialect: object) -> Any:
        return args_of(value or "{}")


_ONE: Final = f"SELECT {COLUMNS} FROM jobtrail.schedules WHERE name = :name"
_READ: Final = text(_ONE).columns(args=_Args)
_LOCK: Final = text(f"{_ONE} FOR NO KEY UPDATE").columns(args=_Args)
_LIST: Final = text(f"SELECT {COLUMNS} FROM jobtrail.schedules WHERE name > :after ORDER BY name LIMIT :most").columns(
    args=_Args
)
_SKIPPED: Final = text(
    "SELECT reason, count AS times FROM jobtrail.schedule_skips WHERE schedule = :name ORDER BY reason"
)

# The database writes it to the row, which may be edited in psql too.
_ACTOR: Final = text("SELECT set_config('jobtrail.actor', :actor, true), clock_timestamp() AS now")

_PUT: Final = text(f"""
INSERT INTO jobtrail.schedules (name, {", ".join(DEFINITION)})
VALUES (:name, {", ".join("CAST(:args AS jsonb)" if each == "args" else f":{each}" for each in DEFINITION)})
ON CONFLICT (name) DO UPDATE SET {", ".join(f"{each} = excluded.{each}" for each in DEFINITION)}
""").bindparams(*(bindparam(each, type_=TABLE.c[each].type) for each in DEFINITION if each != "args"))  # fmt: skip

_PAUSE: Final = text("""
UPDATE jobtrail.schedules SET paused_at = clock_timestamp(), pause_reason = :reason
 WHERE name = :name AND paused_at IS NULL
""")
_RESUME: Final = text("UPDATE jobtrail.schedules SET paused_at = NULL WHERE name = :name AND paused_at IS NOT NULL")
_DELETE: Final = text("DELETE FROM jobtrail.schedules WHERE name = :name RETURNING name")


async def put(
    services: Services,
    name: str,
    wanted: ScheduleSpec,
    *,
    by: str,
    unchanged: Callable[[Schedule | None], bool] = lambda _: True,
) -> Schedule:
    """The schedule, made or replaced as a whole; an edit counts from now on, and stands against what code declares.

    `unchanged` is asked about the locked row, None for a new one: False raises PreconditionError.
    Raises InvalidInputError, UnknownTaskError, InvalidArgumentsError, UnavailableError.
    """
    require_name(name)
    if flaws := flaws_of(wanted):
        raise errors.InvalidInputError(flaws)
    try:
        services.catalog[wanted.task].signature.check(wanted.args)
    except errors.InvalidArgumentsError as error:
        raise error.under("/args") from None
    values = wanted.model_dump() | {"every": seconds(wanted.every), "jitter": seconds(wanted.jitter)}
    async with services.transaction() as session:
        now = (await session.execute(_ACTOR, {"actor": by})).one().now
        if Timetable(wanted, now).after(now) is None:
            raise errors.InvalidInputError([errors.FieldError("/ends_at", "no due time is left before it")])
        before = (await session.execute(_LOCK, {"name": name})).one_or_none()
        if not unchanged(None if before is None else Schedule(*before)):
            raise errors.PreconditionError(f"the schedule {name} has changed since you read it; read it again")
        await session.execute(_PUT, values | {"name": name, "args": dump(wanted.args)})
        found = await find(session, name)
    log.info("schedule put", extra={"schedule": name, "by": by})
    return found


def require_name(name: str) -> None:
    """Raises InvalidInputError."""
    if re.fullmatch(ranges.TASK_PATTERN, name) is None:
        how = f"write letters, digits and _ . : - after a letter or _, at most {ranges.MAX_TASK} of them"
        raise errors.InvalidInputError([errors.FieldError("{name}", how)])


def job_of(
    services: Services, schedule: Schedule, spec: ScheduleSpec, *, by: str,
    scheduled_for: datetime | None = None, run_at: datetime | None = None,
) -> NewJob:  # fmt: skip
    """One of its jobs, ready to be stored. Raises UnknownTaskError, InvalidArgumentsError: it could not run."""
    said = {"queue": spec.queue, "priority": spec.priority, "tags": spec.tags, "run_at": run_at}
    new = prepare(services, Submission(task=spec.task, args=spec.args, **said), by=by, trace=None)
    exclusive = True if spec.overlap == "skip" else None
    new = replace(new, schedule=schedule.name, scheduled_for=scheduled_for, exclusive=exclusive)
    if spec.overlap == "queue":
        new.limit_keys = with_key(new.limit_keys, f"schedule:{schedule.name}", "/overlap")
    return new


async def pause(services: Services, name: str, *, by: str, reason: str | None = None) -> Schedule:
    """The schedule; of two pauses the first one stays.

    Raises InvalidInputError for a reason that cannot be kept, ScheduleNotFoundError, UnavailableError.
    """
    reason = reason_of(reason)
    _require_storable(name)
    async with services.transaction() as session:
        await session.execute(_ACTOR, {"actor": by})
        await session.execute(_PAUSE, {"name": name, "reason": reason})
        found = await find(session, name)
    log.info("schedule paused", extra={"schedule": name, "by": by, "reason": reason})
    return found


async def resume(services: Services, name: str, *, by: str) -> Schedule:
    """The schedule; the due times of its pause are not made up for. Raises as `pause`."""
    _require_storable(name)
    async with services.transaction() as session:
        await session.execute(_ACTOR, {"actor": by})
        await session.execute(_RESUME, {"name": name})
        found = await find(session, name)
    log.info("schedule resumed", extra={"schedule": name, "by": by})
    return found


async def delete(services: Services, name: str, *, by: str) -> None:
    """One that living nodes declare comes back as the code says, without pause and edits. Raises as `pause`."""
    _require_storable(name)
    async with services.transaction() as session:
        if (await session.execute(_DELETE, {"name": name})).one_or_none() is None:
            raise errors.ScheduleNotFoundError(name)
    log.info("schedule deleted", extra={"schedule": name, "by": by})


async def run(services: Services, name: str, *, by: str) -> Job:
    """A job of the schedule now, whatever its times and its pause.

    Raises ScheduleBusyError where an unfinished one excludes it, else as `put` and `pause`: nothing is stored.
    """
    await require_rights(services)
    async with services.session() as session:
        schedule = await find(session, name)
    new = job_of(services, schedule, schedule.spec(), by=by)
    if (stored := await fire_by_hand(services, new)) is None:
        raise errors.ScheduleBusyError(name)
    return born(new, stored)


async def read_schedules(services: Services, *, after: str = "", most: int = 100) -> Sequence[Schedule]:
    """By name; at most `most` that come after a name."""
    async with services.session() as session:
        rows = await session.execute(_LIST, {"after": after, "most": most})
        return [planned(Schedule(*row)) for row in rows]


async def read_schedule(services: Services, name: str, *, times: int = 5, jobs: int = 10) -> Detail:
    """Raises ScheduleNotFoundError, UnavailableError."""
    async with services.session() as session:
        schedule = await find(session, name)
        skipped = {row.reason: row.times for row in await session.execute(_SKIPPED, {"name": name})}
    last = await read_page(services, Page(jobs, filter=Filter(schedule=[name])))
    coming: list[datetime] = []
    if schedule.next_at is not None and (table := _timetable(schedule)) is not None:
        coming = [schedule.next_at, *islice(table.following(schedule.next_at), times - 1)]
    return Detail(schedule, coming, last.jobs, skipped)


def _require_storable(name: str) -> None:
    """No schedule has a name that no database can hold."""
    if check(name):
        raise errors.ScheduleNotFoundError(name)


async def find(session: AsyncSession, name: str) -> Schedule:
    _require_storable(name)
    row = (await session.execute(_READ, {"name": name})).one_or_none()
    if row is None:
        raise errors.ScheduleNotFoundError(name)
    return planned(Schedule(*row))


def planned(schedule: Schedule) -> Schedule:
    """With the next due time that a tick will find, where none has looked since the edit."""
    if schedule.next_at is not None or schedule.state != "active" or (table := _timetable(schedule)) is None:
        return schedule
    return replace(schedule, next_at=table.after(schedule.since))


def _timetable(schedule: Schedule) -> Timetable | None:
    """None for a row that was written by hand and cannot be obeyed: the tick will say so."""
    try:
        return Timetable(schedule.spec(), schedule.edited_at)
    except errors.InvalidInputError:
        return None
