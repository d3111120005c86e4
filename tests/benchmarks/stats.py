"""What the numbers cost: stats and metrics of a large table, and the counting of what happened."""

import asyncio
import time
from collections.abc import Iterator
from functools import partial
from http.client import HTTPConnection
from urllib.parse import urlsplit

from benchmarks.lab import Database, Figure, Lab
from benchmarks.reads import ACCEPTS_ONLY
from jobtrail.db.engine import open_database
from jobtrail.db.url import normalize
from jobtrail.events import feed, metrics, numbers
from jobtrail.jobs.services import Services
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from jobtrail.task.task import task

PATHS = ("/v1/stats", "/v1/metrics", "/v1/metrics/database")
TASKS = 200
JOBS = 1000
HAPPENED = f"""
INSERT INTO jobtrail.transitions (job_id, seq, attempt, from_status, to_status, actor, reason, trace_id, task)
SELECT id, seq, 1, before, after, 'node', 'moved', repeat('0', 32), 'task' || n % 50
  FROM (SELECT n, gen_random_uuid() AS id FROM generate_series(1, {JOBS}) AS n OFFSET 0) AS j
 CROSS JOIN (VALUES (1, NULL, 'pending'), (2, 'pending', 'running'), (3, 'running', 'succeeded'))
       AS m(seq, before, after)
"""


def stats(lab: Lab) -> Iterator[Figure]:
    """Answers of a large table, each of which is made anew; the counting; and the text of many tasks."""
    count, waiting = lab.size.finished, lab.size.pending
    with lab.database("numbers", finished=count) as database:
        database.prepare(waiting)
        asyncio.run(settle(database))
        with lab.jobtrail("serve", url=database.url, **ACCEPTS_ONLY) as (_, told):
            found = lab.in_turn({path: partial(answered, told["url"], path) for path in PATHS})
        counted = lab.in_turn({"roll-up": partial(rolled_up, database)})["roll-up"]
    for path, figures in found.items():
        yield Figure(f"GET {path}, {count:,} finished and {waiting:,} pending", "ms", figures["ms"])
    yield Figure("counting what happened, per job", "µs", counted["us"])
    texts = lab.in_turn({"text": text_of_many, "meters": metered})
    yield Figure(f"text of /v1/metrics, {TASKS} tasks", "ms", texts["text"]["ms"])
    yield Figure(f"size of /v1/metrics, {TASKS} tasks", "kB", texts["text"]["kB"])
    yield Figure("counting in the process, per job", "µs", texts["meters"]["us"])


async def settle(database: Database) -> None:
    """Count what the table was filled with, in one transaction."""
    opened = open_database(normalize(database.url).sqlalchemy)
    try:
        await feed.mark(opened)
        await numbers.advance(Services(opened, Catalog()))
    finally:
        await opened.dispose()


def answered(url: str, path: str) -> dict[str, float]:
    """The median of a few, of which none is a second old."""
    took = []
    for _ in range(5):
        time.sleep(1.01)
        connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
        connection.connect()
        began = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        took.append((time.perf_counter() - began) * 1000)
        assert answer.status == 200
        connection.close()
    return {"ms": sorted(took)[2]}


def rolled_up(database: Database) -> dict[str, float]:
    """Jobs with three transitions each, of fifty tasks."""

    async def count() -> float:
        opened = open_database(normalize(database.url).sqlalchemy)
        try:
            await numbers.catch_up(opened)
            with database.unguarded():
                database.sql.execute(HAPPENED)
            began = time.perf_counter()
            await numbers.catch_up(opened)
            return (time.perf_counter() - began) / JOBS
        finally:
            await opened.dispose()

    return {"us": asyncio.run(count()) * 1_000_000}


async def nothing() -> None:
    pass


def of_many() -> Services:
    declared = [task(name=f"app.tasks.task_{number}")(nothing) for number in range(TASKS)]
    return Services(open_database("postgresql+asyncpg://127.0.0.1/none"), Catalog.of(declared))


def text_of_many() -> dict[str, float]:
    """Each task has run and failed."""
    services = of_many()
    for meter in services.meters.tasks.values():
        for status in (Status.SUCCEEDED, Status.FAILED, Status.PENDING):
            meter.start(0.5)
            meter.end(status, 0.5)
    began = time.perf_counter()
    text = metrics.process_metrics(services).text()
    return {"ms": (time.perf_counter() - began) * 1000, "kB": len(text) / 1000}


def metered() -> dict[str, float]:
    meters, count = of_many().meters, 100_000
    began = time.perf_counter()
    for _ in range(count):
        meters.tasks["app.tasks.task_7"].accepted += 1
        meters.tasks["app.tasks.task_7"].start(0.02)
        meters.tasks["app.tasks.task_7"].end(Status.SUCCEEDED, 0.5)
    return {"us": (time.perf_counter() - began) / count * 1_000_000}
