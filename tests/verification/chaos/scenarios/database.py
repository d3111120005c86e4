"""PostgreSQL is killed, stands still, or ends our connections, while the fleet lives and clients submit."""

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Sequence

from chaos import faults, outages
from chaos.alive import Lives, stop_all
from chaos.client import Ask, Client
from chaos.fleet import Fleet
from chaos.scenario import Figure, Scenario, Size
from chaos.world import World
from support.until import until

MIXED = (
    Ask("nap", (0.02, 0.6)),
    Ask("nap_in_thread", (0.01, 0.05), share=0.3),
    Ask("write_inside", (0.02, 0.4)),
    Ask("write_outside", (0.02, 0.4), share=0.3),
)

EVERY = 0.2
"""Seconds from one end of all backends to the next."""

FIRST_STORED = "SELECT min(created_at) FROM jobtrail.jobs WHERE created_at > pg_postmaster_start_time()"
FIRST_END = "SELECT min(at) FROM jobtrail.transitions WHERE from_status = 'running' AND at > pg_postmaster_start_time()"

Torment = Callable[[], Awaitable[None]]


async def kill_postgres(world: World, size: Size) -> Sequence[Figure]:
    """Once, in the middle, it stays away for longer than a lease."""
    stored: list[float] = []
    ended: list[float] = []

    async def kill() -> None:
        for number in range(size.faults):
            await asyncio.sleep(world.random.uniform(0.5, 1.0) * size.jobs / size.rate / size.faults)
            away = 1.3 * size.lease if number == size.faults // 2 else 0.0
            await faults.kill_postgres(world, away=away)
            began = await world.value("SELECT pg_postmaster_start_time()")
            for query, took in ((FIRST_STORED, stored), (FIRST_END, ended)):
                first = await until(lambda query=query: world.value(query), within=60)  # type: ignore[misc]
                took.append((first - began).total_seconds())

    figures = await tormented(world, size, (*MIXED, *_some_long(size.lease)), kill, keyed=0.2)
    return [
        *figures,
        Figure("from the server's start to the first job stored: median, longest (s)", _median_and_longest(stored)),
        Figure("from the server's start to the first job ended: median, longest (s)", _median_and_longest(ended)),
    ]


async def freeze_postgres(world: World, size: Size) -> Sequence[Figure]:
    async def freeze() -> None:
        for number in range(size.faults):
            await asyncio.sleep(world.random.uniform(0.5, 1.0) * size.jobs / size.rate / size.faults)
            # once longer than any statement may take
            leases = 6.0 if number == 1 else world.random.uniform(1.2, 2.5)
            await outages.freeze(world, size.lease * leases)
            # heard of again, so that the next one does not meet nodes that may not judge yet
            await asyncio.sleep(1.6 * size.lease)

    return await tormented(world, size, _some_long(size.lease), freeze)


async def end_backends(world: World, size: Size) -> Sequence[Figure]:
    async def end_all() -> None:
        accepted = 0
        while len(world.ledger.acknowledged) < size.jobs or len(world.faults) < size.faults:
            await asyncio.sleep(EVERY)  # never sooner: what waited longer once is not made up for
            # on a slow machine a transaction with a key would else never fit in between
            while len(world.ledger.acknowledged) == accepted:
                await asyncio.sleep(0.05)
            accepted = len(world.ledger.acknowledged)
            await faults.terminate_backends(world)

    # new backends every 200 ms are more than two cores have time for: a heartbeat may fail for longer than a lease
    return await tormented(world, size, MIXED, end_all, keyed=0.2, rescued=None)


async def tormented(
    world: World,
    size: Size,
    asks: Sequence[Ask],
    torment: Torment,
    *,
    keyed: float = 0.0,
    url: str | None = None,
    rescued: int | None = 0,
) -> Sequence[Figure]:
    """Nobody touches the fleet: whatever it needs to go on, it does itself. `rescued`: how many must be, if any."""
    async with Fleet.started(world, lease=size.lease, serve=size.serve, work=size.work, url=url) as fleet:
        lives = Lives.of(fleet)
        client = Client(world.ledger, world.random, lambda: fleet.services, asks, keyed=keyed, patience=12)
        await client.load(size.jobs, rate=size.rate, during=asyncio.ensure_future(torment()))
        await fleet.settled()
        figures = await lives.figures(rescued=rescued)
        return [*figures, *await stop_all(fleet)]


def _some_long(lease: float) -> Sequence[Ask]:
    """Some run for longer than the lease."""
    long = (0.7 * lease, 2.0 * lease)
    return Ask("nap", (0.02, 0.3)), Ask("nap", long, share=0.3), Ask("write_inside", long, share=0.3)


def _median_and_longest(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.2f}, {max(seconds):.2f}"


SCENARIOS = (
    Scenario(
        "postgres-killed",
        "PostgreSQL killed (immediate stop) under load, once for longer than a lease",
        Size(jobs=5000, faults=10, rate=50),
        Size(jobs=30, faults=1, rate=40, lease=1.0, serve=1, work=1),
        kill_postgres,
        shows=("acknowledged and lost", "rescued though alive", "processes that did not live all the time"),
    ),
    Scenario(
        "frozen",
        "PostgreSQL stopped by SIGSTOP for longer than the lease, then SIGCONT",
        Size(jobs=1000, faults=8, rate=20, work=1),
        Size(jobs=30, faults=1, rate=25, lease=1.0, serve=1, work=2),
        freeze_postgres,
        shows=("acknowledged and lost", "rescued though alive"),
    ),
    Scenario(
        "backends",
        "all of our backends ended by the server every 200 ms",
        Size(jobs=2000, faults=100, rate=40),
        Size(jobs=30, faults=6, rate=40, lease=1.0, serve=1, work=1),
        end_backends,
        shows=("acknowledged and lost", "connections more than the pools hold", "connections left by those that ended"),
    ),
)
