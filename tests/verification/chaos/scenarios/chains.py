"""Jobs that come after two that end together, and batches, while the processes that end them are killed."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx

from chaos import faults
from chaos.client import ONCE, Client, Promise
from chaos.fleet import Fleet
from chaos.scenario import Figure, Scenario, Size
from chaos.scenarios.processes import rescue_times, spread
from chaos.world import World
from support.until import until

DOOMED = 0.1
"""The share of pairs of which one fails, so that its child must be cancelled."""

ENDED = "('succeeded', 'failed', 'cancelled')"

FORGOTTEN = f"SELECT count(*) FROM jobtrail.jobs WHERE after IS NOT NULL AND status NOT IN {ENDED}"

MISJUDGED = """
SELECT count(*) FROM jobtrail.jobs c WHERE c.after IS NOT NULL AND (c.status = 'cancelled') <> EXISTS (
    SELECT FROM unnest(c.after) AS parent LEFT JOIN jobtrail.jobs p ON p.id = parent
     WHERE p.status IS DISTINCT FROM 'succeeded')
"""

RELEASED_TWICE = """
SELECT count(*) FROM (SELECT FROM jobtrail.transitions WHERE reason LIKE 'after: %'
                       GROUP BY job_id HAVING count(*) > 1) twice
"""

EARLY = """
SELECT count(*) FROM jobtrail.jobs c CROSS JOIN unnest(c.after) AS parent
  JOIN jobtrail.transitions t ON t.job_id = c.id AND t.to_status = 'running'
 WHERE NOT EXISTS (SELECT FROM jobtrail.transitions p
                    WHERE p.job_id = parent AND p.to_status = 'succeeded' AND p.at <= t.at)
"""

# `on_done` has an id already when the batch is stored: only its number would tell that it was submitted twice.
NOT_ONCE = """
SELECT count(*) FROM jobtrail.batches b
  LEFT JOIN (SELECT args ->> 'n' AS n, count(*) AS jobs FROM jobtrail.jobs GROUP BY 1) j
    ON j.n = b.on_done -> 'args' ->> 'n'
 WHERE b.done_at IS NULL OR j.jobs IS DISTINCT FROM 1
"""

TOO_SOON = f"""
SELECT count(*) FROM jobtrail.batches b JOIN jobtrail.jobs o ON o.id = CAST(b.on_done ->> 'id' AS uuid)
 WHERE EXISTS (SELECT FROM jobtrail.jobs j JOIN jobtrail.transitions t ON t.job_id = j.id AND t.to_status IN {ENDED}
                WHERE j.batch_id = b.id AND t.at > o.created_at)
"""

MISCOUNTED = """
SELECT count(*) FROM jobtrail.batches b CROSS JOIN LATERAL (
       SELECT count(*) AS total, count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
              count(*) FILTER (WHERE status = 'failed') AS failed,
              count(*) FILTER (WHERE status = 'cancelled') AS cancelled
         FROM jobtrail.jobs j WHERE j.batch_id = b.id) n
 WHERE b.done_at IS NOT NULL
   AND (b.total, b.succeeded, b.failed, b.cancelled) IS DISTINCT FROM (n.total, n.succeeded, n.failed, n.cancelled)
