"""`python -m benchmarks [MEASURE…]`: measure, and print a table."""

import argparse
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks import page
from benchmarks.drains import drain
from benchmarks.growth import auditor, growth, pending
from benchmarks.lab import SERVER, SIZES, Figure, Lab
from benchmarks.reads import batch, job, lists, purge
from benchmarks.stats import stats
from benchmarks.submits import endpoint, http
from benchmarks.traced import calls
from benchmarks.waiters import waiters
from benchmarks.waits import idle, start
from jobtrail.testing.server import embedded_server

ALL = (http, endpoint, drain, start, waiters, job, batch, lists, stats, purge, growth, pending, auditor, idle, calls)
MEASURES: dict[str, Callable[[Lab], Iterable[Figure]]] = {each.__name__: each for each in ALL}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure; everything when none is named.")
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=", ".join(MEASURES))
    parser.add_argument("--size", choices=SIZES, default="default")
    parser.add_argument("--rounds", type=int, default=0, help="other than those of the size")
    parser.add_argument("--finished", type=int, default=0, help="rows of finished jobs, other than those of the size")
    parser.add_argument("--page", action="store_true", help="write the results into docs/benchmarks.md")
    given = parser.parse_args()
    if unknown := set(given.measures) - set(MEASURES):
        parser.error(f"no such measure: {', '.join(sorted(unknown))}; there are {', '.join(MEASURES)}")
    others = {name: getattr(given, name) for name in ("rounds", "finished") if getattr(given, name)}
    size = SIZES[given.size]._replace(**others)
    with embedded_server(SERVER) as server, tempfile.TemporaryDirectory() as folder:
        lab = Lab(server, Path(folder), size)
        setting = "".join(f"- {each}\n" for each in lab.setting())
        print(setting, flush=True)
        for name in given.measures or MEASURES:
            figures = list(MEASURES[name](lab))
            print(page.table(figures), flush=True)
            more = f", --finished {given.finished}" if given.finished else ""
            if given.page:
                page.replace("setting", setting)
                page.write(name, figures, f"`make bench ARGS={name} SIZE={given.size}`, {size.rounds} rounds{more}.")


if __name__ == "__main__":
    main()
