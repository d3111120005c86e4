"""PostgreSQL answers and refuses: it is read-only for a while, and then it has no connection left."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from itertools import count
from uuid import UUID

import httpx

from chaos import outages
from chaos.alive import Lives, stop_all
from chaos.client import Ask, Client, Promise
from chaos.fleet import Fleet
from chaos.scenario import Figure, Scenario, Size
from chaos.world import World
from support.until import until

ASKS = (Ask("nap", (0.02, 0.4)), Ask("write_inside", (0.02, 0.4), share=0.3))

FEW = {"max_connections": "60"}
"""The connections of the server; so few that they are soon taken."""

PROBES = 3
"""Submits to each service while nothing can be stored."""

ALL_RUN = "SELECT count(*) = cardinality($1::uuid[]) FROM jobtrail.jobs WHERE id = ANY($1) AND status = 'running'"
WENT_ON = "SELECT count(*) FROM jobtrail.jobs WHERE id = ANY($1) AND status = 'succeeded' AND attempt = 1"


class Probe:
    """Asks each service whether it is ready, and submits to it, while it cannot be and must not take anything."""

    def __init__(self, world: World, fleet: Fleet) -> None:
        self._world = world
        self._fleet = fleet
        self._numbers = count(1_000_000)
        self.wrong: Counter[str] = Counter()
        self.reasons: set[str] = set()
        self.long: list[UUID] = []

    async def during(self, outage: AbstractAsyncContextManager[object], seconds: float) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=20) as self._http:
            await asyncio.gather(*(self._run_long(2 * seconds) for _ in range(4)))
            await until(lambda: self._world.value(ALL_RUN, self.long[-4:]), within=20)
            async with outage, asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(seconds))
                for url in self._fleet.services:
                    group.create_task(self._ask(url))
            await until(self._all_ready, within=30)

    async def _ask(self, url: str) -> None:
        await until(lambda: self._says_no(url), within=30)
        await asyncio.gather(*(self._submit(url) for _ in range(PROBES)))

    async def _says_no(self, url: str) -> bool:
        answer = await self._http.get(f"{url}/health/ready")
        if answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
            return False
        self.reasons.add(str(answer.json()["detail"]))
        return True

    async def _submit(self, url: str) -> None:
        n = next(self._numbers)
        answer = await self._http.post(f"{url}/v1/jobs", json={"task": "nap", "args": {"n": n}})
        self._world.ledger.refuse(n)
        if answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
            self.wrong[f"a submit was answered {answer.status_code}"] += 1
        elif not answer.headers.get("Retry-After", "").isdigit():
            self.wrong["503 without Retry-After"] += 1
        elif answer.json()["type"].endswith("outcome-unknown"):
            self.wrong["an outcome that is certain was told as unknown"] += 1

    async def _run_long(self, seconds: float) -> None:
        n = next(self._numbers)
        job = {"task": "nap", "args": {"n": n, "seconds": seconds}, "max_attempts": 50}
        answer = await self._http.post(f"{self._fleet.services[0]}/v1/jobs", json=job)
        self.long.append(UUID(answer.raise_for_status().json()["id"]))
        self._world.ledger.acknowledge(Promise(self.long[-1], n))

    async def _all_ready(self) -> bool:
        answers = [await self._http.get(f"{url}/health/ready") for url in self._fleet.services]
        return all(answer.is_success for answer in answers)


async def refuse(world: World, size: Size) -> Sequence[Figure]:
    await outages.restart(world, **FEW)
    async with Fleet.started(world, lease=size.lease, serve=size.serve, work=size.work) as fleet:
        lives, probe = Lives.of(fleet), Probe(world, fleet)

        async def torment() -> None:
            for number in range(size.faults):
                await asyncio.sleep(world.random.uniform(0.2, 0.5))
                outage = outages.full(world) if number % 2 else outages.read_only(world)
                await probe.during(outage, 1.5 * size.lease)

        client = Client(world.ledger, world.random, lambda: fleet.services, ASKS, keyed=0.2, patience=12)
        await client.load(size.jobs, rate=size.rate, during=asyncio.create_task(torment()))
        await fleet.settled()
        went_on = await world.value(WENT_ON, probe.long)
        figures = [*await lives.figures(), *await stop_all(fleet)]
    return [
        *figures,
        Figure("submits that were not refused as they must be", "; ".join(probe.wrong) or 0, 0),
        Figure("jobs that ran when it began and did not go on", len(probe.long) - went_on, 0),
        Figure("ready said", "; ".join(sorted(probe.reasons))),
    ]


SCENARIOS = (
    Scenario(
        "refusals",
        "the database read-only for a while, and all of its connections taken",
        Size(jobs=1000, faults=8, rate=20, work=1),
        Size(jobs=30, faults=2, rate=20, lease=1.0, serve=1, work=1),
        refuse,
        shows=(
            "submits that were not refused as they must be",
            "jobs that ran when it began and did not go on",
            "refused and stored all the same",
        ),
    ),
)
