"""Schedules with nodes that are processes of their own, and are killed."""

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

from support.served import CHECKOUT, Working
from support.until import until
from support.world import Place

NODES = 3
SCHEDULES = 6
TIMES = 10

PUT = """
INSERT INTO jobtrail.schedules (name, task, every, missed, overlap, starts_at, ends_at)
SELECT 's' || n, 'nap', '1 second', 'all', 'allow', t, t + ($2::int - 1) * interval '1 second'
  FROM generate_series(1, $1::int) n, (SELECT date_trunc('second', clock_timestamp()) + interval '2 seconds') AS of(t)
"""

MISSED = """
SELECT count(*) FROM jobtrail.schedules s CROSS JOIN generate_series(s.starts_at, s.ends_at, s.every) AS due
 WHERE NOT EXISTS (SELECT FROM jobtrail.jobs j WHERE j.schedule = s.name AND j.scheduled_for = due)
"""


async def test_each_of_sixty_due_times_is_run_once_by_three_nodes_that_are_killed(folder: Path, place: Place) -> None:
    settings = {**CHECKOUT, "JOBTRAIL_POLL_EVERY": "100ms", "JOBTRAIL_LEASE": "2s", "JOBTRAIL_LOG_LEVEL": "WARNING"}

    async with AsyncExitStack() as stack:

        async def node() -> Working:
            return await stack.enter_async_context(
                Working.start(folder, place.url.libpq, "--slots", "8", "--processes", "0", **settings)
            )

        nodes = list(await asyncio.gather(*(node() for _ in range(NODES))))
        await place.psql.execute(PUT, SCHEDULES, TIMES)
        for number in range(NODES):
            wanted = SCHEDULES * TIMES * (number + 1) // (NODES + 1)
            await until(lambda wanted=wanted: is_made(place, wanted))  # type: ignore[misc]
            nodes[number].signal(signal.SIGKILL)
            assert (await nodes[number].ended())[0] == -signal.SIGKILL
            nodes.append(await node())
        await until(lambda: is_made(place, SCHEDULES * TIMES))
        await until(lambda: nothing_is_unfinished(place))
    assert await place.value(MISSED) == 0
    jobs = await place.rows("SELECT schedule, scheduled_for, status, error ->> 'type' AS error FROM jobtrail.jobs")
    assert len(jobs) == len({(job["schedule"], job["scheduled_for"]) for job in jobs}) == SCHEDULES * TIMES
    assert {(job["status"], job["error"]) for job in jobs} <= {("succeeded", None), ("failed", "lost")}
    assert await place.value("SELECT max(attempt) FROM jobtrail.jobs") == 1
    assert await place.value("SELECT count(*) FROM jobtrail.schedules WHERE next_at = 'infinity'") == SCHEDULES
    at_most = await place.value("SELECT max(created_at - scheduled_for) FROM jobtrail.jobs")
    print(f"\n{len(jobs)} due times, {NODES} nodes killed; the latest was stored {at_most.total_seconds():.2f} s late")


async def is_made(place: Place, jobs: int) -> bool:
    return bool(await place.value("SELECT count(*) >= $1 FROM jobtrail.jobs", jobs))


async def nothing_is_unfinished(place: Place) -> bool:
    return not await place.value("SELECT count(*) FROM jobtrail.jobs WHERE status IN ('pending', 'running')")
