"""Who may say that another node went silent: only who was heard of all the time, by the database's clock."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from jobtrail.jobs.claim import claim_next
from jobtrail.jobs.query import read
from jobtrail.jobs.rescue import rescue
from jobtrail.ops import nodes
from jobtrail.status import Status
from support import world
from support.rows import leases_ran_out
from support.until import until
from support.world import Place

LEASE = timedelta(seconds=4)
MINUTE = timedelta(minutes=1)

_UP = "SELECT clock_timestamp() - pg_postmaster_start_time() > $1"

AGO = "UPDATE jobtrail.nodes SET {0} = {0} - interval '{1} s' WHERE id = $1"


@pytest.fixture(autouse=True)
async def server_that_is_up_for_a_lease(place: Place) -> None:
    await until(lambda: place.value(_UP, LEASE))


async def beat(place: Place, node: UUID, lease: timedelta = LEASE) -> None:
    entry = {"host": "here", "pid": 1, "version": "test", "queues": [], "tasks": [], "slots": {}, "modules": {}}
    async with place.database.autocommit() as connection:
        await nodes.beat(connection, {**entry, "id": node, "lease": lease})


async def one_silent(place: Place) -> UUID:
    """A running job whose lease ran out; its id."""
    job = await world.submitted(world.services_at(place), "noop")
    await claim_next(place.database, node=uuid4(), lease=MINUTE, tasks=["noop"], queues=(), free=1, salt="")
    await leases_ran_out(place)
    return job.id


async def is_rescued(place: Place, job_id: UUID, judge: UUID) -> bool:
    await rescue(place.database, node=judge, by="judge")
    return (await read(world.services_at(place), job_id)).status is Status.FAILED


@pytest.mark.parametrize(
    ("steady", "heard", "may"),
    [(2, 0, False), (3.4, 0, True), (3.4, 1, True), (3.4, 2.4, False), (0, 2.4, False)],
)
async def test_a_node_judges_once_it_was_heard_of_for_a_lease(
    place: Place, steady: float, heard: float, may: bool
) -> None:
    """Its first beat counts for a quarter of one. `steady`, `heard`: seconds since the first and the last beat."""
    job_id, judge = await one_silent(place), uuid4()
    await beat(place, judge)
    await place.psql.execute(AGO.format("steady_since", steady), judge)
    await place.psql.execute(AGO.format("heartbeat_at", heard), judge)
    assert await is_rescued(place, job_id, judge) is may


async def test_a_node_that_was_away_begins_anew_with_its_next_beat(place: Place) -> None:
    job_id, judge = await one_silent(place), uuid4()
    await beat(place, judge)
    await place.psql.execute(AGO.format("steady_since", 60), judge)
    await place.psql.execute(AGO.format("heartbeat_at", 1), judge)
    await beat(place, judge)
    assert await is_rescued(place, job_id, judge)

    job_id = await one_silent(place)
    await place.psql.execute(AGO.format("heartbeat_at", 2.4), judge)
    await beat(place, judge)
    assert not await is_rescued(place, job_id, judge)
    await place.psql.execute(AGO.format("steady_since", 3), judge)
    assert not await is_rescued(place, job_id, judge)
    await place.psql.execute(AGO.format("steady_since", 1.4), judge)
    assert await is_rescued(place, job_id, judge)


async def test_it_waits_as_long_as_the_one_that_it_judges_may_need(place: Place) -> None:
    """Who has a longer lease beats less often, so is back later. What others have says nothing of this one."""
    job_id, judge, owner = await one_silent(place), uuid4(), uuid4()
    await place.psql.execute("UPDATE jobtrail.jobs SET node_id = $1", owner)
    await beat(place, judge)
    await beat(place, uuid4(), timedelta(hours=1))
    await beat(place, owner, timedelta(hours=1))
    await place.psql.execute(AGO.format("steady_since", 60), judge)
    assert not await is_rescued(place, job_id, judge)
    await place.psql.execute("DELETE FROM jobtrail.nodes WHERE id = $1", owner)
    assert await is_rescued(place, job_id, judge)


async def test_a_stranger_judges_nobody(place: Place) -> None:
    job_id = await one_silent(place)
    assert not await is_rescued(place, job_id, uuid4())


async def test_a_renewal_that_is_on_its_way_keeps_its_job(place: Place) -> None:
    """A rescue in two statements would read the old lease, and wait for the renewal only to overwrite it."""
    job_id, judge = await one_silent(place), uuid4()
    await beat(place, judge)
    await place.psql.execute(AGO.format("steady_since", 60), judge)
    transaction = place.psql.transaction()
    await transaction.start()
    await place.psql.execute("UPDATE jobtrail.jobs SET lease_until = now() + interval '1 h' WHERE id = $1", job_id)
    rescuing = asyncio.create_task(is_rescued(place, job_id, judge))
    await asyncio.wait({rescuing}, timeout=0.2)
    await transaction.commit()
    assert not await rescuing
