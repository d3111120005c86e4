"""Tasks for services that are processes of their own: what happens when, is said by files.

The deaf go on for ever, whatever they are told, each in another kind of place: only for processes that end.
"""

import asyncio
import time
from contextlib import suppress
from pathlib import Path

from jobtrail import JobContext, task


@task
async def add(a: int, b: int) -> int:
    return a + b


@task
async def nap(seconds: float = 0.02) -> None:
    await asyncio.sleep(seconds)


@task
async def talk(context: JobContext) -> None:
    for number, word in enumerate(("one", "two", "three"), 1):
        context.log.info(word)
        context.progress(number, 3)


@task
async def wait_for(context: JobContext, gate: Path) -> str:
    """Ends once the file `gate` is there. That it has begun can be seen by its progress."""
    context.progress(0)
    while not await asyncio.to_thread(gate.exists):
        await asyncio.sleep(0.01)
    context.log.info("the gate is there")
    return f"attempt {context.attempt}"


@task
async def talk_and_wait(context: JobContext, gate: Path) -> None:
    """Ends once the file `gate` is there, with more to say."""
    context.log.info("one")
    context.progress(1)
    context.log.info("two")
    while not await asyncio.to_thread(gate.exists):
        await asyncio.sleep(0.01)
    context.log.info("three")


@task
def wait_in_thread(gate: Path) -> str:
    while not gate.exists():
        time.sleep(0.01)
    return "went on"


@task(runs_in="process")
def wait_in_process(gate: Path) -> str:
    """Says by the file `gate`.begun that it has begun."""
    Path(f"{gate}.begun").touch()
    return wait_in_thread(gate)


@task(timeout=0.2)
async def never_listen() -> None:
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.05)


@task
async def fail(message: str) -> None:
    raise ValueError(message)


@task(unique_key="only:{name}", delay=600)
async def only_one(name: str) -> str:
    return name


DEAF = ("deaf_on_loop", "deaf_in_thread", "deaf_in_process")


@task
async def deaf_on_loop(begun: Path) -> None:
    begun.touch()
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.02)


@task
def deaf_in_thread(context: JobContext, begun: Path) -> None:
    """With a context, so that it could hear."""
    assert context.attempt
    begun.touch()
    while True:
        time.sleep(0.02)


@task(runs_in="process")
def deaf_in_process(begun: Path) -> None:
    while True:
        with suppress(BaseException):
            begun.touch()
            time.sleep(0.02)
