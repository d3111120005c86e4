"""Tasks for services that are processes of their own: what happens when, is said by files."""

import asyncio
import time
from pathlib import Path

from jobtrail import JobContext, task


@task
async def add(a: int, b: int) -> int:
    return a + b


@task
async def wait_for(context: JobContext, gate: Path) -> str:
    """Ends once the file `gate` is there."""
    while not await asyncio.to_thread(gate.exists):
        await asyncio.sleep(0.01)
    return f"attempt {context.attempt}"


@task
def wait_in_thread(gate: Path) -> str:
    while not gate.exists():
        time.sleep(0.01)
    return "went on"


@task
async def fail(message: str) -> None:
    raise ValueError(message)
