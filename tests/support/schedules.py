"""Schedules in the state that a test wants, and what came of them."""

from datetime import timedelta
from typing import Any

from jobtrail.jobs.fire import Fired
from jobtrail.jobs.services import Services
from jobtrail.ops import schedules
from jobtrail.ops.due import fire_due
from jobtrail.task.schedule import Schedule, ScheduleSpec
from support.world import Place

TASKS = ["noop", "nothing", "fail", "hold"]


async def put(services: Services, name: str = "often", task: str = "noop", **said: Any) -> Schedule:
    said = said if "cron" in said else {"every": 3600, **said}
    return await schedules.put(services, name, ScheduleSpec(task=task, **said), by="ann")


async def tick(services: Services) -> list[Fired]:
    """What a tick of any node makes."""
    return list((await fire_due(services, TASKS)).fired)


async def planned(services: Services, name: str = "often", task: str = "noop", **said: Any) -> Schedule:
    """Put, and seen by a tick."""
    await put(services, name, task, **said)
    await tick(services)
    return (await schedules.read_schedule(services, name)).schedule


async def down_for(place: Place, hours: float, name: str = "often") -> None:
    """As if no node had looked for so long, at a schedule that is due at each full hour of that time."""
    past = """UPDATE jobtrail.schedules SET edited_at = statement_timestamp() - $1::interval - interval '1 hour',
                     next_at = statement_timestamp() - $1::interval WHERE name = $2"""
    await place.psql.execute(past, timedelta(hours=hours), name)


async def jobs_of(place: Place, name: str = "often") -> list[dict[str, Any]]:
    return await place.rows("SELECT * FROM jobtrail.jobs WHERE schedule = $1 ORDER BY scheduled_for, id", name)


async def skips_of(place: Place, name: str = "often") -> dict[str, int]:
    found = await place.rows("SELECT reason, count FROM jobtrail.schedule_skips WHERE schedule = $1", name)
    return {row["reason"]: row["count"] for row in found}
