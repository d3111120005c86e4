"""Long jobs whose nodes are killed and drained in turn: they go on where they were."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import httpx

from chaos import faults
from chaos.client import Ask, Client, Promise
from chaos.fleet import Fleet
from chaos.scenario import Figure, Scenario, Size
from chaos.scenarios.processes import MIXED, rescue_times
from chaos.world import World
from support.until import until

LONG = 2
"""Jobs that lose their node, each as often as the other."""

ATTEMPTS = 50

# An attempt that has begun a step has stored the checkpoint before it; of the first it has not made one.
REPEATED = """
SELECT count(*) FROM steps s
  JOIN (SELECT job, attempt, max(step) AS last FROM steps GROUP BY job, attempt) before
    ON before.job = s.job AND before.attempt < s.attempt AND s.step < before.last
"""

TWICE = "SELECT count(*) FROM (SELECT FROM steps GROUP BY job, attempt, step HAVING count(*) > 1) twice"

LEFT_OUT = """
SELECT count(*) FROM jobtrail.jobs j CROSS JOIN generate_series(0, CAST(j.args ->> 'steps' AS int) - 1) AS wanted
  LEFT JOIN (SELECT DISTINCT job, step FROM steps) s ON s.job = j.id AND s.step = wanted
 WHERE j.task = 'climb' AND s.job IS NULL
"""

SPENT = f"""
SELECT count(*) FROM jobtrail.jobs j CROSS JOIN LATERAL (
       SELECT count(*) FILTER (WHERE reason = 'rescued') AS killed,
              count(*) FILTER (WHERE reason IN ('drained', 'released')) AS returned
         FROM jobtrail.transitions WHERE job_id = j.id) told
 WHERE j.task = 'climb' AND (j.attempt, j.max_attempts) <> (1 + killed + returned, {ATTEMPTS} + returned)
"""

TOLD = """
SELECT count(*) FILTER (WHERE reason = 'rescued') || ' / ' || count(*) FILTER (WHERE reason = 'drained')
  FROM jobtrail.transitions t JOIN jobtrail.jobs j ON j.id = t.job_id WHERE j.task = 'climb'
"""

# In the attempt that runs: of its own it has stored a checkpoint.
CLIMBED = """
SELECT max(step) >= $2 AND count(*) > 1 FROM steps s JOIN jobtrail.jobs j ON j.id = s.job AND j.attempt = s.attempt
 WHERE j.id = $1 AND j.status = 'running'
"""


@dataclass(frozen=True)
class Climb(Size):
    """`steps` of each long job."""

    steps: int = 10_000


ENDED = "SELECT finished_at IS NOT NULL FROM jobtrail.jobs WHERE id = $1"


async def climb(world: World, size: Size) -> Sequence[Figure]:
    assert isinstance(size, Climb)
    async with Fleet.started(world, lease=size.lease, serve=size.serve, work=size.work) as fleet:
        client = Client(world.ledger, world.random, lambda: fleet.services, MIXED, patience=size.lease)
        long = Ask("climb", (0, 0), max_attempts=ATTEMPTS, args={"steps": size.steps})
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            jobs = [await client.ask(http, long) for _ in range(LONG)]
        lock = asyncio.Lock()
        losing = asyncio.gather(*(_lose_nodes(fleet, job, lock, size) for job in jobs if job))
        await client.load(size.jobs, rate=size.rate, during=losing)
        await fleet.settled()
    return [
        Figure("long jobs / steps of each", f"{LONG} / {size.steps}"),
        Figure("their attempts ended by kills / by drains", await world.value(TOLD)),
        *await climbed(world),
        *await rescue_times(world, size.lease * 1.275),
    ]


async def _lose_nodes(fleet: Fleet, job: Promise, one_at_a_time: asyncio.Lock, size: Climb) -> None:
    """At even distances of its way the job loses its node: killed, and the next time drained."""
    times = size.faults // LONG
    for number in range(times):
        wanted = size.steps * (number + 1) // (times + 1)
        await until(partial(fleet.world.value, CLIMBED, job.id, wanted), within=300, every=0.1)
        async with one_at_a_time:
            if await fleet.world.value(ENDED, job.id):  # before its turn, on a quick machine
                return
            member = await fleet.runner(job.id)
            await (faults.replace if number % 2 else faults.kill)(fleet, member)


async def climbed(world: World) -> list[Figure]:
    failed = "SELECT count(*) FROM jobtrail.jobs WHERE task = 'climb' AND status <> 'succeeded'"
    return [
        Figure("long jobs that did not succeed", await world.value(failed), 0),
        Figure("steps before a checkpoint that were repeated", await world.value(REPEATED), 0),
        Figure("steps twice in an attempt", await world.value(TWICE), 0),
        Figure("steps left out", await world.value(LEFT_OUT), 0),
        Figure("attempts spent by anything but kills", await world.value(SPENT), 0),
    ]


SCENARIOS = (
    Scenario(
        "checkpoints",
        "`kill -9` and SIGTERM in turn for the node of a job of 10,000 steps",
        Climb(jobs=500, faults=20, rate=5),
        Climb(jobs=30, faults=4, rate=5, lease=1.0, serve=1, work=2, steps=500),
        climb,
        shows=("steps before a checkpoint that were repeated", "attempts spent by anything but kills"),
    ),
)
