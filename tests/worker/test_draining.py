"""A node that begins to stop: what it still does, for how long, and what it leaves."""

import asyncio
import time
from datetime import timedelta

import pytest

from jobtrail.jobs.claim import claim_next
from jobtrail.jobs.history import read_history
from jobtrail.jobs.query import read
from jobtrail.jobs.renew import AttemptRef, RunningAttempt
from jobtrail.jobs.services import Services
from jobtrail.status import Status
from support import tasks, world
from support.rows import born
from support.until import until
from support.world import Place

ONCE = timedelta(seconds=60)


async def test_it_claims_no_more_from_the_moment_it_is_told(place: Place) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place) as node:
        held = await world.submitted(services, "hold")
        await world.reached(services, held.id, Status.RUNNING)
        node.drain(10)
        assert not node.accepting()
        later = await world.submitted(services, "noop")
        node.launch(later.id, later.task, later.queue)
        tasks.GATE.set()
        await world.reached(services, held.id, Status.SUCCEEDED)
        await node.stop(10)
        assert (await read(services, later.id)).status is Status.PENDING
        assert await place.rows("SELECT FROM jobtrail.nodes") == []


@pytest.mark.parametrize("limits", [(0.3, 3600.0), (3600.0, 0.3)], ids=["later more", "later less"])
async def test_the_earliest_limit_holds(place: Place, limits: tuple[float, float]) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place, cancel_grace=timedelta(seconds=0.1)) as node:
        job = await world.submitted(services, "sleep_long")
        await world.reached(services, job.id, Status.RUNNING)
        began = time.monotonic()
        for limit in limits:
            node.drain(limit)
        await asyncio.wait_for(node.stop(3600), 60)
        assert time.monotonic() - began > 0.25
        assert (await read(services, job.id)).status is Status.FAILED


async def test_a_claim_that_hangs_does_not_lengthen_the_grace(place: Place) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place, poll_every=timedelta(seconds=0.05)) as node:
        job = await world.submitted(services, "sleep_long")
        await world.reached(services, job.id, Status.RUNNING)
        async with place.psql.transaction():
            await place.psql.execute("LOCK TABLE jobtrail.pauses")  # a claim reads it, so it waits
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%claimed%'"
                " AND datname = current_database()"
            )
            await until(lambda: place.value(waiting))
            stopping = asyncio.create_task(node.stop(0.2))
            await world.reached(services, job.id, Status.FAILED)
        await asyncio.wait_for(stopping, 60)


async def test_many_claims_under_way_are_run_or_go_back(place: Place) -> None:
    services = world.services_at(place)
    await place.psql.execute(
        "INSERT INTO jobtrail.jobs (id, task) SELECT gen_random_uuid(), 'noop' FROM generate_series(1, 600)"
    )
    for _ in range(6):
        async with world.node_at(services, place, slots=40, poll_every=timedelta(seconds=0.02)) as node:
            await node.worker.claim_loop.ticked(after=0)
            fresh = [await world.submitted(services, "noop") for _ in range(3)]
            for job in fresh:
                node.launch(job.id, job.task, job.queue)
        by_status = "SELECT status, count(*)::int AS jobs FROM jobtrail.jobs GROUP BY 1"
        assert {row["status"] for row in await place.rows(by_status)} <= {"pending", "succeeded"}
    twice = "SELECT count(*) FROM jobtrail.jobs j WHERE status = 'succeeded' AND max_attempts <> attempt"
    assert await place.value(twice) == 0
    begun = "SELECT count(*) FROM jobtrail.transitions WHERE to_status = 'pending' AND reason = 'lost'"
    assert await place.value(begun) == 0


async def test_a_claim_whose_answer_was_lost_goes_back_when_the_node_stops(place: Place) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place, poll_every=ONCE, lease=ONCE * 2) as node:
        await node.worker.claim_loop.ticked(after=0)
        job_id = await born(place)
        lease = timedelta(seconds=60)
        await claim_next(place.database, node=node.id, lease=lease, tasks=["noop"], queues=(), free=1, salt="")
    job = await read(services, job_id)
    reasons = [move.reason for move in await read_history(services, job_id)]
    assert (job.status, job.attempt, job.max_attempts, reasons[-1]) == (Status.PENDING, 1, 2, "released")


async def test_an_end_that_is_refused_is_kept_and_nothing_is_run_twice(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    tasks.HAPPENED.clear()
    services = world.services_at(place)
    await place.psql.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION USING ERRCODE = '22000'; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON jobtrail.jobs FOR EACH ROW
            WHEN (NEW.status = 'succeeded') EXECUTE FUNCTION refuse()""")
    try:
        async with world.node_at(services, place, lease=ONCE) as node:
            job = await world.submitted(services, "hold_and_tell")
            await world.reached(services, job.id, Status.RUNNING)
            tasks.GATE.set()
            await until(lambda: _is_told(caplog, f"attempt 1 of job {job.id} is not recorded yet"))
            for _ in range(3):
                node.worker.reconcile([], [RunningAttempt(job.id, 1, cancel_requested=False)])
            assert node.worker.held() == [AttemptRef(job.id, 1)]
            await place.psql.execute("DROP TRIGGER refuse ON jobtrail.jobs")
            assert (await world.ended(services, job.id)).status is Status.SUCCEEDED
            assert tasks.HAPPENED.count(("began", 1)) == 1
    finally:
        await place.psql.execute("DROP FUNCTION refuse() CASCADE")


async def _is_told(caplog: pytest.LogCaptureFixture, words: str) -> bool:
    return words in caplog.text


async def test_a_loop_that_is_closed_leaves_nothing_running(place: Place) -> None:
    """All that is on it is cancelled, as `asyncio.run` does at its end."""
    services = world.services_at(place)
    terms = {"cancel_grace": timedelta(seconds=0.2), "processes": 1}
    async with world.node_at(services, place, **terms) as node:
        jobs = [await world.submitted(services, task, max_attempts=2) for task in ("sleep_long", "hold_in_thread")]
        for job in jobs:
            await world.reached(services, job.id, Status.RUNNING)
        node.drain(60)  # so that it does not take them again
        runs = list(node.worker._attempts._runs)
        for run in runs:
            run.cancel()
        await asyncio.wait(runs, timeout=5)
        assert [(await _facts(services, job.id)) for job in jobs] == [(Status.PENDING, "lost")] * 2


async def _facts(services: Services, job_id: object) -> tuple[Status, str]:
    job = await read(services, job_id)  # type: ignore[arg-type]
    return job.status, (job.error or {})["type"]
