"""Tasks that go on for ever, whatever they are told: each in another kind of place. Only for processes that end."""

import asyncio
import time
from contextlib import suppress
from pathlib import Path

from jobtrail import JobContext, task

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
