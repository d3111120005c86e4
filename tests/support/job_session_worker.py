"""A process that runs one job whose task writes through its job session.

`python -m support.job_session_worker URL LEASE` says each step in a line, and completes the job when it is told a line.
"""

import asyncio
import os
import sys
from datetime import timedelta
from uuid import uuid4

from sqlalchemy import text

from jobtrail.db.engine import open_database
from jobtrail.errors import CommitFailedError
from jobtrail.jobs.claim import claim_next
from jobtrail.jobs.finish import OutcomeRecord
from jobtrail.jobs.session import complete, open_job_session
from jobtrail.status import Status


async def work(url: str, lease: timedelta) -> None:
    database, node = open_database(url), uuid4()
    [claimed] = await claim_next(database, node=node, lease=lease, tasks=["noop"], queues=(), free=1, salt="")
    session = await open_job_session(database, lease=lease)
    await session.execute(text("UPDATE effects SET times = times + 1"))
    print("wrote", flush=True)
    if not await asyncio.to_thread(sys.stdin.readline):
        os._exit(1)  # whoever started it is gone
    ending = OutcomeRecord(claimed.id, claimed.attempt, Status.SUCCEEDED, "succeeded")
    try:
        print((await complete(database, session, ending, node=node)).name, flush=True)
    except CommitFailedError:
        print("COMMIT FAILED", flush=True)
    await database.dispose()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], timedelta(seconds=float(sys.argv[2]))))
