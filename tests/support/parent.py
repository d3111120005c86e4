"""A node's process in small, started in the ways in which people start one: as a script, a module, an ASGI app."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from jobtrail import task
from jobtrail.records import Claimed
from jobtrail.task.task import Task
from jobtrail.worker.processes.pool import Child, Order, Processes
from support.contexts import Untied, context_of


@task(runs_in="process")
def here(n: int) -> list[object]:
    return [n + 1, __name__, os.getpid()]


@task(runs_in="process")
def forever() -> None:
    time.sleep(600)


async def run(child: Child, wanted: Task[..., Any], **args: Any) -> str | None:
    context = context_of(wanted.name)
    claimed = Claimed(context.job_id, 1, wanted.name, args, context.trace_id, 1, None, "ann")
    ended = await child.run(Order(claimed, wanted.function.__module__, 1000), Untied(), None)
    return getattr(ended, "result", None) or str(ended)


async def once() -> None:
    """Says what came of it, and ends without closing anything."""
    print(await run(await Processes([__name__]).child(), here, n=41), flush=True)


async def wait() -> None:
    """Says which processes there are: one that works, one that waits, and a fork that holds what they hold."""
    processes = Processes([__name__])
    busy, idle = await processes.child(), await processes.child()
    job = asyncio.create_task(run(busy, forever))
    found = [json_pid(await run(idle, here, n=0)), busy._process._process.pid]
    print(*found, forked_sleeper(), flush=True)
    await job


def forked_sleeper() -> int:
    if forked := os.fork():
        return forked
    time.sleep(600)
    os._exit(0)


def json_pid(result: str | None) -> int:
    return int((result or "").strip("[]").split(",")[-1])


async def app(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[Any]]
) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await once()
        await send({"type": "lifespan.startup.complete"})
        os.kill(os.getpid(), signal.SIGINT)
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


def main() -> None:
    asyncio.run(wait() if sys.argv[1:] == ["fork"] else once())


if __name__ == "__main__":
    main()
