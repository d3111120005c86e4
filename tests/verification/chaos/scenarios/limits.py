"""How many jobs of a key run at once, and what begins of a key within a time, while nodes are killed."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from chaos import faults
from chaos.client import Ask, Client
from chaos.fleet import Fleet, Member
from chaos.scenario import Figure, Scenario, Size
from chaos.scenarios.processes import rescue_times, spread
from chaos.world import World

TENANTS = range(4)
NUMBERS: Mapping[str, int] = {"all tenants": 6, **{f"tenant:{tenant}": 3 for tenant in TENANTS}}
"""As `chaos.tasks` declares them."""

REACHED = ("all tenants", "tenant:0")
"""Half of the jobs are of one tenant, which is alone at the end."""

IN_TURN = [Ask("nap_in_turn", (0.1, 0.4), share=1.0 if tenant else 3.0, args={"tenant": tenant}) for tenant in TENANTS]
AGAIN = 40
"""Jobs after the last kill."""

# A start is told after it was decided, and an end before it counts: so what is told is never more than what ran.
PEAKS = """
SELECT key, max(at_once)::int AS peak FROM (
    SELECT key, at, sum(change) OVER (PARTITION BY key ORDER BY at, change) AS at_once FROM (
        SELECT key, t.at, CASE WHEN t.to_status = 'running' THEN 1 ELSE -1 END AS change
          FROM jobtrail.transitions t JOIN jobtrail.jobs j ON j.id = t.job_id CROSS JOIN unnest(j.limit_keys) AS key
         WHERE t.to_status = 'running' OR t.from_status = 'running') moves) counted
 WHERE at >= coalesce($1, '-infinity'::timestamptz) GROUP BY key
"""

LOST = """
SELECT count(*) FROM jobtrail.transitions t JOIN jobtrail.jobs j ON j.id = t.job_id
 WHERE t.reason = 'rescued' AND j.limit_keys IS NOT NULL
"""


async def limit(world: World, size: Size) -> Sequence[Figure]:
    """More is submitted than the limits let run. After the last kill, and its leases, there is more of it once again:
    what is not free by then never will be.
    """
    async with Fleet.started(world, lease=size.lease, serve=size.serve, work=size.work) as fleet:
        client = Client(world.ledger, world.random, lambda: fleet.services, IN_TURN, patience=size.lease)
        killing = asyncio.create_task(spread(_kill_busy, size, size.faults)(fleet))  # type: ignore[arg-type]
        await client.load(size.jobs, rate=size.rate, during=killing)
        await fleet.settled()
        over: datetime = await world.value("SELECT clock_timestamp()")
        await client.load(AGAIN, rate=4 * size.rate)
        await fleet.settled()
    lost = await world.value(LOST)
    return [
        Figure("limited jobs that were killed", lost),
        Figure("kills that met no limited job", int(not lost), 0),
        *await peaks(world, over),
        *await rescue_times(world, size.lease * 1.275),
    ]


async def _kill_busy(fleet: Fleet, _any: Member) -> None:
    await faults.kill(fleet, await fleet.runner())


async def peaks(world: World, over: datetime) -> list[Figure]:
    """`over`: since when nothing was killed any more."""
    found, again = [{row["key"]: row["peak"] for row in await world.rows(PEAKS, since)} for since in (None, over)]
    most = ", ".join(f"{key} {found.get(key, 0)} of {number}" for key, number in NUMBERS.items())
    more = sum(max(0, found.get(key, 0) - number) for key, number in NUMBERS.items())
    return [
        Figure("most at once", most),
        Figure("more at once than the limit", more, 0),
        Figure("limits not reached", sum(found.get(key, 0) < NUMBERS[key] for key in REACHED), 0),
        Figure("limits not reached again", sum(again.get(key, 0) < NUMBERS[key] for key in REACHED), 0),
    ]


COSTS = range(1, 51)


@dataclass(frozen=True)
class Window(Size):
    """The rate of a task, as `chaos.tasks` declares it; `rate` is how many of its jobs may begin in a second. `least`:
    the part of the number that must be used. What a busy machine is late by counts ten times as much in a short window.
    """

    task: str = "spend"
    key: str = "a minute"
    number: int = 3000
    per: float = 60.0
    least: float = 0.95


HOLD = "INSERT INTO jobtrail.limits (key, override) VALUES ($1, 0)"
LET_GO = "UPDATE jobtrail.limits SET override = NULL WHERE key = $1"


SPENT = """
WITH starts AS MATERIALIZED (
    SELECT t.at, (j.args ->> 'cost')::numeric AS cost
      FROM jobtrail.transitions t JOIN jobtrail.jobs j ON j.id = t.job_id
     WHERE t.to_status = 'running' AND j.limit_keys = ARRAY[$1::text]
), whole AS (SELECT min(at) AS first, max(at) - $2::interval AS last FROM starts)
SELECT (SELECT max(cost) FROM (
            SELECT sum(cost) OVER (ORDER BY at RANGE BETWEEN CURRENT ROW AND $2 FOLLOWING) AS cost FROM starts) sums
       )::int AS most,
       (SELECT (sum(cost * extract(epoch FROM least(at, last) - greatest(at - $2, first)))
                / extract(epoch FROM max(last) - max(first)))::float
          FROM starts, whole WHERE last > first) AS mean
