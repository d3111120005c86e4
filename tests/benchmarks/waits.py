"""What a single job waits, and what a node costs that has nothing to do."""

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import psutil

from benchmarks.lab import BODY, Database, Figure, Lab, asked

WAITED = """
SELECT extract(epoch FROM started_at - created_at)::float8 * 1000 FROM jobtrail.jobs WHERE started_at IS NOT NULL
"""


def start(lab: Lab) -> Iterator[Figure]:
    """From submit to start, one job at a time: by the process that accepted it, and by another."""
    with ExitStack() as stack:
        own, other = (stack.enter_context(lab.database(name)) for name in ("start_own", "start_other"))
        _, told = stack.enter_context(lab.jobtrail("serve", url=own.url))
        _, accepts = stack.enter_context(lab.jobtrail("serve", url=other.url, JOBTRAIL_SLOTS="0"))
        stack.enter_context(lab.jobtrail("work", url=other.url))
        found = lab.in_turn(
            {
                "own": partial(one_by_one, own, f"{told['url']}/v1/jobs", lab.size.singles),
                "other": partial(one_by_one, other, f"{accepts['url']}/v1/jobs", lab.size.singles),
                "trip": partial(round_trip, own),
            }
        )
    trip = found["trip"]["median"]
    for key in ("median", "p99"):
        what = f"submit to start, one at a time, {key}"
        yield Figure(what, "ms", found["own"][key], "a round trip to the database (SELECT 1)", trip)
        yield Figure(f"{what}, by another process", "ms", found["other"][key])


def one_by_one(database: Database, url: str, count: int) -> dict[str, float]:
    database.empty()
    for _ in range(count):
        asked("POST", url, BODY)
        database.settle()
    return cuts([row[0] for row in database.sql.execute(WAITED)])


def round_trip(database: Database) -> dict[str, float]:
    took = []
    for _ in range(200):
        began = time.perf_counter()
        database.sql.execute("SELECT 1")
        took.append((time.perf_counter() - began) * 1000)
    return cuts(took)


def cuts(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "p99": statistics.quantiles(values, n=100, method="inclusive")[98]}


def idle(lab: Lab) -> Iterator[Figure]:
    """A node with nothing to do, and one whose jobs are all due tomorrow."""
    with ExitStack() as stack:
        ways = {}
        for name, pending in (("no jobs", 0), (f"{lab.size.pending:,} jobs due tomorrow", lab.size.pending)):
            database = stack.enter_context(lab.database(f"idle_{pending}"))
            database.prepare(pending)
            database.sql.execute("UPDATE jobtrail.jobs SET run_at = now() + interval '1 day'")
            database.sql.execute("VACUUM ANALYZE jobtrail.jobs")
            process, _ = stack.enter_context(lab.jobtrail("work", url=database.url))
            ways[name] = partial(rested, lab, database, process.pid)
        found = lab.in_turn(ways)
    for name, figures in found.items():
        for key, unit in (("transactions", "per minute"), ("CPU of Python", "%"), ("memory", "MiB")):
            yield Figure(f"idle `work`, {name}: {key}", unit, figures[key])


def rested(lab: Lab, database: Database, pid: int) -> dict[str, float]:
    """For a minute, since some loops tick once in it. What this asks itself is a transaction, and is taken off."""
    time.sleep(min(lab.size.seconds * 2, 10))  # what a start takes is over
    committed = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    process, seconds = psutil.Process(pid), min(lab.size.seconds * 15, 60)
    before, busy, began = database.value(committed), sum(process.cpu_times()[:2]), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    transactions = (database.value(committed) - before - 1) / took * 60
    cpu = (sum(process.cpu_times()[:2]) - busy) / took * 100
    return {"transactions": transactions, "CPU of Python": cpu, "memory": process.memory_info().rss / 2**20}
