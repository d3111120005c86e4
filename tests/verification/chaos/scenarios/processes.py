"""Processes that are killed, stopped and replaced while clients submit."""

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Sequence

from chaos import faults
from chaos.checks import stale_ends
from chaos.client import Ask, Client
from chaos.fleet import Fleet, Member
from chaos.scenario import Figure, Scenario, Size
from chaos.world import World
from support.until import until

MIXED = (
    Ask("nap", (0.02, 0.6)),
    Ask("nap", (0.02, 0.3), wanted={"timeout": 20}),
    Ask("nap_in_thread", (0.01, 0.05), share=0.3),
    Ask("write_inside", (0.02, 0.4)),
    Ask("write_outside", (0.02, 0.4)),
)

LONG = (
    Ask("nap", (0.1, 2.0)),
    Ask("write_inside", (0.1, 2.0)),
    Ask("write_outside", (0.1, 2.0)),
)
"""So long that a stopped node comes back while another one runs its job."""

ONCE = (
    Ask("nap", (0.02, 0.8), max_attempts=1),
    Ask("write_inside", (0.02, 0.8), max_attempts=1),
    Ask("write_outside", (0.02, 0.8), max_attempts=1),
)

AT_ONCE = 2
"""Nodes that stand still at the same time, at most."""

Torment = Callable[[Fleet, Member], Awaitable[None]]

RESCUES = "SELECT node_id, extract(epoch FROM at)::float AS at FROM jobtrail.transitions WHERE reason = 'rescued'"
LOST = "SELECT count(*) FROM jobtrail.jobs WHERE status = 'failed' AND error ->> 'type' = 'lost'"
AGAIN = """
SELECT count(*) FROM (SELECT FROM jobtrail.transitions GROUP BY job_id
    HAVING count(*) FILTER (WHERE to_status = 'running') - count(*) FILTER (WHERE reason = 'released') > 1) again
"""


SCHEDULES = 10

CHIMES = """
INSERT INTO jobtrail.schedules (name, task, every, missed, overlap, starts_at, ends_at)
SELECT 's' || n, 'chime', '1 second', 'all', 'allow', t, t + ($2::int - 1) * interval '1 second'
  FROM generate_series(1, $1::int) n, (SELECT date_trunc('second', clock_timestamp()) + interval '3 seconds') AS of(t)
"""

DOUBLED = """
SELECT count(*) FROM (SELECT FROM jobtrail.jobs WHERE schedule IS NOT NULL
                       GROUP BY schedule, scheduled_for HAVING count(*) > 1) twice
"""

MISSED = """
SELECT count(*) FROM jobtrail.schedules s CROSS JOIN generate_series(s.starts_at, s.ends_at, s.every) AS due
 WHERE NOT EXISTS (SELECT FROM jobtrail.jobs j WHERE j.schedule = s.name AND j.scheduled_for = due)
"""


async def kill_any(world: World, size: Size) -> Sequence[Figure]:
    return await _tormented(world, size, MIXED, [spread(faults.kill, size, size.faults)], keyed=0.2)


async def stop_any(world: World, size: Size) -> Sequence[Figure]:
    shares = [spread(_stand_still, size, part) for part in _parts(size.faults, AT_ONCE)]
    figures = await _tormented(world, size, LONG, shares)
    return [*figures, Figure("no stale end to refuse", int(not list(stale_ends(world))), 0)]


async def start_once(world: World, size: Size) -> Sequence[Figure]:
    kills, stops = _parts(size.faults, 2)
    shares = [spread(faults.kill, size, kills), spread(_stand_still, size, stops)]
    return await _tormented(world, size, ONCE, shares)


async def replace_all(world: World, size: Size) -> Sequence[Figure]:
    async def replace_in_turns(fleet: Fleet) -> None:
        for number in range(size.faults):
            await faults.replace(fleet, fleet.members[-1 - number % len(fleet.members)])

    figures = await _tormented(world, size, MIXED, [replace_in_turns])
    return [
        *figures,
        Figure("ended as lost", await world.value(LOST), 0),
        Figure("jobs that began twice", await world.value(AGAIN), 0),
    ]


async def ring(world: World, size: Size) -> Sequence[Figure]:
    """Schedules that are due each second as long as the load takes, and at least ten times."""
    times = max(10, round(size.jobs / size.rate))
    connection = await world.connection()
    await connection.execute(CHIMES, SCHEDULES, times)

    async def kill_some(fleet: Fleet) -> None:
        await spread(faults.kill, size, size.faults)(fleet)
        await until(lambda: world.value("SELECT bool_and(next_at = 'infinity') FROM jobtrail.schedules"))

    figures = await _tormented(world, size, MIXED, [kill_some])
    return [
        Figure("due times", SCHEDULES * times),
        Figure("due times doubled", await world.value(DOUBLED), 0),
        Figure("due times missed", await world.value(MISSED), 0),
        *figures,
    ]


