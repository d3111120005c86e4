"""A node that stops: what it still does, for how long, and what becomes of each job that it has."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import pytest

from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.claim import claim_next
from jobtrail.jobs.fence import AttemptRef
from jobtrail.jobs.history import read_history
from jobtrail.jobs.query import read
from jobtrail.jobs.renew import RunningAttempt
from jobtrail.jobs.services import Services
from jobtrail.logs import BoundFields, bind
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from support import rows, slow_to_import, tasks, world
from support.until import until
from support.world import Place

MINUTE = timedelta(seconds=60)
# unlike pg_stat_activity it is read anew each time, in a transaction too
KEPT_WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'jobtrail.pauses'::regclass"
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND "

Facts = tuple[Status, int, int, str | None, list[str | None]]
"""Status, attempt, max_attempts, the message of the error, and the reasons of all moves."""
RELEASED: Facts = (Status.PENDING, 1, 2, None, ["submitted", "claimed", "released"])


async def facts(services: Services, job_id: UUID) -> Facts:
    job = await read(services, job_id)
    reasons = [move.reason for move in await read_history(services, job.id)]
    return job.status, job.attempt, job.max_attempts, job.error and job.error["message"], reasons


def happened(what: str, attempt: int) -> Callable[[], Awaitable[bool]]:
    async def fact() -> bool:
        return (what, attempt) in tasks.HAPPENED

    return fact


async def test_it_claims_no_more_from_the_moment_it_is_told(place: Place, services: Services) -> None:
    async with world.node_at(services, place) as node:
        held = await world.running(services, "hold")
        node.drain(10)
        assert not node.accepting()
        later = await world.submitted(services, "noop")
        node.launch(later.id, later.task, later.queue)
        tasks.GATE.set()
        await world.reached(services, held.id, Status.SUCCEEDED)
        for _ in range(2):
            await node.stop(10)
        assert (await read(services, later.id)).status is Status.PENDING
        assert await place.rows("SELECT FROM jobtrail.nodes") == []


@pytest.mark.parametrize(("max_attempts", "status"), [(1, Status.FAILED), (2, Status.PENDING)])
@pytest.mark.parametrize("limits", [(0.3, 3600.0), (3600.0, 0.3)], ids=["later more", "later less"])
async def test_what_runs_ends_by_the_rule_of_lost_jobs_and_the_earliest_limit_holds(
    place: Place, services: Services, limits: tuple[float, float], max_attempts: int, status: Status
) -> None:
    async with world.node_at(services, place, cancel_grace=timedelta(seconds=0.1)) as node:
        jobs = [
            await world.running(services, task, max_attempts=max_attempts) for task in ("sleep_long", "hold_in_thread")
        ]
        began = time.monotonic()
        for limit in limits:
            node.drain(limit)
        await asyncio.wait_for(node.stop(3600), 60)
        assert time.monotonic() - began > 0.25
        for job in jobs:
            found = await read(services, job.id)
            assert (found.status, (found.error or {})["type"]) == (status, "lost")
        assert await place.value("SELECT count(*) FROM jobtrail.nodes") == 0


async def test_a_claim_that_hangs_does_not_lengthen_the_grace(place: Place, services: Services) -> None:
    async with world.node_at(services, place) as node:
        job = await world.running(services, "sleep_long")
        async with place.psql.transaction():
            await place.psql.execute("LOCK TABLE jobtrail.pauses")  # a claim reads it, so it waits
            await until(lambda: place.value(KEPT_WAITING))
            stopping = asyncio.create_task(node.stop(0.2))
            await world.reached(services, job.id, Status.FAILED)
        await asyncio.wait_for(stopping, 60)


async def test_many_claims_under_way_are_run_or_go_back(place: Place, services: Services) -> None:
    await place.psql.execute(
        "INSERT INTO jobtrail.jobs (id, task) SELECT gen_random_uuid(), 'noop' FROM generate_series(1, 300)"
    )
    for _ in range(3):
        async with world.node_at(services, place, slots=40, poll_every=timedelta(seconds=0.02)) as node:
            await node.worker.claim_loop.ticked(after=0)
            for job in [await world.submitted(services, "noop") for _ in range(3)]:
                node.launch(job.id, job.task, job.queue)
        found = await place.value("SELECT array_agg(DISTINCT status ORDER BY status) FROM jobtrail.jobs")
        assert set(found) <= {"pending", "succeeded"}
    twice = "SELECT count(*) FROM jobtrail.jobs j WHERE status = 'succeeded' AND max_attempts <> attempt"
    assert await place.value(twice) == 0
    begun = "SELECT count(*) FROM jobtrail.transitions WHERE to_status = 'pending' AND reason = 'lost'"
    assert await place.value(begun) == 0


async def test_a_claim_whose_answer_was_lost_goes_back(place: Place, services: Services) -> None:
    async with world.node_at(services, place, poll_every=MINUTE, lease=MINUTE * 2) as node:
        await node.worker.claim_loop.ticked(after=0)
        job_id = await rows.born(place)
        await claim_next(place.database, node=node.id, lease=MINUTE, tasks=["noop"], queues=(), free=1, salt="")
    status, attempt, most, _, reasons = await facts(services, job_id)
    assert (status, attempt, most, reasons[-1]) == (Status.PENDING, 1, 2, "released")


async def test_what_was_claimed_meanwhile_goes_back(place: Place, services: Services) -> None:
    async with world.node_at(services, place, poll_every=MINUTE) as node:
        await node.worker.claim_loop.ticked(after=0)
        # not by a lock: a claim waits for none
        await place.psql.execute("""
            CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.5); RETURN NEW; END';
            CREATE TRIGGER linger BEFORE UPDATE ON jobtrail.jobs FOR EACH ROW
                WHEN (NEW.status = 'running') EXECUTE FUNCTION linger()""")
        try:
            job = await world.submitted(services, "hold")
            node.launch(job.id, job.task, job.queue)
            await until(lambda: place.value(WAITING + "wait_event = 'PgSleep'"))
            stopping = asyncio.create_task(node.stop(10))
            await asyncio.sleep(0)
            assert not node.accepting()
            await asyncio.wait_for(stopping, 60)
        finally:
            await place.psql.execute("DROP FUNCTION linger() CASCADE")
    assert await facts(services, job.id) == RELEASED


async def test_an_attempt_whose_process_has_not_come_up_never_begins(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOW_TO_IMPORT", "30")
    services = Services(place.database, Catalog.from_modules([slow_to_import]))
    async with world.node_at(services, place, grace=0):
        cancelled, stopped = [await world.running(services, "work") for _ in range(2)]
        await cancel(services, cancelled.id, by="ann")
        await world.ended(services, cancelled.id)
    never = (Status.CANCELLED, 1, 1, "cancelled before it began", ["submitted", "claimed", "cancelled"])
    assert await facts(services, cancelled.id) == never
    assert await facts(services, stopped.id) == RELEASED


async def test_an_end_that_is_refused_is_kept_and_nothing_is_run_twice(
    place: Place, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    tasks.HAPPENED.clear()
    await place.psql.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION USING ERRCODE = '22000'; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON jobtrail.jobs FOR EACH ROW
            WHEN (NEW.status = 'succeeded') EXECUTE FUNCTION refuse()""")
    try:
        async with world.node_at(services, place, lease=MINUTE) as node:
            job = await world.running(services, "hold_and_tell")
            tasks.GATE.set()

            async def is_told() -> bool:
                return f"attempt 1 of job {job.id} is not recorded yet" in caplog.text

            await until(is_told)
            for _ in range(3):
                node.worker.reconcile([], [RunningAttempt(job.id, 1, cancel_requested=False)])
            assert node.worker.held() == [AttemptRef(job.id, 1)]
            await place.psql.execute("DROP TRIGGER refuse ON jobtrail.jobs")
            assert (await world.ended(services, job.id)).status is Status.SUCCEEDED
            assert tasks.HAPPENED.count(("began", 1)) == 1
    finally:
        await place.psql.execute("DROP FUNCTION refuse() CASCADE")


