"""What becomes of the figures when the table grows."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import psycopg

from benchmarks.drains import worked
from benchmarks.lab import Database, Figure, Lab
from benchmarks.submits import whole_jobs

FEW = 10_000
ANEW = 1_000_000
"""Larger tables are not made a second time."""


def growth(lab: Lab) -> Iterator[Figure]:
    """With finished rows: whole jobs, then drains. Each round adds its own."""
    counts = [0, *(lab.size.finished // part for part in (20, 4, 1))]
    with ExitStack() as stack:
        databases = {count: stack.enter_context(lab.database(f"growth_{count}")) for count in counts}
        whole, drained = {}, {}
        with ExitStack() as serving:
            for count, database in databases.items():
                database.fill(count)
                process, told = serving.enter_context(lab.jobtrail("serve", url=database.url))
                whole[f"whole {count}"] = partial(whole_jobs, lab, database, f"{told['url']}/v1/jobs", process)
            by_http = lab.in_turn(whole)
        for count, database in databases.items():
            if count <= ANEW:
                database.empty()
                database.fill(count)
            drained[f"drain {count}"] = partial(worked, lab, database, kept=count > 0)
        by_work = lab.in_turn(drained)
    for name, found, key in (("whole jobs over HTTP", by_http, "whole"), ("drain", by_work, "rate")):
        none, *more = found.values()
        for count, figures in zip(counts[1:], more, strict=True):
            what = f"{name}, {count:,} finished rows"
            yield Figure(what, "/s", figures[key], "none", none[key], name, count)
            for part, of in (("python", "Python"), ("postgres", "PostgreSQL")):
                yield Figure(f"{of} per job, {what}", "µs", figures[part], "none", none[part])


def pending(lab: Lab) -> Iterator[Figure]:
    """With many that wait: a drain looked at for some seconds."""
    few = min(FEW, lab.size.pending // 10)
    with lab.database("few") as less, lab.database("many") as more:
        found = lab.in_turn(
            {
                "few": partial(worked, lab, less, pending=few, kept=True),
                "many": partial(worked, lab, more, pending=lab.size.pending, kept=True),
            }
        )
    for key, unit, what in (("rate", "/s", "drain"), ("postgres", "µs", "PostgreSQL per drained job")):
        text = f"{what}, {lab.size.pending:,} pending"
        yield Figure(text, unit, found["many"][key], f"{few:,} pending", found["few"][key])


def auditor(lab: Lab) -> Iterator[Figure]:
    """While a transaction of a reader stays open, so that no dead row can be removed."""
    with lab.database("auditor") as database, lab.jobtrail("serve", url=database.url) as (serve, told):
        run = partial(whole_jobs, lab, database, f"{told['url']}/v1/jobs", serve, seconds=lab.size.opened)
        found = lab.in_turn({"open": partial(while_read, database, run), "none": run})
    for key, unit, what in (
        ("whole", "/s", "whole jobs"),
        ("postgres", "µs", "PostgreSQL per job"),
        ("p99", "ms", "p99"),
    ):
        text = f"{what}, a reader's transaction open for {lab.size.opened:g} s"
        yield Figure(text, unit, found["open"][key], "none open", found["none"][key])


def while_read(database: Database, run: partial[dict[str, float]]) -> dict[str, float]:
    with psycopg.connect(database.url) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT count(*) FROM jobtrail.jobs")
        return run()
