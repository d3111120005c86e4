"""A lease is renewed as long as the job runs, whatever else the node, its loop or its database is busy with."""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from jobtrail.db.engine import open_single
from jobtrail.jobs.claim import claim_next
from jobtrail.jobs.fence import AttemptRef
from jobtrail.jobs.history import read_history
from jobtrail.jobs.progress import NewProgress, report
from jobtrail.jobs.query import read
from jobtrail.jobs.renew import renew
from jobtrail.jobs.services import Services
from jobtrail.jobs.submit import submit_batch
from jobtrail.status import Status
from jobtrail.task.submission import Submission
from support import tasks, world
from support.proxy import Proxy
from support.until import until
from support.world import Place, judge, rescuing

LEASE = timedelta(seconds=1)


def told(caplog: pytest.LogCaptureFixture, words: str) -> Callable[[], Awaitable[bool]]:
    async def fact() -> bool:
        return words in caplog.text

    return fact


async def test_leases_are_renewed_while_a_job_runs(place: Place, services: Services) -> None:
    more = "SELECT lease_until > $1 FROM jobtrail.jobs"
    async with (
        world.node_at(services, place, lease=4 * LEASE),
        world.node_at(services, place, lease=4 * LEASE, slots=0, threads=0),
    ):
        job = await world.running(services, "hold")
        first = await place.value("SELECT lease_until FROM jobtrail.jobs")
        await until(lambda: place.value(more, first + 4 * LEASE))
        tasks.GATE.set()
        job = await world.ended(services, job.id)
    assert (job.status, job.attempt) == (Status.SUCCEEDED, 1)


async def test_whoever_locks_the_node_s_own_row_costs_no_job_its_lease(
    place: Place, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.node_at(services, place, lease=LEASE):
        job = await world.running(services, "hold")
        await until(lambda: place.value("SELECT count(*) FROM jobtrail.nodes"))
        async with place.psql.transaction():
            await place.psql.execute("SELECT FROM jobtrail.nodes FOR UPDATE")
            before = await place.value("SELECT lease_until FROM jobtrail.jobs")
            await until(lambda: place.value("SELECT lease_until > $1 FROM jobtrail.jobs", before + 2 * LEASE))
        tasks.GATE.set()
        assert (await world.ended(services, job.id)).attempt == 1
    assert "its heartbeat is not written" in caplog.text


async def test_renewals_and_reports_lock_the_rows_in_one_order(place: Place, services: Services) -> None:
    await submit_batch(services, [Submission(task="noop") for _ in range(300)], by="ann")
    node, lease = uuid4(), timedelta(minutes=1)
    claimed = await claim_next(place.database, node=node, lease=lease, tasks=["noop"], queues=(), free=300, salt="")
    held = [AttemptRef(each.id, each.attempt) for each in claimed]
    said = [NewProgress(*each, progress="{}") for each in reversed(held)]

    async def write(statement: Callable[[AsyncConnection], Awaitable[object]]) -> None:
        async with place.database.autocommit() as connection:
            await statement(connection)

    for _ in range(15):
        await asyncio.gather(
            write(lambda connection: renew(connection, held, node=node, lease=lease)),
            write(lambda connection: report(connection, said, node=node)),
        )


HEARD = "SELECT heartbeat_at FROM jobtrail.nodes WHERE id = $1"
SINCE = "SELECT heartbeat_at > $2 FROM jobtrail.nodes WHERE id = $1"


async def test_a_connection_that_says_nothing_costs_no_job_its_lease(place: Place, services: Services) -> None:
    async with Proxy.before(place) as wire:
        with rescuing(place, await judge(place)):
            node = world.node_at(services, place, connect=partial(open_single, wire.url))
            async with node as running:
                job = await world.running(services, "hold")
                for _ in range(2):
                    before = await until(lambda: place.value(HEARD, running.id))
                    assert wire.hang()
                    await until(lambda before=before: place.value(SINCE, running.id, before))  # type: ignore[misc]
                tasks.GATE.set()
                assert (await world.ended(services, job.id)).status is Status.SUCCEEDED


async def test_a_task_that_blocks_the_loop_is_named_and_nobody_loses_a_lease(
    place: Place, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="jobtrail.worker.watchdog")
    async with world.node_at(services, place, lease=LEASE):
        neighbour = await world.running(services, "hold")
        silent = await world.submitted(services, "noop", queue="silent")
        minute = timedelta(minutes=1)
        await claim_next(place.database, node=uuid4(), lease=minute, tasks=["noop"], queues=["silent"], free=1, salt="")
        await place.psql.execute("UPDATE jobtrail.jobs SET lease_until = now() WHERE id = $1", silent.id)
        with rescuing(place, await judge(place)):
            job = await world.ran(services, "block", seconds=2.5)
        await until(told(caplog, "blocked the event loop for"))
        tasks.GATE.set()
        ended = await world.ended(services, neighbour.id)
    assert (await read(services, silent.id)).status is Status.FAILED, "nobody was rescued, so nothing was shown"
    for each in (job, ended):
        assert (each.status, each.attempt) == (Status.SUCCEEDED, 1)
        assert [move.reason for move in await read_history(services, each.id)] == ["submitted", "claimed", "succeeded"]
    during, after = (each.getMessage() for each in caplog.records if each.name == "jobtrail.worker.watchdog")
    assert during.startswith(f"task block (job {job.id}) at {tasks.__file__}:")
    assert "in block blocks the event loop, for 0." in during
    said = re.search(r"for ([\d.]+) s; ", after)
    assert said
    assert float(said[1]) >= 2.2


async def test_a_quick_step_is_not_told_and_a_task_of_the_host_is_named_too(
    place: Place, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    async def block() -> None:
        time.sleep(1)  # noqa: ASYNC251 - that is the fault

    async with world.node_at(services, place):
        await world.ran(services, "block", seconds=0.2)
        await world.ran(services, "noop")
        assert "the event loop" not in caplog.text
        await asyncio.create_task(block(), name="job-of-the-host")
        await until(told(caplog, "blocked the event loop for"))
    assert "the asyncio task 'job-of-the-host' at " in caplog.text
    assert "watchdog:" not in caplog.text.replace("jobtrail.worker.watchdog:", "")
