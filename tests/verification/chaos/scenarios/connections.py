"""The wire to PostgreSQL is cut, hangs, and swallows the answers to what was committed."""

import asyncio
from collections.abc import Sequence

from chaos.client import Ask
from chaos.scenario import Figure, Scenario, Size
from chaos.scenarios.database import tormented
from chaos.wire import Wire
from chaos.world import World
from support.until import until

ASKS = (
    Ask("nap", (0.02, 0.4)),
    Ask("nap_in_thread", (0.01, 0.05), share=0.3),
    Ask("write_inside", (0.02, 0.4)),
    Ask("write_outside", (0.02, 0.4), share=0.3),
)

SHARES = {"cut": 0.2, "cut anew": 0.2, "swallow": 0.4, "hang": 0.2}

LONGEST_HANG = 6.0
"""Leases; with 3 s it is longer than any statement of ours may take."""


async def trouble_the_wire(world: World, size: Size) -> Sequence[Figure]:
    async with Wire.before(world) as wire:

        async def trouble() -> None:
            every = size.jobs / size.rate / size.faults
            while (left := size.faults - len(world.faults) - wire.under_way) > 0:
                await asyncio.sleep(every * world.random.uniform(0.5, 1.0))
                [which] = world.random.choices(list(SHARES), list(SHARES.values()))
                match which:
                    case "cut":
                        wire.cut()
                    case "cut anew":
                        wire.cut_the_next()
                    case "hang":
                        longest = LONGEST_HANG if left > 1 else 1.5
                        wire.hang(size.lease * world.random.uniform(1.2, longest))
                    case _:
                        wire.swallow()
            await until(lambda: _quiet(wire), within=LONGEST_HANG * size.lease + 30)

        # a node whose leases are on the connection that hangs is silent for the others
        return await tormented(world, size, ASKS, trouble, keyed=0.3, url=wire.url, rescued=None)


async def _quiet(wire: Wire) -> bool:
    return not wire.under_way


SCENARIOS = (
    Scenario(
        "connections",
        "connections cut, hung, and only the answer to a commit dropped",
        Size(jobs=1000, faults=120, rate=20),
        Size(jobs=60, faults=12, rate=25, lease=1.0, serve=1, work=1),
        trouble_the_wire,
        shows=("acknowledged and lost", "requests stored twice", "effects inside doubled"),
    ),
)