async def test_a_loop_that_is_closed_leaves_nothing_running(place: Place, services: Services) -> None:
    """All that is on it is cancelled, as `asyncio.run` does at its end."""
    async with world.node_at(services, place, cancel_grace=timedelta(seconds=0.2), processes=1) as node:
        jobs = [await world.running(services, task, max_attempts=2) for task in ("sleep_long", "hold_in_thread")]
        node.drain(60)  # so that it does not take them again
        (guard,) = [each for each in asyncio.all_tasks() if each.get_name() == "jobtrail-guard"]
        guard.cancel()
        await asyncio.wait({guard})
        lost = "SELECT count(*) FROM jobtrail.jobs WHERE status = 'pending' AND error ->> 'type' = 'lost'"

        async def are_lost() -> bool:
            return bool(await place.value(lost) == len(jobs))

        assert await until(are_lost)


async def test_an_attempt_that_came_back_to_its_own_node_ends_the_one_before(place: Place, services: Services) -> None:
    tasks.HAPPENED.clear()
    async with world.node_at(services, place) as node:
        job = await world.running(services, "hold_and_tell")
        await until(happened("began", 1))
        await rows.moved(place, job.id, Status.PENDING)
        await until(happened("ended", 1))
        await until(happened("began", 2))
        assert ("ended", 2) not in tasks.HAPPENED
        assert [each.attempt for each in node.worker.held()] == [2]
        tasks.GATE.set()
        assert (await world.ended(services, job.id)).attempt == 2


async def test_an_attempt_that_has_ended_submits_nothing(place: Place, services: Services) -> None:
    tasks.HAPPENED.clear()
    async with world.node_at(services, place):
        job = await world.running(services, "submit_late")
        await rows.taken_away(place, job.id)

        async def is_refused() -> bool:
            return bool(tasks.HAPPENED)

        await until(is_refused)
    assert "this attempt has ended" in tasks.HAPPENED[0][0]
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 1


async def test_a_signal_in_the_midst_of_a_job_lends_its_ids_to_no_line_of_the_node(
    place: Place, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    """Python calls a signal handler in the context of what it interrupts."""
    caplog.handler.addFilter(BoundFields())
    with caplog.at_level(logging.INFO, logger="jobtrail.worker"):
        async with world.node_at(services, place) as node:
            with bind(job_id="01a20160"):
                node.drain(0)
            await asyncio.sleep(0)
    stopped = [each for each in caplog.records if each.getMessage() in ("node stopping", "node stopped")]
    assert [hasattr(each, "job_id") for each in stopped] == [False, False]
