"""A task that does not end when told to, apart from the others since it outlives its test by a little."""

import asyncio
import time

from jobtrail import task


@task
async def never_ends(seconds: float = 2.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            continue
