"""The tick of the schedules: which are due, which of their due times become jobs, and when each is due next.

Decided in Python, since cron is; then one statement moves the schedules that are still as they were read. What is not
due costs one probe of an index.
"""

import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import text

from jobtrail import errors
from jobtrail.db.direct import Statement
from jobtrail.db.errors import FAILURES, Fault, fault_of, reason
from jobtrail.jobs.fire import Fired, ScheduleStep, fire
from jobtrail.jobs.services import Services
from jobtrail.ops.schedules import COLUMNS, args_of, job_of
from jobtrail.records import NewJob
from jobtrail.task.schedule import Schedule, ScheduleSpec, Timetable
from jobtrail.task.storable import clip

log = logging.getLogger(__name__)

MOST: Final = 200
"""Schedules of one statement."""

LATE: Final = timedelta(seconds=60)
"""A due time that is found later was missed: nodes were down."""

DUE: Final = Statement(f"""
SELECT {COLUMNS}, statement_timestamp()
  FROM jobtrail.schedules
 WHERE next_at <= statement_timestamp() + CAST(:within AS interval) AND paused_at IS NULL AND disabled_at IS NULL
   AND task = ANY(CAST(:tasks AS text[]))
 ORDER BY next_at LIMIT {MOST}
""")

# Of the jobs since the last edit or resume: what failed before has been seen to.
_FAILING: Final = text("""
SELECT u.name FROM unnest(CAST(:names AS text[]), CAST(:after AS int[]), CAST(:since AS timestamptz[]))
    AS u(name, pause_after, since)
 WHERE u.pause_after = (
    SELECT count(*) FILTER (WHERE last.status = 'failed')
      FROM (SELECT status FROM jobtrail.jobs j
             WHERE j.schedule = u.name AND j.status IN ('succeeded', 'failed') AND j.created_at >= u.since
             ORDER BY j.created_at DESC LIMIT u.pause_after) AS last)
""")

_PAUSE: Final = text("""
UPDATE jobtrail.schedules SET paused_at = clock_timestamp(), pause_reason = :reason, paused_by = 'jobtrail'
 WHERE name = :name AND edition = :edition AND paused_at IS NULL
""")


class Plan(NamedTuple):
    step: ScheduleStep
    jobs: Sequence[NewJob]


class Ticked(NamedTuple):
    """`wait`: until the next due time, if it is one of the next `within`."""

    fired: Sequence[Fired] = ()
    wait: timedelta | None = None


async def fire_due(services: Services, tasks: Sequence[str], within: timedelta = timedelta(0)) -> Ticked:
    """Make the jobs of the schedules of these tasks that are due. Raises what the database does."""
    rows = await services.database.fetch(DUE, tasks=tasks, within=within)
    if not rows:
        return Ticked()
    now: datetime = rows[0][-1]
    names = Schedule.__dataclass_fields__
    found = [dict(zip(names, row[:-1], strict=True)) for row in rows]
    read = [Schedule(**each | {"args": args_of(each["args"])}) for each in found]
    schedules = [each for each in read if each.next_at is None or each.next_at <= now]
    coming = [each.next_at for each in read if each.next_at is not None and each.next_at > now]
    faults = await _failing(services, schedules)
    plans: list[Plan] = []
    for schedule in schedules:
        if schedule.name not in faults:
            try:
                plans.append(_plan(services, schedule, schedule.spec(), now))
            except errors.InvalidInputError as error:
                faults[schedule.name] = f"it cannot be obeyed: {error}"
    for schedule in schedules:
        if (fault := faults.get(schedule.name)) is not None:
            await _pause(services, schedule, fault)
    jobs = [job for plan in plans for job in plan.jobs]
    try:
        fired = await fire(services.database, [plan.step for plan in plans], jobs) if plans else ()
    except FAILURES as error:
        if fault_of(error) is not Fault.DATA:
            raise
        fired = await _one_by_one(services, {each.name: each for each in schedules}, plans)
    if fired and len(rows) == MOST:
        return Ticked(fired, timedelta(0))
    coming += [plan.step.following for plan in plans if plan.step.following is not None]
    wait = min(coming, default=now + 2 * within) - now
    return Ticked(fired, wait if wait <= within else None)


async def _one_by_one(services: Services, schedules: Mapping[str, Schedule], plans: Sequence[Plan]) -> list[Fired]:
    """The jobs of all but those schedules whose jobs cannot be stored, which are paused."""
    fired: list[Fired] = []
    for plan in plans:
        try:
            fired += await fire(services.database, [plan.step], plan.jobs)
        except FAILURES as error:
            if fault_of(error) is not Fault.DATA:
                raise
            await _pause(services, schedules[plan.step.name], f"its job cannot be stored: {reason(error)}")
    return fired


def _plan(services: Services, schedule: Schedule, spec: ScheduleSpec, now: datetime) -> Plan:
    table = Timetable(spec, schedule.edited_at)
    first = schedule.next_at or table.after(schedule.since)
    step = ScheduleStep(schedule.name, schedule.edition, schedule.next_at, first)
    if first is None or first > now:
        return Plan(step, ())
    due = table.until(first, now)
    wanted = due if spec.missed == "all" else due[-1:]
    if spec.missed == "skip" and now - due[-1] > LATE:
        wanted = ()
    step = ScheduleStep(
        schedule.name, schedule.edition, schedule.next_at, table.after(now), len(due) - len(wanted), due[-1]
    )
    try:
        return Plan(step, list(_jobs(services, schedule, spec, wanted)))
    except errors.JobtrailError as error:  # a rollout may have changed the signature
        log.warning("schedule %s: its job of %s could not be made: %s", schedule.name, due[-1], error)
        return Plan(ScheduleStep(step.name, step.edition, step.was, step.following, len(due), due[-1], "arguments"), ())


def _jobs(services: Services, schedule: Schedule, spec: ScheduleSpec, due: Sequence[datetime]) -> Iterator[NewJob]:
    for each in due:
        # in run_at alone: a due time that moved would move those after it
        later = timedelta(seconds=random.uniform(0, spec.jitter))  # noqa: S311 - jitter is no secret
        run_at = each + later if later else None
        yield job_of(services, schedule, spec, by=f"schedule:{schedule.name}", scheduled_for=each, run_at=run_at)


async def _failing(services: Services, schedules: Sequence[Schedule]) -> dict[str, str]:
    """Those whose last jobs all failed, as many as `pause_after` says, each with the reason for a pause."""
    limited = {each.name: each for each in schedules if each.pause_after is not None}
    if not limited:
        return {}
    values: Mapping[str, Any] = {
        "names": list(limited),
        "after": [each.pause_after for each in limited.values()],
        "since": [each.since for each in limited.values()],
    }
    async with services.session() as session:
        found = (await session.execute(_FAILING, values)).scalars().all()
    return {name: f"its last {limited[name].pause_after} jobs failed" for name in found}


async def _pause(services: Services, schedule: Schedule, why: str) -> None:
    values = {"name": schedule.name, "edition": schedule.edition, "reason": clip(why, 1000)}
    async with services.transaction() as session:
        await session.execute(_PAUSE, values)
    mend = "mend it, then `jobtrail schedules resume`"
    log.error("schedule %s is paused: %s; %s", schedule.name, why, mend, extra={"schedule": schedule.name})
