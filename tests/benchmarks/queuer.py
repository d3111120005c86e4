"""PgQueuer on the database of DATABASE_URL: an app that accepts, and a backlog that is drained.

python -m benchmarks.queuer COUNT
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from fastapi import FastAPI
from pgqueuer import AsyncpgPoolDriver, Job, PgQueuer, Queries

from benchmarks.apps import Submit
from benchmarks.bare import GROUP, measured


@asynccontextmanager
async def opened() -> AsyncIterator[Queries]:
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=4, max_size=10) as pool:
        queries = Queries(AsyncpgPoolDriver(pool))
        if not await pool.fetchval("SELECT to_regclass('pgqueuer')"):
            await queries.install()
        yield queries


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with opened() as app.state.queries:
        yield


app = FastAPI(lifespan=_lifespan)


@app.post("/jobs", status_code=202)
async def enqueue(body: Submit) -> dict[str, str]:
    ids = await app.state.queries.enqueue("noop", body.model_dump_json().encode())
    return {"id": str(ids[0]), "status": "pending"}


async def drain(count: int) -> None:
    async with opened() as queries:
        await queries.driver.execute("TRUNCATE pgqueuer, pgqueuer_log")
        worker, done = PgQueuer(queries.driver), 0

        @worker.entrypoint("noop")
        async def noop(_job: Job) -> None:
            nonlocal done
            done += 1
            if done == count:
                worker.shutdown.set()

        for start in range(0, count, 1000):
            size = min(1000, count - start)
            await queries.enqueue(["noop"] * size, [b'{"a":1}'] * size, [0] * size)
        with measured():
            await worker.run(batch_size=GROUP)


if __name__ == "__main__":
    asyncio.run(drain(int(sys.argv[1])))
