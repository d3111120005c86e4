"""Leases, rescue and the fence in their plain form: two nodes, one of them silent."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.claim import claim_next
from jobtrail.jobs.fence import AttemptRef
from jobtrail.jobs.finish import OutcomeRecord, Recorded, finish_group, settle
from jobtrail.jobs.history import read_history
from jobtrail.jobs.query import read
from jobtrail.jobs.renew import renew
from jobtrail.jobs.rescue import rescue
from jobtrail.jobs.services import Services
from jobtrail.status import Status
from support import world
from support.rows import leases_ran_out, trail, typed
from support.until import until
from support.world import Place, judge

MINUTE = timedelta(seconds=60)


async def claimed(place: Place, *, node: UUID | None = None, is_lost: bool = False) -> UUID:
    """All that waits, by a node of which nothing is heard afterwards."""
    node = node or uuid4()
    await claim_next(place.database, node=node, lease=MINUTE, tasks=["hold", "noop"], queues=(), free=10, salt="")
    if is_lost:
        await leases_ran_out(place)
    return node


async def rescued(place: Place) -> None:
    await rescue(place.database, node=await judge(place), by="node x")


def succeeded(job_id: UUID, attempt: int = 1, **more: Any) -> OutcomeRecord:
    return OutcomeRecord(job_id, attempt, Status.SUCCEEDED, "succeeded", **more)


@pytest.mark.parametrize(
    ("max_attempts", "cancelled", "status"),
    [(1, False, "failed"), (2, False, "pending"), (1, True, "cancelled"), (2, True, "cancelled")],
)
async def test_an_attempt_whose_lease_ran_out(
    place: Place, services: Services, max_attempts: int, cancelled: bool, status: str
) -> None:
    job = await world.submitted(services, "noop", max_attempts=max_attempts)
    await claimed(place, is_lost=True)
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


async def test_a_living_lease_is_left_alone_and_any_soon_after_postgresql_started(
    place: Place, services: Services
) -> None:
    job = await world.submitted(services, "noop")
    await claimed(place)
    await rescued(place)
    assert (await read(services, job.id)).status is Status.RUNNING
    await place.psql.execute("UPDATE jobtrail.jobs SET lease_until = now()")
    await rescue(place.database, node=await judge(place, timedelta(days=1)), by="node x")
    assert (await read(services, job.id)).status is Status.RUNNING


@pytest.mark.parametrize("wrong", ["node", "attempt", "rescued", "retried"])
async def test_a_stale_end_changes_nothing(place: Place, services: Services, wrong: str) -> None:
    job = await world.submitted(services, "noop", max_attempts=2)
    node = await claimed(place, is_lost=True)
    ending = succeeded(job.id, 2 if wrong == "attempt" else 1, result='"late"')
    if wrong == "node":
        node = uuid4()
    if wrong in {"rescued", "retried"}:
        await rescued(place)
    if wrong == "retried":
        await claimed(place)
    before, known = await read(services, job.id), await trail(place, job.id)
    assert await finish_group(place.database, [ending], node=node) == [Recorded.UNKNOWN]
    assert await settle(place.database, ending, node=node) is Recorded.STALE
    assert await read(services, job.id) == before
    assert await trail(place, job.id) == known


async def test_an_end_that_landed_before_its_answer_was_lost(place: Place, services: Services) -> None:
    jobs = [await world.submitted(services, "noop", max_attempts=2) for _ in range(2)]
    node = await claimed(place)
    again = OutcomeRecord(jobs[1].id, 1, Status.PENDING, "ValueError", error='{"type": "ValueError"}')
    endings = [succeeded(jobs[0].id, result="1"), again]
    assert await finish_group(place.database, endings, node=node) == [Recorded.YES] * 2
    assert await finish_group(place.database, endings, node=node) == [Recorded.UNKNOWN] * 2
    for ending in endings:
        assert await settle(place.database, ending, node=node) is Recorded.YES
    assert [len(await trail(place, job.id)) for job in jobs] == [3, 3]


@pytest.mark.parametrize(
    ("on_its_way", "landing", "result", "error"),
    [
        ("status = 'succeeded', moved_by = 'node', move_reason = 'succeeded', result = '1'", Recorded.YES, 1, None),
        (
            """status = 'failed', moved_by = 'node x', move_reason = 'rescued', error = '{"type": "lost"}',
                node_id = NULL""",
            Recorded.STALE, None, {"type": "lost"},
        ),
    ],
    ids=["its own end", "a rescue"],
)  # fmt: skip
async def test_settle_waits_for_a_commit_that_is_still_on_its_way(
    place: Place, services: Services, on_its_way: str, landing: Recorded, result: int | None, error: Any
) -> None:
    """A plain read would say `running` and write again; FOR UPDATE waits for what the old transaction does."""
    job = await world.submitted(services, "noop")
    node = await claimed(place)
    transaction = place.psql.transaction()
    await transaction.start()
    await place.psql.execute(
        f"""UPDATE jobtrail.jobs SET {on_its_way}, seq = seq + 1, lease_until = NULL, finished_at = now(),
            expires_at = now() + ttl WHERE id = $1""",
        job.id,
    )
    settling = asyncio.create_task(settle(place.database, succeeded(job.id, result="2"), node=node))
    done, _ = await asyncio.wait({settling}, timeout=0.3)
    assert not done
    await transaction.commit()
    assert await settling is landing
    found = await read(services, job.id)
    assert (found.result, found.error) == (result, error)


async def test_one_locked_row_does_not_hold_up_the_others(place: Place, services: Services) -> None:
    jobs = [await world.submitted(services, "noop") for _ in range(10)]
    node = await claimed(place)
    endings = [succeeded(job.id) for job in jobs]
    async with place.psql.transaction():
        await place.psql.execute("UPDATE jobtrail.jobs SET tags = '{mine}' WHERE id = $1", jobs[3].id)
        async with place.database.autocommit() as connection:
            await renew(connection, [AttemptRef(job.id, 1) for job in jobs], node=node, lease=timedelta(hours=1))
        renewed = await place.value("SELECT count(*) FROM jobtrail.jobs WHERE lease_until > now() + interval '30 min'")
        landings = await finish_group(place.database, endings, node=node)
    assert renewed == 9
    assert [index for index, landing in enumerate(landings) if landing is Recorded.UNKNOWN] == [3]
    assert await settle(place.database, endings[3], node=node) is Recorded.YES


async def test_a_renewal_of_another_node_or_attempt_keeps_nothing_alive(place: Place, services: Services) -> None:
    job = await world.submitted(services, "noop")
    node = await claimed(place, is_lost=True)
    async with place.database.autocommit() as connection:
        await renew(connection, [AttemptRef(job.id, 1)], node=uuid4(), lease=timedelta(hours=1))
        await renew(connection, [AttemptRef(job.id, 2)], node=node, lease=timedelta(hours=1))
    await rescued(place)
    assert (await read(services, job.id)).status is Status.FAILED


async def test_a_claim_whose_answer_was_lost_is_started(place: Place, services: Services) -> None:
    async with world.node_at(services, place) as node:
        await node.worker.claim_loop.stop()
        job = await world.submitted(services, "noop")
        await claimed(place, node=node.id)
        job = await world.ended(services, job.id)
    assert (job.status, job.attempt) == (Status.SUCCEEDED, 1)


async def test_a_claim_whose_answer_was_lost_goes_back_where_there_is_no_room(place: Place, services: Services) -> None:
    async with world.node_at(services, place, slots=0) as node:
        job = await world.submitted(services, "noop")
        await claimed(place, node=node.id)
        job = await world.reached(services, job.id, Status.PENDING)
    assert (job.attempt, job.max_attempts) == (1, 2)
    assert (await read_history(services, job.id))[-1].reason == "released"


async def test_a_node_that_lost_jobs_stops_them(place: Place, services: Services) -> None:
    async with world.node_at(services, place):
        jobs = {to: (await world.running(services, "sleep_long")).id for to in ("failed", "cancelled", "succeeded")}
        names = {f"job-{job_id}" for job_id in jobs.values()}
        for to, job_id in jobs.items():
            await typed(place, job_id, to)

        async def stopped() -> bool:
            return names.isdisjoint(each.get_name() for each in asyncio.all_tasks())

        await until(stopped)
    for to, job_id in jobs.items():
        last = (await read_history(services, job_id))[-1]
        assert (last.to_status, last.reason) == (to, "sql")
