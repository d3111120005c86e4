"""What becomes of a job whose node stops while its attempt has not quite begun, or was begun twice."""

import asyncio
import logging
from datetime import timedelta
from uuid import UUID

import pytest

from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.history import read_history
from jobtrail.jobs.query import read
from jobtrail.jobs.services import Services
from jobtrail.logs import BoundFields, bind
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from support import rows, slow_to_import, tasks, world
from support.until import until
from support.world import Place

Facts = tuple[Status, int, int, str | None, list[str | None]]
"""Status, attempt, max_attempts, the message of the error, and the reasons of all moves."""
RELEASED: Facts = (Status.PENDING, 1, 2, None, ["submitted", "claimed", "released"])


async def test_what_was_claimed_while_the_node_began_to_stop_goes_back(place: Place) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place, poll_every=timedelta(seconds=60)) as node:
        await node.worker.claim_loop.ticked(after=0)
        # not by a lock: a claim waits for none
        await place.psql.execute("""
            CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.5); RETURN NEW; END';
            CREATE TRIGGER linger BEFORE UPDATE ON jobtrail.jobs FOR EACH ROW
                WHEN (NEW.status = 'running') EXECUTE FUNCTION linger()""")
        try:
            job = await world.submitted(services, "hold")
            node.launch(job.id, job.task, job.queue)
            await until(
                lambda: place.value(
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
                    " AND datname = current_database()"
                )
            )
            stopping = asyncio.create_task(node.stop(10))
            await asyncio.sleep(0)
            assert not node.accepting()
            await asyncio.wait_for(stopping, 60)
        finally:
            await place.psql.execute("DROP FUNCTION linger() CASCADE")
    assert await _facts(services, job.id) == RELEASED


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("to stop", RELEASED),
        ("to cancel", (Status.CANCELLED, 1, 1, "cancelled before it began", ["submitted", "claimed", "cancelled"])),
    ],
    ids=["the node stops", "a cancel"],
)
async def test_an_attempt_whose_process_has_not_come_up_never_begins(
    place: Place, monkeypatch: pytest.MonkeyPatch, asked: str, expected: Facts
) -> None:
    monkeypatch.setenv("SLOW_TO_IMPORT", "30")
    services = Services(place.database, Catalog.from_modules([slow_to_import]))
    async with world.node_at(services, place, grace=0):
        job = await world.submitted(services, "work")
        await world.reached(services, job.id, Status.RUNNING)
        if asked == "to cancel":
            await cancel(services, job.id, by="ann")
            await world.ended(services, job.id)
    assert await _facts(services, job.id) == expected


async def test_an_attempt_that_came_back_to_its_own_node_ends_the_one_before(place: Place) -> None:
    tasks.HAPPENED.clear()
    services = world.services_at(place)
    async with world.node_at(services, place) as node:
        job = await world.submitted(services, "hold_and_tell")
        await world.reached(services, job.id, Status.RUNNING)
        await until(_has_happened("began", 1))
        await rows.moved(place, job.id, Status.PENDING)
        await until(_has_happened("ended", 1))
        await until(_has_happened("began", 2))
        assert ("ended", 2) not in tasks.HAPPENED
        assert [each.attempt for each in node.worker.held()] == [2]
        tasks.GATE.set()
        assert (await world.ended(services, job.id)).attempt == 2


async def test_an_attempt_that_has_ended_submits_nothing(place: Place) -> None:
    tasks.HAPPENED.clear()
    services = world.services_at(place)
    async with world.node_at(services, place):
        job = await world.submitted(services, "submit_late")
        await world.reached(services, job.id, Status.RUNNING)
        await rows.taken_away(place, job.id)

        async def is_refused() -> bool:
            return bool(tasks.HAPPENED)

        await until(is_refused)
    assert "this attempt has ended" in tasks.HAPPENED[0][0]
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 1


async def test_a_child_job_does_not_see_its_parents_context_variables(place: Place) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place):
        parent = await world.ended(services, (await world.submitted(services, "call")).id)
        assert (await world.ended(services, parent.result)).result == "nobody"


def _has_happened(what: str, attempt: int):  # type: ignore[no-untyped-def] # noqa: ANN202 - a fact for until
    async def fact() -> bool:
        return (what, attempt) in tasks.HAPPENED

    return fact


async def _facts(services: Services, job_id: UUID) -> Facts:
    job = await read(services, job_id)
    reasons = [move.reason for move in await read_history(services, job.id)]
    return job.status, job.attempt, job.max_attempts, job.error and job.error["message"], reasons


async def test_a_signal_in_the_midst_of_a_job_lends_its_ids_to_no_line_of_the_node(place: Place) -> None:
    """Python calls a signal handler in the context of what it interrupts."""
    records: list[logging.LogRecord] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler, logger = Kept(), logging.getLogger("jobtrail.worker")
    handler.addFilter(BoundFields())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        async with world.node_at(world.services_at(place), place) as node:
            with bind(job_id="01a20160"):
                node.drain(0)
            await asyncio.sleep(0)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    stopped = [each for each in records if each.getMessage() in ("node stopping", "node stopped")]
    assert [hasattr(each, "job_id") for each in stopped] == [False, False]