"""

OF_BATCH = "SELECT count(*) FROM jobtrail.jobs WHERE batch_id = $1"
DONE = "SELECT count(*) = 0 FROM jobtrail.batches WHERE done_at IS NULL"


@dataclass(frozen=True)
class Batched(Size):
    """`batched`: the jobs of the large batch."""

    batched: int = 5000


class Families(Client):
    """Each submit is a family: two jobs that end together, which are a batch, and one that comes after both."""

    async def submit(self, http: httpx.AsyncClient) -> Promise | None:
        first, second, last, child = (next(self.numbers) for _ in range(4))
        at = time.time() + self.random.uniform(0.1, 0.5)
        is_doomed = self.random.random() < DOOMED
        pair = [_job("meet", first, at=at), _job("meet", second, at=at, fails=is_doomed)]
        said = await self.offer(http, "batches", {"jobs": pair, "on_done": _job("nap", last)})
        if not isinstance(said, UUID):
            return self.give_up(said, first, second, last)
        parents = [self.note(*each) for each in await self._jobs_of(http, said)]
        after = [str(each.id) for each in parents]
        once = {**_job("nap", child), "after": after, "max_attempts": 1, "tags": [ONCE]}
        said = await self.offer(http, "jobs", once)
        return self.note(said, child) if isinstance(said, UUID) else self.give_up(said, child)

    async def submit_large(self, jobs: int) -> UUID:
        """Less urgent than the others, and as long as they come."""
        wanted = [
            {**_job("nap", next(self.numbers), seconds=round(self.random.uniform(0.5, 1.5), 3)), "priority": 1}
            for _ in range(jobs)
        ]
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            said = await self.offer(http, "batches", {"jobs": wanted, "on_done": _job("nap", next(self.numbers))})
        assert isinstance(said, UUID), said
        return said

    async def _jobs_of(self, http: httpx.AsyncClient, batch: UUID) -> Sequence[Promise]:
        while True:
            for service in self.services():
                with suppress(httpx.TransportError):
                    answer = await http.get(f"{service}/v1/jobs", params={"batch_id": str(batch), "include": "args"})
                    if answer.is_success:
                        return [Promise(UUID(job["id"]), job["args"]["n"]) for job in answer.json()["items"]]
            await asyncio.sleep(0.05)


def _job(task: str, n: int, **args: Any) -> dict[str, Any]:
    return {"task": task, "args": {"n": n, **args}, "max_attempts": 50}


async def follow(world: World, size: Size) -> Sequence[Figure]:
    assert isinstance(size, Batched)
    async with Fleet.started(world, lease=size.lease, serve=size.serve, work=size.work) as fleet:
        client = Families(world.ledger, world.random, lambda: fleet.services, (), patience=size.lease)
        batch = await client.submit_large(size.batched)
        killing = asyncio.create_task(spread(faults.kill, size, size.faults)(fleet))  # type: ignore[arg-type]
        await client.load(size.jobs, rate=size.rate / 3, during=killing)
        await fleet.settled()
        with suppress(AssertionError):  # then it is counted below
            await until(lambda: world.value(DONE), within=60)
        await fleet.settled()
    return [
        Figure("jobs of the large batch", await world.value(OF_BATCH, batch), size.batched),
        *await followed(world),
        *await rescue_times(world, size.lease * 1.275),
    ]


async def followed(world: World) -> list[Figure]:
    return [
        Figure("pairs", await world.value("SELECT count(*) FROM jobtrail.jobs WHERE after IS NOT NULL")),
        Figure("batches", await world.value("SELECT count(*) FROM jobtrail.batches")),
        Figure("children forgotten", await world.value(FORGOTTEN), 0),
        Figure("children that ended other than their parents say", await world.value(MISJUDGED), 0),
        Figure("children released twice", await world.value(RELEASED_TWICE), 0),
        Figure("children that began before their parents ended", await world.value(EARLY), 0),
        Figure("batches whose on_done was not submitted once", await world.value(NOT_ONCE), 0),
        Figure("on_done submitted too soon", await world.value(TOO_SOON), 0),
        Figure("batches that count other than their jobs", await world.value(MISCOUNTED), 0),
    ]


SCENARIOS = (
    Scenario(
        "chains",
        "`kill -9` of any process while pairs that others come after end together, and their batches",
        Batched(jobs=6000, faults=50, rate=45),
        Batched(jobs=90, faults=3, rate=30, lease=1.0, serve=1, work=2, batched=300),
        follow,
        shows=("children forgotten", "children released twice", "batches whose on_done was not submitted once"),
    ),
)
