"""Animals that need a loop of their own or the context of their job."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from jobtrail import JobContext, task
from zoo.animals import BadStrError


@task
async def alone(context: JobContext, how: str) -> Any:
    """What only a coroutine can do."""
    return await ALONE[how](context)


@task
def talks(context: JobContext, how: str) -> None:
    _talk(context, how)


@task(runs_in="process")
def talks_in_process(context: JobContext, how: str) -> None:
    _talk(context, how)


def _talk(context: JobContext, how: str) -> None:
    match how:
        case "huge line":
            context.log.info("%s", "x" * 20_000_000)
        case "many lines":
            for n in range(20_000):
                context.log.info("line %d", n)
        case "huge note":
            context.progress(1, 2, "x" * 20_000_000)
        case "bad note":
            context.progress(1, 2, "\x00\ud800")
        case "much progress":
            for n in range(50_000):
                context.progress(n, 50_000)
        case "number of 5000 digits":
            context.progress(10**5000)


async def _never(_: JobContext) -> None:
    await asyncio.Event().wait()


async def _deaf(_: JobContext) -> None:
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)


async def _block(_: JobContext) -> str:
    time.sleep(1.5)  # noqa: ASYNC251 - that is the fault it shows
    return "awake"


async def _close_loop(_: JobContext) -> None:
    asyncio.get_running_loop().close()


async def _complain(_: JobContext) -> None:
    asyncio.get_running_loop().call_exception_handler({"message": "a complaint", "exception": BadStrError()})


async def _cancel_itself(_: JobContext) -> None:
    this = asyncio.current_task()
    assert this is not None
    this.cancel()
    await asyncio.sleep(60)


async def _cancel_and_go_on(_: JobContext) -> str:
    this = asyncio.current_task()
    assert this is not None
    this.cancel()
    return "went on"


async def _raise_in_callback(_: JobContext) -> int:
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)
    return 1


ALONE: dict[str, Callable[[JobContext], Any]] = {
    "never": _never,
    "deaf": _deaf,
    "blocks": _block,
    "closes the loop": _close_loop,
    "complains": _complain,
    "cancels itself": _cancel_itself,
    "cancels itself and goes on": _cancel_and_go_on,
    "raises in a callback": _raise_in_callback,
}
