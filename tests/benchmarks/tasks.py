"""The task of every measure, which does nothing, and one that takes its time."""

import asyncio

from jobtrail import task


@task
async def noop(a: int = 0) -> dict[str, int]:
    return {"ok": a}


@task
async def nap(seconds: float) -> None:
    await asyncio.sleep(seconds)
