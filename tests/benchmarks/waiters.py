"""What many requests cost that wait for the end of a job, and how soon they are answered; and what a stream costs."""

import asyncio
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from urllib.parse import urlsplit

import psutil

from benchmarks.lab import Database, Figure, Lab

APART = 0.01
"""Seconds from one end to the next."""

QUIET = 3.0
"""Seconds in which all wait and nothing ends."""

STATEMENTS = """
SELECT CAST(coalesce(sum(calls), 0) AS float) FROM pg_stat_statements
  JOIN pg_database ON pg_database.oid = dbid WHERE datname = current_database()
"""


def waiters(lab: Lab) -> Iterator[Figure]:
    """Requests with `Prefer: wait`, answered by the process that runs their jobs, and by another."""
    count = lab.size.waiters
    slots = str(count + 10)
    with ExitStack() as stack:
        own, other = (stack.enter_context(lab.database(name)) for name in ("wait_own", "wait_other"))
        runs, told = stack.enter_context(lab.jobtrail("serve", url=own.url, JOBTRAIL_SLOTS=slots))
        accepts, heard = stack.enter_context(lab.jobtrail("serve", url=other.url, JOBTRAIL_SLOTS="0"))
        stack.enter_context(lab.jobtrail("work", url=other.url, JOBTRAIL_SLOTS=slots))
        for database in (own, other):
            database.sql.execute("CREATE EXTENSION pg_stat_statements")
        ways = {
            "own": partial(waited, own, runs.pid, told["url"], count),
            "other": partial(waited, other, accepts.pid, heard["url"], count),
        }
        found = lab.in_turn(ways)
    for name, where in (("own", "of this process"), ("other", "of another process")):
        for key, what, unit in (
            ("median", "from the end to the answer, median", "ms"),
            ("p99", "from the end to the answer, p99", "ms"),
            ("statements", "statements while all wait", "per second"),
            ("memory", "memory that they take", "MiB"),
        ):
            yield Figure(f"{count} requests wait for jobs {where}: {what}", unit, found[name][key])


def waited(database: Database, pid: int, url: str, count: int) -> dict[str, float]:
    database.empty()
    return asyncio.run(_waited(database, psutil.Process(pid), url, count))


async def _waited(database: Database, process: psutil.Process, url: str, count: int) -> dict[str, float]:
    before, offset = process.memory_info().rss, time.time() - database.now().timestamp()
    began = time.monotonic()
    first = 2.0 + QUIET + count * 0.005
    answers = [asyncio.create_task(_ask(url, first + APART * number, began)) for number in range(count)]
    await asyncio.sleep(began + first - QUIET - 0.5 - time.monotonic())
    asked = database.value(STATEMENTS)
    await asyncio.sleep(QUIET)
    statements = (database.value(STATEMENTS) - asked - 1) / QUIET
    memory = (process.memory_info().rss - before) / 2**20
    took = [
        (at - offset - datetime.fromisoformat(end).timestamp()) * 1000 for end, at in await asyncio.gather(*answers)
    ]
    cuts = statistics.quantiles(took, n=100, method="inclusive")
    return {"median": statistics.median(took), "p99": cuts[98], "statements": statements, "memory": memory}


async def _ask(url: str, ends: float, began: float) -> tuple[str, float]:
    """When the job had ended, and when the answer was there; `ends` in seconds after `began`."""
    at = urlsplit(url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    await asyncio.sleep(0)
    seconds = ends - (time.monotonic() - began)
    body = json.dumps({"task": "nap", "args": {"seconds": max(seconds, 0.1)}})
    writer.write(
        f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=30\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
    )
    said = (await reader.read()).partition(b"\r\n\r\n")[2]
    now = time.time()
    writer.close()
    return json.loads(said)["finished_at"], now
