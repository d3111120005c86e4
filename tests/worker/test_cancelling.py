"""How long a cancel takes from its request to the end of the job, on any node, by polling alone."""

import asyncio
import random
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Final

from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.services import Services
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from support import kinds, world
from support.world import Place

NODES: Final = 3

JOBS: Final = {"loop": 60, "thread": 54, "process": 6}
"""120 in all: enough to tell the 99th percentile."""

_SECONDS: Final = """
SELECT extract(epoch FROM finished_at - cancel_requested_at)::float8 AS seconds
  FROM jobtrail.jobs WHERE status = 'cancelled' ORDER BY 1
"""


async def test_cancels_arrive_wherever_the_job_runs(place: Place) -> None:
    # the requests come from the services that runs nothing: no node hears of them but by asking the database
    services, outside = (Services(place.database, Catalog.from_modules([kinds])) for _ in range(2))
    jobs = [
        (await world.submitted(services, f"kind_{kind}", how="wait")).id
        for kind, count in JOBS.items()
        for _ in range(count)
    ]
    random.shuffle(jobs)
    async with AsyncExitStack() as nodes:
        for _ in range(NODES):
            places = {"slots": 20, "threads": 18, "processes": 2}
            await nodes.enter_async_context(
                world.node_at(services, place, grace=0, lease=timedelta(seconds=30), **places)
            )
        for job_id in jobs:
            await world.reached(outside, job_id, Status.RUNNING)
        for job_id in jobs:
            await asyncio.sleep(0.02)
            await cancel(outside, job_id, by="ann")
        for job_id in jobs:
            await world.ended(outside, job_id)
    seconds = [row["seconds"] for row in await place.rows(_SECONDS)]
    assert len(seconds) == len(jobs)
    median, most = (seconds[round(share * (len(seconds) - 1))] for share in (0.5, 0.99))
    print(f"\ncancel to end, {len(jobs)} jobs on {NODES} nodes: median {median:.2f} s, 99th percentile {most:.2f} s")