async def _tormented(
    world: World,
    size: Size,
    asks: Sequence[Ask],
    torments: Sequence[Callable[[Fleet], Awaitable[None]]],
    *,
    keyed: float = 0.0,
) -> Sequence[Figure]:
    """Clients submit as long as the fleet is tormented, and until there are jobs enough; then all is left to end."""

    async def torment() -> None:
        async with asyncio.TaskGroup() as group:
            for each in torments:
                group.create_task(each(fleet))  # type: ignore[arg-type]

    async with Fleet.started(world, lease=size.lease, serve=size.serve, work=size.work) as fleet:
        client = Client(world.ledger, world.random, lambda: fleet.services, asks, keyed=keyed, patience=size.lease)
        await client.load(size.jobs, rate=size.rate, during=asyncio.create_task(torment()))
        await fleet.settled()
    rescues = await rescue_times(world, size.lease * 1.275) if world.silences else []
    return [Figure("requests that reached nobody", client.nobody), *rescues]


async def rescue_times(world: World, bound: float) -> Sequence[Figure]:
    """On a machine that is too busy a living node may be late with its renewals, too; nothing is lost by it."""
    took, alive = [], 0
    for rescue in await world.rows(RESCUES):
        silent = [at for node, at in world.silences if node == rescue["node_id"] and at <= rescue["at"]]
        took += [rescue["at"] - silent[-1]] if silent else []
        alive += not silent
    told = f"{bound:.2f} / {statistics.median(took):.2f} / {max(took):.2f}" if took else "nothing was rescued"
    return [
        Figure("seconds from silence to rescue: bound / median / longest", told),
        Figure("rescued though alive", alive),
    ]


def spread(torment: Torment, size: Size, times: int) -> Callable[[Fleet], Awaitable[None]]:
    """So many torments, of any that is up, over the time that the load takes."""

    async def torment_any(fleet: Fleet) -> None:
        random, loop = fleet.world.random, asyncio.get_running_loop()
        began, every = loop.time(), size.jobs / size.rate / times
        for number in range(times):
            due = began + every * (number + random.uniform(0, 0.5))
            await asyncio.sleep(due - loop.time())
            await torment(fleet, random.choice(await fleet.ready(at_least=2)))

    return torment_any


async def _stand_still(fleet: Fleet, member: Member) -> None:
    """From a little longer than the lease, until a successor surely runs what it ran."""
    longest = fleet.bound + 0.4 * fleet.lease
    await faults.stop_for(fleet, member, fleet.world.random.uniform(1.1 * fleet.lease, longest))


def _parts(whole: int, number: int) -> list[int]:
    return [whole // number + (index < whole % number) for index in range(number)]


SCENARIOS = (
    Scenario(
        "kill-9",
        "`kill -9` of any process while clients submit",
        Size(jobs=5000, faults=50, rate=45),
        Size(jobs=80, faults=3, rate=50, lease=1.0, serve=1, work=2),
        kill_any,
        shows=("acknowledged and lost", "not terminal"),
    ),
    Scenario(
        "schedules",
        "`kill -9` of any process while schedules are due each second",
        Size(jobs=1000, faults=24, rate=20),
        Size(jobs=60, faults=3, rate=12, lease=1.0, serve=1, work=2),
        ring,
        shows=("due times doubled", "due times missed"),
    ),
    Scenario(
        "sigstop",
        "SIGSTOP of any process for longer than the lease, then SIGCONT",
        Size(jobs=2000, faults=50, rate=18, work=3),
        Size(jobs=100, faults=4, rate=25, lease=1.0, serve=1, work=2),
        stop_any,
        shows=("stale outcomes recorded", "effects inside doubled"),
    ),
    Scenario(
        "once",
        "`max_attempts` = 1 under the same kills and stops",
        Size(jobs=2000, faults=60, rate=20),
        Size(jobs=60, faults=3, rate=30, lease=1.0, serve=1, work=2),
        start_once,
        shows=("started twice with max_attempts = 1",),
    ),
    Scenario(
        "rolling",
        "rolling restart of all nodes by SIGTERM under load",
        Size(jobs=1000, faults=12, rate=30, work=1),
        Size(jobs=60, faults=2, rate=25, lease=2.0, work=1),
        replace_all,
        shows=("acknowledged and lost", "ended as lost", "jobs that began twice"),
    ),
)
