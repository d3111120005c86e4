"""What the fleet runs. Every task says which attempt it was, so that an end can be held against the row.

`n` is the number of the request that asked for the job. Effects go to the tables that `world` makes: `inside` through
the job session, `outside` by a connection that knows nothing of the job's end.
"""

import asyncio
import os
import time

import asyncpg
from sqlalchemy import text

from jobtrail import Fail, JobContext, Limit, Rate, Retry, task

URL = "CHAOS_URL"
"""The variable that names the database of the effects, for libpq."""

_INSIDE = text("INSERT INTO inside (job, attempt, token) VALUES (:job, :attempt, :token)")
_STEP = "INSERT INTO steps (job, attempt, step) VALUES ($1, $2, $3)"
_OUTSIDE = "INSERT INTO outside (job, attempt, token) VALUES ($1, $2, $3)"

_SOON = Retry(base=0.2, max=1.0)
"""The database is away again and again: the usual waits would add up to minutes."""

_pools: list[asyncpg.Pool] = []


@task(max_attempts=50)
async def nap(context: JobContext, n: int, seconds: float = 0.02) -> dict[str, int]:
    await asyncio.sleep(seconds)
    return {"attempt": context.attempt, "n": n}


@task(max_attempts=50)
async def chime(context: JobContext) -> dict[str, int]:
    """A job of a schedule: nobody asked for it."""
    await asyncio.sleep(0.02)
    return {"attempt": context.attempt}


@task(max_attempts=50)
def nap_in_thread(context: JobContext, n: int, seconds: float = 0.02) -> dict[str, int]:
    time.sleep(seconds)
    return {"attempt": context.attempt, "n": n}


@task(max_attempts=50, retry=_SOON)
async def write_inside(context: JobContext, n: int, seconds: float = 0.02) -> dict[str, int]:
    await asyncio.sleep(seconds)
    session = await context.session()
    values = {"job": context.job_id, "attempt": context.attempt, "token": context.idempotency_token}
    await session.execute(_INSIDE, values)
    await asyncio.sleep(min(seconds, 0.1))
    return {"attempt": context.attempt, "n": n}


@task(max_attempts=50, retry=_SOON)
async def write_outside(context: JobContext, n: int, seconds: float = 0.02) -> dict[str, int]:
    """The effect comes first: whoever runs the job again does it again."""
    pool = await _pool()
    await pool.execute(_OUTSIDE, context.job_id, context.attempt, context.idempotency_token)
    await asyncio.sleep(seconds)
    return {"attempt": context.attempt, "n": n}


@task(max_attempts=50)
async def nap_and_tell(context: JobContext, n: int, seconds: float = 0.02) -> dict[str, int]:
    """The effect comes last, and fails as little as the nap: whoever has made it has succeeded."""
    await asyncio.sleep(seconds)
    pool = await _pool()
    await pool.execute(_OUTSIDE, context.job_id, context.attempt, context.idempotency_token)
    return {"attempt": context.attempt, "n": n}


@task(max_attempts=50, limits=[Limit("tenant:{tenant}", 3), Limit("all tenants", 6)])
async def nap_in_turn(context: JobContext, n: int, tenant: int, seconds: float = 0.02) -> dict[str, int]:
    await asyncio.sleep(seconds)
    return {"attempt": context.attempt, "n": n, "tenant": tenant}


@task(max_attempts=50, limits=[Rate("a minute", 3000, per=60, cost="{cost}")])
async def spend(context: JobContext, n: int, cost: int, seconds: float = 0.02) -> dict[str, int]:
    await asyncio.sleep(seconds)
    return {"attempt": context.attempt, "n": n, "cost": cost}


@task(max_attempts=50, limits=[Rate("three seconds", 1500, per=3, cost="{cost}")])
async def spend_fast(context: JobContext, n: int, cost: int, seconds: float = 0.02) -> dict[str, int]:
    return await spend.function(context, n, cost, seconds)


@task(max_attempts=50)
async def meet(context: JobContext, n: int, at: float, fails: bool = False) -> dict[str, int]:
    """Those with the same `at` end together, whichever process runs them."""
    await asyncio.sleep(at - time.time())
    if fails:
        raise Fail("as asked")
    return {"attempt": context.attempt, "n": n}


@task(max_attempts=50)
async def climb(context: JobContext, n: int, steps: int, seconds: float = 0.0) -> dict[str, int]:
    """Notes each step where it is kept whatever becomes of the job, and makes a checkpoint behind it."""
    pool = await _pool()
    for step in range(context.cursor or 0, steps):
        await pool.execute(_STEP, context.job_id, context.attempt, step)
        await asyncio.sleep(seconds)
        await context.checkpoint(step + 1)
    return {"attempt": context.attempt, "n": n}


async def _pool() -> asyncpg.Pool:
    """The pool of this process; two that ask at once may make two."""
    if not _pools:
        made = await asyncpg.create_pool(os.environ[URL], min_size=0, max_size=2)
        _pools.append(made)
    return _pools[0]
