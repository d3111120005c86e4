"""PYTHONPATH=tests:tests/verification python -m fuzz [--cases 10000] [--seed 1] [--keep FOLDER]

A service and a PostgreSQL of its own, on loopback; nothing else is called. It fails when any check does.
"""

import argparse
import asyncio
import sys
import time
from importlib.metadata import version
from pathlib import Path

from fuzz.fuzzing import fuzz
from jobtrail.testing import scratch_database
from support.servers import reachable_folder
from support.world import server

PHASES = ("examples", "coverage", "fuzzing", "stateful")


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--cases", type=int, default=10_000)
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--examples", type=int, default=100, help="for each call, in each phase of a round")
    asked.add_argument("--keep", type=Path, help="an existing folder for the log of the service")
    wanted = asked.parse_args()
    began = time.monotonic()
    with server("embedded") as postgres, scratch_database(postgres.url) as database, reachable_folder() as folder:
        figures = asyncio.run(
            fuzz(
                wanted.keep or folder, database.url, cases=wanted.cases, seed=wanted.seed, examples=wanted.examples,
                phases=PHASES,
            )
        )  # fmt: skip
    print(figures.said)
    print(f"schemathesis {version('schemathesis')}, seed {wanted.seed}, {time.monotonic() - began:.0f} s")
    print(f"{figures.cases} cases in {figures.rounds} rounds, {figures.let_pass} failures known to be none")
    print("accepted:", ", ".join(f"{call} {count}" for call, count in sorted(figures.accepted.items())))
    print("moves of jobs:", ", ".join(f"{status} {count}" for status, count in figures.reached.items()))
    wrong = [*figures.failures, *figures.errors, *figures.logged]
    print(f"failures: {len(wrong)}", *wrong, sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
