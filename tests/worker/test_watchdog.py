"""Who blocks the event loop is named, and its neighbours keep their leases meanwhile."""

import asyncio
import logging
import time
from datetime import timedelta
from uuid import uuid4

import pytest

from jobtrail.jobs.claim import claim_next
from jobtrail.jobs.history import read_history
from jobtrail.jobs.query import read
from jobtrail.status import Status
from support import tasks, world
from support.rescuer import rescuing
from support.until import until
from support.world import Place, judge

LEASE = timedelta(seconds=1)


async def test_a_task_that_blocks_the_loop_is_named_and_nobody_loses_a_lease(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="jobtrail.worker.watchdog")
    services = world.services_at(place)
    async with world.node_at(services, place, lease=LEASE):
        neighbour = await world.submitted(services, "hold")
        await world.reached(services, neighbour.id, Status.RUNNING)
        silent = await world.submitted(services, "noop", queue="silent")
        await claim_next(
            place.database, node=uuid4(), lease=timedelta(0), tasks=["noop"], queues=["silent"], free=1, salt=""
        )
        with rescuing(place, await judge(place)):
            job = await world.ended(services, (await world.submitted(services, "block", seconds=2.5)).id)

        async def is_told() -> bool:
            return "blocked the event loop for" in caplog.text

        await until(is_told)
        tasks.GATE.set()
        ended = await world.ended(services, neighbour.id)
    assert (await read(services, silent.id)).status is Status.FAILED, "nobody was rescued, so nothing was shown"
    for each in (job, ended):
        assert (each.status, each.attempt) == (Status.SUCCEEDED, 1)
        assert [move.reason for move in await read_history(services, each.id)] == ["submitted", "claimed", "succeeded"]
    told = [record for record in caplog.records if record.name == "jobtrail.worker.watchdog"]
    during, after = (record.getMessage() for record in told)
    assert during.startswith(f"task block (job {job.id}) at {tasks.__file__}:")
    assert "in block blocks the event loop, for 0." in during
    said = float(after.rpartition(" s; ")[0].rpartition(" ")[2])
    assert 2.2 <= said <= 4, after


async def test_a_quick_step_is_not_told(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place):
        await world.ended(services, (await world.submitted(services, "block", seconds=0.2)).id)
        await world.ended(services, (await world.submitted(services, "noop")).id)
    assert "the event loop" not in caplog.text


async def test_a_task_of_the_host_is_named_too(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    async def block() -> None:
        time.sleep(1)  # noqa: ASYNC251 - that is the fault

    async with world.node_at(world.services_at(place), place):
        await asyncio.create_task(block(), name="job-of-the-host")

        async def is_told() -> bool:
            return "blocked the event loop for" in caplog.text

        await until(is_told)
    assert "the asyncio task 'job-of-the-host' at " in caplog.text
    assert "watchdog:" not in caplog.text.replace("jobtrail.worker.watchdog:", "")
