"""Jobtrail's own claim and finish in a loop, two at a time, without a node: what is left to win in Python.

`python -m benchmarks.bare` drains the database of DATABASE_URL.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import uuid4

from jobtrail.db.engine import open_database
from jobtrail.db.url import normalize
from jobtrail.jobs.claim import claim_next
from jobtrail.jobs.finish import OutcomeRecord, finish_group
from jobtrail.status import Status

GROUP = 200


async def main() -> None:
    database, node = open_database(normalize(os.environ["DATABASE_URL"]).sqlalchemy), uuid4()
    which = {"node": node, "lease": timedelta(seconds=30), "tasks": ["noop"], "queues": [], "free": GROUP}

    async def run() -> None:
        while claimed := await claim_next(database, **which, salt="1"):
            ended = [OutcomeRecord(e.id, e.attempt, Status.SUCCEEDED, "succeeded", '{"ok": 1}') for e in claimed]
            await finish_group(database, ended, node=node)

    with measured():
        await asyncio.gather(run(), run())
    await database.dispose()


@contextmanager
def measured() -> Iterator[None]:
    """Says that it begins, waits for a line, says its seconds and those of its CPU, and waits until they are read."""
    print("begins", flush=True)
    sys.stdin.readline()
    began, busy = time.perf_counter(), time.process_time()
    yield
    print(json.dumps([time.perf_counter() - began, time.process_time() - busy]), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    asyncio.run(main())
