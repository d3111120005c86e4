"""A process that runs one job whose task writes through its job session.

`python -m support.job_session_worker URL LEASE` says each step in a line, and completes the job when it is told a line.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Final
from uuid import uuid4

from sqlalchemy import text

from jobtrail.db.engine import open_database
from jobtrail.errors import CommitFailedError
from jobtrail.jobs.claim import claim_next
from jobtrail.jobs.finish import OutcomeRecord
from jobtrail.jobs.job_session import complete, open_job_session
from jobtrail.status import Status

_LONG: Final = timedelta(minutes=1)
"""A claim has a part of its lease to be answered, however busy the machine is; the lease of `work` is the session's."""


async def work(url: str, lease: timedelta, wrote: Callable[[], object] = bool) -> str:
    """What became of the end. `wrote` is called in a thread before it."""
    database, node = open_database(url), uuid4()
    [claimed] = await claim_next(database, node=node, lease=_LONG, tasks=["noop"], queues=(), free=1, salt="")
    session = await open_job_session(database, lease=lease)
    await session.execute(text("UPDATE effects SET times = times + 1"))
    await asyncio.to_thread(wrote)
    ending = OutcomeRecord(claimed.id, claimed.attempt, Status.SUCCEEDED, "succeeded")
    try:
        return (await complete(database, session, ending, node=node)).name
    except CommitFailedError:
        return "COMMIT FAILED"
    finally:
        await database.dispose()


def say_and_wait() -> None:
    print("wrote", flush=True)
    if not sys.stdin.readline():
        os._exit(1)  # whoever started it is gone


if __name__ == "__main__":
    print(asyncio.run(work(sys.argv[1], timedelta(seconds=float(sys.argv[2])), say_and_wait)), flush=True)
