"""Leases, rescue and the fence in their plain form: two nodes, one of them silent."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest

from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.claim import claim_next
from jobtrail.jobs.finish import OutcomeRecord, Recorded, finish_group, settle
from jobtrail.jobs.history import read_history
from jobtrail.jobs.query import read
from jobtrail.jobs.renew import AttemptRef, renew
from jobtrail.jobs.rescue import rescue
from jobtrail.status import Status
from support import world
from support.rows import trail, typed
from support.until import until
from support.world import Place, judge


async def claimed_by_a_silent_node(place: Place, lease: timedelta = timedelta(0)) -> object:
    node = uuid4()
    await claim_next(place.database, node=node, lease=lease, tasks=["hold", "noop"], queues=(), free=10, salt="")
    return node


async def rescued(place: Place) -> None:
    await rescue(place.database, node=await judge(place), by="node x")


@pytest.mark.parametrize(
    ("max_attempts", "cancelled", "status"),
    [(1, False, "failed"), (2, False, "pending"), (1, True, "cancelled"), (2, True, "cancelled")],
)
async def test_an_attempt_whose_lease_ran_out(place: Place, max_attempts: int, cancelled: bool, status: str) -> None:
    services = world.services_at(place)
    job = await world.submitted(services, "noop", max_attempts=max_attempts)
    await claimed_by_a_silent_node(place)
    if cancelled:
        await cancel(services, job.id, by="ann", reason="enough")
    await rescued(place)
    job = await read(services, job.id)
    assert (job.status, job.node_id, job.attempt) == (status, None, 1)
    assert job.error is not None
    assert (job.error["type"], job.error["attempt"]) == ("lost", 1)
    last = (await read_history(services, job.id))[-1]
    by, why = ("ann", "enough") if cancelled else ("node x", "rescued")
    assert (last.actor, last.reason, last.to_status) == (by, why, status)


async def test_a_living_lease_is_left_alone(place: Place) -> None:
    services = world.services_at(place)
    job = await world.submitted(services, "noop")
    await claimed_by_a_silent_node(place, timedelta(seconds=60))
    await rescued(place)
    assert (await read(services, job.id)).status is Status.RUNNING


async def test_nobody_is_rescued_soon_after_postgresql_started(place: Place) -> None:
    services = world.services_at(place)
    job = await world.submitted(services, "noop")
    await claimed_by_a_silent_node(place)
    await rescue(place.database, node=await judge(place, timedelta(days=1)), by="node x")
    assert (await read(services, job.id)).status is Status.RUNNING


@pytest.mark.parametrize("wrong", ["node", "attempt", "rescued", "retried"])
async def test_a_stale_end_changes_nothing(place: Place, wrong: str) -> None:
    services = world.services_at(place)
    job = await world.submitted(services, "noop", max_attempts=2)
    node = await claimed_by_a_silent_node(place)
    ending = OutcomeRecord(job.id, 1, Status.SUCCEEDED, "succeeded", result='"late"')
    match wrong:
        case "node":
            node = uuid4()
        case "attempt":
            ending = OutcomeRecord(job.id, 2, Status.SUCCEEDED, "succeeded")
        case "rescued":
            await rescued(place)
        case "retried":
            await rescued(place)
            await claimed_by_a_silent_node(place, timedelta(seconds=60))
    before, known = await read(services, job.id), await trail(place, job.id)
    assert await finish_group(place.database, [ending], node=node) == [Recorded.UNKNOWN]
    assert await settle(place.database, ending, node=node) is Recorded.STALE
    assert await read(services, job.id) == before
    assert await trail(place, job.id) == known


async def test_an_end_that_landed_before_its_answer_was_lost(place: Place) -> None:
    services = world.services_at(place)
    jobs = [await world.submitted(services, "noop", max_attempts=2) for _ in range(2)]
    node = await claimed_by_a_silent_node(place, timedelta(seconds=60))
    endings = [
        OutcomeRecord(jobs[0].id, 1, Status.SUCCEEDED, "succeeded", result="1"),
        OutcomeRecord(jobs[1].id, 1, Status.PENDING, "ValueError", error='{"type": "ValueError"}'),
    ]
    assert await finish_group(place.database, endings, node=node) == [Recorded.YES] * 2
    assert await finish_group(place.database, endings, node=node) == [Recorded.UNKNOWN] * 2
    for ending in endings:
        assert await settle(place.database, ending, node=node) is Recorded.YES
    assert [len(await trail(place, job.id)) for job in jobs] == [3, 3]


async def test_settle_waits_for_a_commit_that_is_still_on_its_way(place: Place) -> None:
    """A plain read would say `running` and write again; FOR UPDATE waits for what the old transaction does."""
    services = world.services_at(place)
    job = await world.submitted(services, "noop")
    node = await claimed_by_a_silent_node(place, timedelta(seconds=60))
    ending = OutcomeRecord(job.id, 1, Status.SUCCEEDED, "succeeded", result="2")
    on_its_way = "status = 'succeeded', moved_by = 'node', move_reason = 'succeeded', result = '1'"
    assert await settled_during(place, on_its_way, ending, node=node) is Recorded.YES
    assert (await read(services, job.id)).result == 1


async def test_settle_knows_a_rescue_that_was_on_its_way(place: Place) -> None:
    services = world.services_at(place)
    job = await world.submitted(services, "noop")
    node = await claimed_by_a_silent_node(place)
    ending = OutcomeRecord(job.id, 1, Status.FAILED, "ValueError", error='{"type": "ValueError"}')
    on_its_way = """status = 'failed', moved_by = 'node x', move_reason = 'rescued', error = '{"type": "lost"}',
        node_id = NULL"""
    assert await settled_during(place, on_its_way, ending, node=node) is Recorded.STALE
    assert (await read(services, job.id)).error == {"type": "lost"}


async def settled_during(place: Place, on_its_way: str, ending: OutcomeRecord, *, node: object) -> Recorded:
    """The landing, after a wait for another transaction that has moved the row and commits late."""
    transaction = place.psql.transaction()
    await transaction.start()
    await place.psql.execute(
        f"""UPDATE jobtrail.jobs SET {on_its_way}, seq = seq + 1, lease_until = NULL, finished_at = now(),
            expires_at = now() + ttl WHERE id = $1""",
        ending.id,
    )
    settling = asyncio.create_task(settle(place.database, ending, node=node))
    done, _ = await asyncio.wait({settling}, timeout=0.3)
    assert not done
    await transaction.commit()
    return await settling


async def test_one_locked_row_does_not_hold_up_the_others(place: Place) -> None:
    services = world.services_at(place)
    jobs = [await world.submitted(services, "noop") for _ in range(10)]
    node = await claimed_by_a_silent_node(place, timedelta(seconds=60))
    endings = [OutcomeRecord(job.id, 1, Status.SUCCEEDED, "succeeded") for job in jobs]
    async with place.psql.transaction():
        await place.psql.execute("UPDATE jobtrail.jobs SET tags = '{mine}' WHERE id = $1", jobs[3].id)
        async with place.database.autocommit() as connection:
            await renew(connection, [AttemptRef(job.id, 1) for job in jobs], node=node, lease=timedelta(hours=1))
        renewed = await place.value("SELECT count(*) FROM jobtrail.jobs WHERE lease_until > now() + interval '30 min'")
        landings = await finish_group(place.database, endings, node=node)
    assert renewed == 9
    assert [index for index, landing in enumerate(landings) if landing is Recorded.UNKNOWN] == [3]
    assert await settle(place.database, endings[3], node=node) is Recorded.YES


async def test_a_renewal_of_another_node_or_attempt_keeps_nothing_alive(place: Place) -> None:
    services = world.services_at(place)
    job = await world.submitted(services, "noop")
    node = await claimed_by_a_silent_node(place)
    async with place.database.autocommit() as connection:
        await renew(connection, [AttemptRef(job.id, 1)], node=uuid4(), lease=timedelta(hours=1))
        await renew(connection, [AttemptRef(job.id, 2)], node=node, lease=timedelta(hours=1))
    await rescued(place)
    assert (await read(services, job.id)).status is Status.FAILED


async def test_a_claim_whose_answer_was_lost_is_started(place: Place) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place) as node:
        await node.worker.claim_loop.stop()
        job = await world.submitted(services, "noop")
        await claim_next(
            place.database, node=node.id, lease=timedelta(seconds=60), tasks=["noop"], queues=(), free=1, salt=""
        )
        job = await world.ended(services, job.id)
    assert (job.status, job.attempt) == (Status.SUCCEEDED, 1)


async def test_a_claim_whose_answer_was_lost_goes_back_where_there_is_no_room(place: Place) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place, slots=0) as node:
        job = await world.submitted(services, "noop")
        await claim_next(
            place.database, node=node.id, lease=timedelta(seconds=60), tasks=["noop"], queues=(), free=1, salt=""
        )
        job = await world.reached(services, job.id, Status.PENDING)
    assert (job.attempt, job.max_attempts) == (1, 2)
    assert (await read_history(services, job.id))[-1].reason == "released"


@pytest.mark.parametrize("status", ["failed", "cancelled", "succeeded"])
async def test_a_node_that_lost_a_job_stops_it(place: Place, status: str) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place):
        job = await world.submitted(services, "sleep_long")
        await world.reached(services, job.id, Status.RUNNING)
        await typed(place, job.id, status)

        async def stopped() -> bool:
            return not any(each.get_name() == f"job-{job.id}" for each in asyncio.all_tasks())

        await until(stopped)
    last = (await read_history(services, job.id))[-1]
    assert (last.to_status, last.reason) == (status, "sql")


@pytest.mark.parametrize(("max_attempts", "status"), [(1, Status.FAILED), (2, Status.PENDING)])
@pytest.mark.parametrize("task", ["sleep_long", "hold_in_thread"])
async def test_what_runs_when_the_node_stops_ends_by_the_rule_of_lost_jobs(
    place: Place, task: str, max_attempts: int, status: Status
) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place, grace=0.1) as node:
        job = await world.submitted(services, task, max_attempts=max_attempts)
        await world.reached(services, job.id, Status.RUNNING)
        await node.stop(0.1)
        job = await read(services, job.id)
    assert job.status is status
    assert job.error is not None
    assert job.error["type"] == "lost"
    assert await place.value("SELECT count(*) FROM jobtrail.nodes") == 0


async def test_a_stopping_node_lets_short_jobs_end(place: Place) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place) as node:
        job = await world.submitted(services, "hold", seconds=0.5)
        await world.reached(services, job.id, Status.RUNNING)
        await node.stop(10)
        assert (await read(services, job.id)).status is Status.SUCCEEDED
        await node.stop(10)
