"""`python -m chaos`: play scenarios one after another; exit 1 when a figure is not what it must be."""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

from chaos import page
from chaos.process import Nursery
from chaos.scenario import Scenario, play
from chaos.scenarios import SCENARIOS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chaos", description="Play scenarios; all when none is named.")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--small", action="store_true", help="the size that the tests play")
    parser.add_argument("--seed", type=int, default=None, help="of whom, what and when; the time when none is given")
    parser.add_argument("--page", action="store_true", help="write the results into docs/chaos.md")
    said = parser.parse_args()
    if unknown := set(said.scenarios) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    seed = int(time.time()) if said.seed is None else said.seed
    return asyncio.run(_play([SCENARIOS[name] for name in said.scenarios or SCENARIOS], said.small, seed, said.page))


async def _play(scenarios: Sequence[Scenario], small: bool, seed: int, is_kept: bool) -> int:
    wrong = 0
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(Nursery.opened()) if small else None
        for scenario in scenarios:
            result = await play(scenario, scenario.small if small else scenario.full, seed, nursery)
            print(result, flush=True)
            wrong += bool(result.wrong)
            if is_kept:
                page.write(result)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
