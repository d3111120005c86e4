"""The process that takes a job dies when the row is committed, before it launches it."""

import asyncio
import signal
import statistics
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import count

import httpx

from chaos.client import Ask, Client
from chaos.fleet import Fleet, Member
from chaos.process import Nursery
from chaos.scenario import Figure, Scenario, Size
from chaos.world import World

ASKS = (Ask("nap", (0.01, 0.05)), Ask("write_inside", (0.01, 0.05)))

AT_ONCE = 2

POLL_EVERY = 0.5

SLACK = 1.0
"""Seconds for a claim, an end, and a machine that has other things to do."""

# A row that a dying service had claimed for itself waits for its lease; any other only for a poll.
TOOK = """
SELECT extract(epoch FROM j.finished_at - j.created_at)::float AS took,
       (SELECT count(*) FROM jobtrail.transitions t WHERE t.job_id = j.id AND t.reason = 'rescued') AS rescued
  FROM jobtrail.jobs j
"""


async def die_before_launch(world: World, size: Size) -> Sequence[Figure]:
    """Every other death comes before the answer. In full size too the services are forked: nobody else can be told to
    die just there.
    """
    numbers = count()
    async with AsyncExitStack() as stack:
        world.nursery = world.nursery or await stack.enter_async_context(Nursery.opened())
        started = Fleet.started(world, lease=size.lease, serve=0, work=size.work, poll_every=POLL_EVERY)
        fleet = await stack.enter_async_context(started)
        await asyncio.gather(*(_die_again_and_again(fleet, numbers, size.faults) for _ in range(AT_ONCE)))
        await fleet.settled()
    return _figures(await world.rows(TOOK), deaths=len(world.faults), bound=fleet.bound)


def _figures(took: Sequence[dict[str, float]], *, deaths: int, bound: float) -> Sequence[Figure]:
    patience = POLL_EVERY * 1.1 + SLACK
    late = [each for each in took if each["took"] > patience + bound * each["rescued"]]
    waited = [each["took"] for each in took if not each["rescued"]]
    told = f"{patience:.2f} / {statistics.median(waited):.2f} / {max(waited):.2f}"
    return [
        Figure("deaths without a stored job", deaths - len(took), 0),
        Figure("later than the bound", len(late), 0),
        Figure("seconds to the end: bound / median / longest", told),
        Figure("claimed by a dying service, and rescued", sum(bool(each["rescued"]) for each in took)),
    ]


async def _die_again_and_again(fleet: Fleet, numbers: "count[int]", times: int) -> None:
    world, settings = fleet.world, fleet.environment(SLOTS="4")
    while (number := next(numbers)) < times:
        where = ("answer", "commit")[number % 2]
        dying = Member(f"dying-{number}", "serve", world, settings, dies=where)
        fleet.members.append(dying)
        await dying.start()
        client = Client(world.ledger, world.random, lambda: [str(dying.url)], ASKS, first=number)  # noqa: B023
        async with asyncio.timeout(30), httpx.AsyncClient(trust_env=False, timeout=20) as http:
            promise = await client.submit(http)
        assert (promise is not None) == (where == "answer")
        ended = await dying.ended()
        assert ended == -signal.SIGKILL, f"it ended with {ended}"
        world.note(f"death before the launch ({where})", f"process {dying.pid} ended by signal {-ended}")


SCENARIOS = (
    Scenario(
        "commit-launch",
        "death between the commit of a job and its launch",
        Size(jobs=100, faults=200, rate=2),
        Size(jobs=3, faults=6, rate=2, lease=1.0, work=1),
        die_before_launch,
        shows=("not terminal", "later than the bound"),
    ),
)
