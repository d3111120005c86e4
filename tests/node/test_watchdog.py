"""Who blocks the event loop is named, and its neighbours keep their leases meanwhile."""

import logging
from datetime import timedelta

import pytest

from jobtrail.job.status import Status
from jobtrail.lifecycle.read import read_history
from support import house, tasks
from support.database import Place
from support.rescuer import rescuing
from support.until import until

LEASE = timedelta(seconds=1)


async def test_a_task_that_blocks_the_loop_is_named_and_nobody_loses_a_lease(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="jobtrail.node.watchdog")
    desk = house.desk_at(place)
    async with house.node_at(desk, place, lease=LEASE):
        neighbour = await house.submitted(desk, "hold")
        await house.reached(desk, neighbour.id, Status.RUNNING)
        with rescuing(place, LEASE):
            job = await house.ended(desk, (await house.submitted(desk, "block", seconds=2.5)).id)

        async def is_told() -> bool:
            return "blocked the event loop for" in caplog.text

        await until(is_told)
        tasks.GATE.set()
        ended = await house.ended(desk, neighbour.id)
    for each in (job, ended):
        assert (each.status, each.attempt) == (Status.SUCCEEDED, 1)
        assert [move.reason for move in await read_history(desk, each.id)] == ["submitted", "claimed", "succeeded"]
    told = [record for record in caplog.records if record.name == "jobtrail.node.watchdog"]
    during, after = (record.getMessage() for record in told)
    assert during.startswith(f"task block (job {job.id}) at {tasks.__file__}:")
    assert "in block blocks the event loop, for 0." in during
    said = float(after.rpartition(" s: ")[0].rpartition(" ")[2])
    assert 2.2 <= said <= 4, after


async def test_a_quick_step_is_not_told(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    desk = house.desk_at(place)
    async with house.node_at(desk, place):
        await house.ended(desk, (await house.submitted(desk, "block", seconds=0.2)).id)
        await house.ended(desk, (await house.submitted(desk, "noop")).id)
    assert "the event loop" not in caplog.text
