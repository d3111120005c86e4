"""A task that blocks the event loop for longer than a lease, at full size: `python tests/benchmarks/blocked_loop.py`.

By default 45 s with a lease of 30 s, on a PostgreSQL of its own, while somebody else rescues. Prints what became
of the task and of its neighbour, and what the log said; exits 1 when one of them was started twice or did not succeed.
"""

import asyncio
import logging
import sys
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from jobtrail.records import Job
from jobtrail.status import Status
from support import world
from support.world import judge, rescuing


async def main(seconds: float, lease: timedelta) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    with world.server("embedded") as server:
        async with world.migrated(server) as place:
            services = world.services_at(place)
            async with world.node_at(services, place, lease=lease, grace=1):
                neighbour = await world.submitted(services, "hold", seconds=seconds + 5)
                await world.reached(services, neighbour.id, Status.RUNNING)
                with rescuing(place, await judge(place)):
                    blocker = await world.submitted(services, "block", seconds=seconds)
                    jobs = [await world.ended(services, each.id, within=seconds + 60) for each in (blocker, neighbour)]
    for job in jobs:
        print(f"{job.task}: {job.status}, attempt {job.attempt}, {_took(job):.1f} s")
    return int(any((job.status, job.attempt) != (Status.SUCCEEDED, 1) for job in jobs))


def _took(job: Job) -> float:
    assert job.started_at
    assert job.finished_at
    return (job.finished_at - job.started_at).total_seconds()


if __name__ == "__main__":
    given = [float(each) for each in sys.argv[1:]] or [45.0, 30.0]
    sys.exit(asyncio.run(main(given[0], timedelta(seconds=given[1]))))
