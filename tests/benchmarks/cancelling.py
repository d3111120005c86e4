"""How long a cancel takes until its job ends, on any node, by polling alone: `python tests/benchmarks/cancelling.py`.

120 jobs of all kinds on three nodes, on a PostgreSQL of its own; who asks for the cancel runs nothing.
"""

import asyncio
import random
import statistics
import sys
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.services import Services
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from support import kinds, world

NODES: Final = 3
JOBS: Final = {"loop": 60, "thread": 54, "process": 6}
PLACES: Final = {"slots": 20, "threads": 18, "processes": 2}

_SECONDS: Final = """
SELECT extract(epoch FROM finished_at - cancel_requested_at)::float8 AS seconds
  FROM jobtrail.jobs WHERE status = 'cancelled'
"""


async def main() -> None:
    with world.server("embedded") as server:
        async with world.migrated(server) as place, AsyncExitStack() as nodes:
            services, outside = (Services(place.database, Catalog.from_modules([kinds])) for _ in range(2))
            wanted = [f"kind_{kind}" for kind, count in JOBS.items() for _ in range(count)]
            random.shuffle(wanted)
            for _ in range(NODES):
                await nodes.enter_async_context(
                    world.node_at(services, place, grace=0, lease=timedelta(seconds=30), **PLACES)
                )
            jobs = [(await world.submitted(outside, task, how="wait")).id for task in wanted]
            for job_id in jobs:
                await world.reached(outside, job_id, Status.RUNNING)
            for job_id in jobs:
                await asyncio.sleep(0.02)  # it is a load, not a wait
                await cancel(outside, job_id, by="ann")
            for job_id in jobs:
                await world.ended(outside, job_id)
            seconds = [row["seconds"] for row in await place.rows(_SECONDS)]
    assert len(seconds) == len(jobs)
    most = statistics.quantiles(seconds, n=100)[98]
    print(f"cancel to end: median {statistics.median(seconds):.2f} s, 99th percentile {most:.2f} s")


if __name__ == "__main__":
    asyncio.run(main())