"""
"""The cost of the windows that begin between the first start and a window before the last: the highest, and the mean
over all of them, which are more than anybody could count.
"""


async def share_a_rate(world: World, size: Size) -> Sequence[Figure]:
    """All of them wait when the first begins, so that nothing but the rate holds them up."""
    assert isinstance(size, Window)
    asks = [Ask(size.task, (0.01, 0.05), args={"cost": cost}) for cost in COSTS]
    async with Fleet.started(world, lease=size.lease, serve=size.serve, work=size.work, poll_every=1.0) as fleet:
        client = Client(world.ledger, world.random, lambda: fleet.services, asks, patience=12)
        await world.execute(HOLD, size.key)
        await client.load(size.jobs, rate=200)
        await world.execute(LET_GO, size.key)
        await spread(faults.kill, size, size.faults)(fleet)
        await world.settled(within=600)
        await fleet.settled()
    return [*await spent(world, size), *await rescue_times(world, size.lease * 1.275)]


async def spent(world: World, of: Window) -> list[Figure]:
    [row] = await world.rows(SPENT, of.key, timedelta(seconds=of.per))
    used = (row["mean"] or 0.0) / of.number
    return [
        Figure("most in a window", f"{row['most']} of {of.number} in {of.per:g} s"),
        Figure("more in a window than the number", max(0, (row["most"] or 0) - of.number), 0),
        Figure("used of the number, on the mean (%)", round(100 * used, 1)),
        Figure("used less than it must be", int(used < of.least), 0),
    ]


SCENARIOS = (
    Scenario(
        "limits",
        "`kill -9` of any of three nodes while two limits hold up the jobs of both",
        Size(jobs=1500, faults=20, rate=30, serve=1, work=2),
        Size(jobs=100, faults=3, rate=40, lease=1.0, serve=1, work=2),
        limit,
        shows=("more at once than the limit", "limits not reached", "limits not reached again"),
    ),
    Scenario(
        "rate",
        "`kill -9` of any of three nodes while jobs of cost 1 to 50 share a rate",
        Window(jobs=600, faults=6, rate=2, serve=1, work=2),
        Window(
            jobs=150, faults=2, rate=25, lease=2.0, serve=1, work=2,
            task="spend_fast", key="three seconds", number=1500, per=3.0, least=0.5,
        ),
        share_a_rate,
        shows=("more in a window than the number", "used less than it must be"),
    ),
)  # fmt: skip
