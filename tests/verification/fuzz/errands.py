"""Tasks that end at once, in each way and each kind of place, so that jobs reach every status while calls come in."""

import asyncio
import time
from typing import Literal

from jobtrail import Again, JobContext, task

Ways = Literal["sent", "again", "refused", "slow"]


@task(max_attempts=2)
async def send_email(context: JobContext, to: str = "ann@example.org", way: Ways = "sent") -> dict[str, str]:
    _say(context, to, way)
    if way == "slow":
        await asyncio.sleep(0.3)
    return {"to": to}


@task(max_attempts=2)
def print_page(context: JobContext, to: str = "ann@example.org", way: Ways = "sent") -> dict[str, str]:
    _say(context, to, way)
    if way == "slow":
        time.sleep(0.3)
    return {"to": to}


@task(max_attempts=2, runs_in="process")
def draw_picture(context: JobContext, to: str = "ann@example.org", way: Ways = "sent") -> dict[str, str]:
    return print_page.function(context, to, way)


def _say(context: JobContext, to: str, way: Ways) -> None:
    context.progress(1, 2, way)
    context.log.info("to %s", to)
    if way == "again":
        raise Again(after=0.01)
    if way == "refused":
        raise ConnectionRefusedError(to)
