"""An end is offered until the database says whose attempt it was, and whoever waits for it waits to the end."""

import asyncio
import logging
from datetime import timedelta
from uuid import uuid4

import pytest

from jobtrail.db.group_commit import recorded
from jobtrail.jobs.claim import claim_next
from jobtrail.jobs.finish import OutcomeRecord, OutcomeRecorder, Recorded
from jobtrail.jobs.query import read
from jobtrail.status import Status
from support import tasks, world
from support.rows import taken_away
from support.until import until
from support.world import Place


async def running(place: Place) -> tuple[OutcomeRecord, OutcomeRecorder]:
    job = await world.submitted(world.services_at(place), "noop")
    node = uuid4()
    lease = timedelta(seconds=60)
    await claim_next(place.database, node=node, lease=lease, tasks=["noop"], queues=(), free=1, salt="")
    return OutcomeRecord(job.id, 1, Status.SUCCEEDED, "succeeded", result="1"), OutcomeRecorder(place.database, node)


async def test_a_locked_row_is_waited_for_however_long(place: Place) -> None:
    ending, endings = await running(place)
    transaction = place.psql.transaction()
    await transaction.start()
    await place.psql.execute("UPDATE jobtrail.jobs SET tags = '{mine}'")
    finishing = asyncio.create_task(endings.finish(ending))
    done, _ = await asyncio.wait({finishing}, timeout=4.5)  # longer than both lock timeouts
    assert not done
    await transaction.commit()
    assert await finishing is Recorded.YES
    job = await read(world.services_at(place), ending.id)
    assert (job.status, job.result, job.tags) == (Status.SUCCEEDED, 1, ["mine"])


async def test_a_cancelled_runner_waits_until_its_end_is_written(place: Place) -> None:
    ending, endings = await running(place)
    waiting = asyncio.create_task(recorded(endings.finish(ending)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await read(world.services_at(place), ending.id)).status is Status.SUCCEEDED


async def test_a_stale_end_is_told_in_the_log(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place):
        job = await world.submitted(services, "hold")
        await world.reached(services, job.id, Status.RUNNING)
        await taken_away(place, job.id)
        with caplog.at_level(logging.WARNING):
            tasks.GATE.set()

            async def told() -> bool:
                return f"stale: attempt 1 of job {job.id} ended as" in caplog.text

            await until(told)
    assert (await read(services, job.id)).error["type"] == "by-hand"
