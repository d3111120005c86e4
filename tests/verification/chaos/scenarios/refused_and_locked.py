"""The database is there all the time, and now and then lets nobody in, locks a table, or refuses to write an end."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from itertools import chain, zip_longest

import httpx

from chaos import hindrances
from chaos.alive import Lives, stop_all
from chaos.client import Ask, Client, wrong_of
from chaos.fleet import Fleet
from chaos.scenario import Figure, Scenario, Size
from chaos.wire import Wire
from chaos.world import World
from support.startup import REFUSALS

ASKS = (
    Ask("nap_and_tell", (0.02, 1.2), max_attempts=1),
    Ask("nap_and_tell", (0.02, 1.2)),
    Ask("nap_in_thread", (0.01, 0.1), share=0.2, max_attempts=1),
    Ask("nap_in_thread", (0.01, 0.1), share=0.2),
    Ask("write_inside", (0.02, 0.6), share=0.4),
)
"""No attempt of them fails by itself, but for the job session, which has to do with the database."""

MODES = ("SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE")
TABLES = ("jobs", "transitions")

STATES = (
    "0A000", "22023", "23514", "25006", "40001", "42501", "42703", "53100", "55006", "55P03", "57014", "57P03", "P0001",
    "XX000",
)  # fmt: skip
"""What an end is refused with: some pass by their nature, of the others nobody would think so."""

LEASES = (0.1, 1.7)
"""How long a table is locked: with 3 s, from 0.3 to 5 s."""

RIGHT = "as it must be"

READS = ("/v1/jobs?limit=5", "/v1/jobs/{}", "/v1/jobs/{}/transitions", "/v1/nodes", "/health/ready")

# Nobody stopped a node or asked for a cancel, so what was begun came to its end; an effect says so, too.
WRONG = """
SELECT count(*) FROM jobtrail.jobs j
 WHERE (j.status <> 'succeeded' AND j.task <> 'write_inside')
    OR EXISTS (SELECT FROM outside o WHERE o.job = j.id
                  AND (j.status <> 'succeeded' OR o.attempt <> (j.result ->> 'attempt')::int))
"""

TWICE = """
SELECT count(*) FROM jobtrail.jobs j WHERE j.task <> 'write_inside' AND (
       (SELECT count(*) FROM outside o WHERE o.job = j.id) > 1
    OR (SELECT count(*) FILTER (WHERE to_status = 'running') - count(*) FILTER (WHERE reason = 'released')
          FROM jobtrail.transitions t WHERE t.job_id = j.id) > 1)
"""

UNDONE = """
SELECT string_agg(format('%s %s', reason, times), ', ' ORDER BY times DESC)
  FROM (SELECT reason, count(*) AS times FROM jobtrail.transitions t JOIN jobtrail.jobs j ON j.id = t.job_id
         WHERE j.task = 'write_inside' AND t.from_status = 'running' AND t.to_status <> 'succeeded' GROUP BY reason) u
"""

Hinder = Callable[[], Awaitable[None]]


async def refuse_and_lock(world: World, size: Size) -> Sequence[Figure]:
    await hindrances.prepare(world)
    async with Wire.before(world, role=hindrances.ROLE) as wire:
        started = Fleet.started(world, lease=size.lease, serve=size.serve, work=size.work, url=wire.url)
        async with started as fleet:
            lives, answers = Lives.of(fleet), Counter[str]()
            client = Client(world.ledger, world.random, lambda: fleet.services, ASKS, keyed=0.2, patience=20)
            hindering = asyncio.create_task(_hinder(world, wire, size))
            reading = asyncio.create_task(_read(fleet, answers, hindering))
            await client.load(size.jobs, rate=size.rate, during=hindering)
            await reading
            await fleet.settled()
            figures = [*await lives.figures(), *await stop_all(fleet)]
    wrong = [f"{said} {times}" for said, times in answers.items() if said != RIGHT]
    return [
        *figures,
        Figure("recorded wrongly", await world.value(WRONG), 0),
        Figure("run twice", await world.value(TWICE), 0),
        Figure("reads that were not answered as they must be", "; ".join(wrong) or 0, 0),
        Figure("reads", answers.total()),
        Figure("job sessions undone, and why", await world.value(UNDONE) or 0),
    ]


async def _hinder(world: World, wire: Wire, size: Size) -> None:
    """One after another, with a rest in between that lets some jobs begin."""
    for hinder in _hindrances(world, wire, size.lease)[: size.faults]:
        await asyncio.sleep(size.lease * world.random.uniform(0.2, 0.5))
        await hinder()


def _hindrances(world: World, wire: Wire, lease: float) -> Sequence[Hinder]:
    """Hindrances of each kind in turn, as long as there are any; which and how long is the seed's."""

    def leases(least: float, most: float) -> float:
        return lease * world.random.uniform(least, most)

    locks = [partial(hindrances.lock, world, table, mode, leases(*LEASES)) for table in TABLES for mode in MODES]
    ends = [partial(hindrances.refuse_ends, world, state, leases(0.4, 1.3)) for state in STATES]
    connections = [partial(hindrances.refuse_connections, world, wire, state, lease * 4 / 3) for state in REFUSALS]
    others = [
        partial(hindrances.make_index, world, lease * 2 / 3),
        partial(hindrances.alter, world, leases(0.7, 1.4)),
        partial(hindrances.alter, world, leases(0.7, 1.4)),
        partial(hindrances.revoke_update, world, lease),
        partial(hindrances.revoke_update, world, leases(0.4, 1.3)),
    ]
    kinds: tuple[list[Hinder], ...] = (ends, locks, connections, others)
    for kind in kinds:
        world.random.shuffle(kind)
    return list(_in_turn(kinds))


def _in_turn(kinds: Sequence[Sequence[Hinder]]) -> Iterator[Hinder]:
    return (hinder for hinder in chain.from_iterable(zip_longest(*kinds)) if hinder)


async def _read(fleet: Fleet, answers: Counter[str], during: "asyncio.Task[None]") -> None:
    """Somebody looks at jobs all the time, and is told at least when to come again."""
    world = fleet.world
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        while not during.done():
            await asyncio.sleep(0.05)
            if not world.ledger.acknowledged:
                continue
            promise, url = world.random.choice(world.ledger.acknowledged), world.random.choice(fleet.services)
            try:
                answer = await http.get(f"{url}{world.random.choice(READS)}".format(promise.id))
            except httpx.TransportError as error:
                answers[type(error).__name__] += 1
            else:
                answers[wrong_of(answer, right=200) or RIGHT] += 1


SCENARIOS = (
    Scenario(
        "refused-and-locked",
        "tables locked, ends and connections refused with any SQLSTATE, for up to 5 s each",
        Size(jobs=500, faults=36, rate=8),
        Size(jobs=25, faults=5, rate=12, lease=1.0, serve=1, work=1),
        refuse_and_lock,
        shows=(
            "recorded wrongly",
            "run twice",
            "submits that were not answered as they must be",
            "reads that were not answered as they must be",
        ),
    ),
)
