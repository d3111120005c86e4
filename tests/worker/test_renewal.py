"""A lease is renewed as long as the job runs, whatever else the node, its loop or its database is busy with."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from jobtrail.db.engine import open_single
from jobtrail.jobs.claim import claim_next
from jobtrail.jobs.renew import AttemptRef, Said, renew, report
from jobtrail.jobs.submit import submit_batch
from jobtrail.status import Status
from jobtrail.task.submission import Submission
from support import tasks, world
from support.proxy import Proxy
from support.rescuer import rescuing
from support.until import until
from support.world import Place, judge


async def test_leases_are_renewed_while_a_job_runs(place: Place) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place), world.node_at(services, place, slots=0, threads=0):
        job = await world.submitted(services, "hold")
        await world.reached(services, job.id, Status.RUNNING)
        end = time.monotonic() + 2.5 * world.LEASE.total_seconds()

        async def later() -> bool:
            return time.monotonic() > end

        await until(later)
        tasks.GATE.set()
        job = await world.ended(services, job.id)
    assert (job.status, job.attempt) == (Status.SUCCEEDED, 1)


async def test_a_task_that_blocks_the_loop_loses_no_lease(place: Place) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place), world.node_at(services, place, slots=0, threads=0):
        job = await world.submitted(services, "hold")
        await world.reached(services, job.id, Status.RUNNING)
        time.sleep(2 * world.LEASE.total_seconds())  # noqa: ASYNC251 - what a badly written task does to the loop
        tasks.GATE.set()
        job = await world.ended(services, job.id)
    assert (job.status, job.attempt) == (Status.SUCCEEDED, 1)


async def test_whoever_locks_the_node_s_own_row_costs_no_job_its_lease(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place, lease=timedelta(seconds=1.2)):
        job = await world.submitted(services, "hold")
        await world.reached(services, job.id, Status.RUNNING)
        await until(lambda: place.value("SELECT count(*) FROM jobtrail.nodes"))
        async with place.psql.transaction():
            await place.psql.execute("SELECT FROM jobtrail.nodes FOR UPDATE")
            until_when = await place.value("SELECT lease_until FROM jobtrail.jobs")

            async def is_renewed() -> bool:
                return bool(
                    await place.value("SELECT lease_until - interval '2 s' > $1 FROM jobtrail.jobs", until_when)
                )

            await until(is_renewed)
        tasks.GATE.set()
        assert (await world.ended(services, job.id)).attempt == 1
    assert "its heartbeat is not written" in caplog.text


async def test_renewals_and_reports_lock_the_rows_in_one_order(place: Place) -> None:
    services = world.services_at(place)
    await submit_batch(services, [Submission(task="noop") for _ in range(300)], by="ann")
    node = uuid4()
    claimed = await claim_next(
        place.database, node=node, lease=timedelta(minutes=1), tasks=["noop"], queues=(), free=300, salt=""
    )
    held = [AttemptRef(each.id, each.attempt) for each in claimed]

    async def write(statement: Callable[[AsyncConnection], Awaitable[object]]) -> None:
        async with place.database.autocommit() as connection:
            await statement(connection)

    said = [Said(*each, progress="{}") for each in reversed(held)]
    for _ in range(15):
        await asyncio.gather(
            write(lambda connection: renew(connection, held, node=node, lease=timedelta(minutes=1))),
            write(lambda connection: report(connection, said, node=node)),
        )


async def test_a_connection_that_says_nothing_costs_no_job_its_lease(place: Place) -> None:
    services, lease = world.services_at(place), timedelta(seconds=2)
    async with Proxy.before(place) as wire:
        with rescuing(place, await judge(place)):
            async with world.node_at(services, place, connect=partial(open_single, wire.url), lease=lease) as node:
                job = await world.submitted(services, "hold")
                await world.reached(services, job.id, Status.RUNNING)
                for _ in range(3):
                    before = await until(lambda: place.value(HEARD, node.id))
                    assert wire.hang()
                    await until(lambda before=before: place.value(HEARD_SINCE, node.id, before))  # type: ignore[misc]
                tasks.GATE.set()
                assert (await world.ended(services, job.id)).status is Status.SUCCEEDED


HEARD = "SELECT heartbeat_at FROM jobtrail.nodes WHERE id = $1"
HEARD_SINCE = "SELECT heartbeat_at > $2 FROM jobtrail.nodes WHERE id = $1"
