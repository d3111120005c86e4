"""`jobtrail tail`: the feed on a terminal and in a pipe."""

import asyncio
import json
import signal

from jobtrail.status import Status
from support import rows
from support.command import Command
from support.world import Place


async def test_it_follows_what_is_wanted_until_it_is_interrupted(jobtrail: Command, place: Place) -> None:
    process = await jobtrail.start("tail", "--task", "mail", "--status", "cancelled", "--json")
    assert process.stdout
    line = asyncio.create_task(process.stdout.readline())
    while not line.done():  # it may not be there yet
        for task in ("other", "mail"):
            await rows.moved(place, await rows.born(place, task), Status.CANCELLED)
        await asyncio.wait({line}, timeout=0.5)
    found = json.loads(await line)
    assert (found["task"], found["from_status"], found["to_status"]) == ("mail", "pending", "cancelled")
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 130

    job = await rows.born(place, "mail")
    process = await jobtrail.start("tail", "--since", found["id"])
    assert process.stdout
    words = (await process.stdout.readline()).decode().split()
    while str(job) not in words:
        words = (await process.stdout.readline()).decode().split()
    assert words[2:] == ["mail", "new", "→", "pending", "attempt", "0", "sql"]
    process.send_signal(signal.SIGTERM)
    await process.wait()


async def test_what_is_no_id(jobtrail: Command) -> None:
    done = await jobtrail("tail", "--since", "x")
    assert done.code == 2
    assert "--since: since='x' is no id of an event" in done.err


async def test_an_id_of_another_database(jobtrail: Command, place: Place) -> None:
    process = await jobtrail.start("tail", "--since", "1000000-12345678-0")
    assert process.stderr
    assert b"this id is of another history" in await process.stderr.readline()
    process.send_signal(signal.SIGINT)
    await process.wait()
    assert place
