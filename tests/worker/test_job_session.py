"""What a task wrote through its job session is there when its job succeeded, and only then."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from jobtrail.db.engine import open_database
from jobtrail.errors import ContextError
from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.services import Services
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from support import booking, rows, world
from support.until import until
from support.world import Place

EFFECTS = "SELECT array_agg(attempt ORDER BY attempt) FROM effects WHERE job = $1"


@pytest.fixture
async def services(place: Place) -> AsyncIterator[Services]:
    await place.psql.execute(booking.TABLE)
    yield Services(place.database, Catalog.from_modules([booking]))
    await place.psql.execute("DROP TABLE effects")


@pytest.mark.parametrize(
    ("how", "status", "error", "effects"),
    [
        ("well", Status.SUCCEEDED, None, [1]),
        ("async with", Status.SUCCEEDED, None, [1]),
        ("once", Status.SUCCEEDED, None, [2]),
        ("raise", Status.FAILED, "Fail", None),
        ("large", Status.FAILED, "result-too-large", None),
        ("commit", Status.FAILED, "JobSessionError", None),
        # it went behind the node's back: what it committed is there, but it is not told as a success
        ("COMMIT", Status.FAILED, "commit-failed", [1]),
    ],
)
async def test_effects_and_outcome(
    place: Place, services: Services, how: str, status: Status, error: str | None, effects: list[int] | None
) -> None:
    async with world.node_at(services, place):
        job = await world.ended(services, (await world.submitted(services, "book", how=how, max_attempts=2)).id)
    assert (job.status, (job.error or {}).get("type")) == (status, error), job.error
    assert await place.value(EFFECTS, job.id) == effects


@pytest.mark.parametrize("how", ["wait", "deaf"])
async def test_a_cancelled_job_leaves_nothing(place: Place, services: Services, how: str) -> None:
    async with world.node_at(services, place, cancel_grace=timedelta(seconds=0.1)):
        job = await world.submitted(services, "book", how=how)
        await _is_writing(place)
        await cancel(services, job.id, by="ann")
        assert (await world.ended(services, job.id)).status is Status.CANCELLED
    assert await place.value(EFFECTS, job.id) is None
    assert await _open_transactions(place) == 0


async def test_an_attempt_that_is_no_longer_ours_leaves_nothing(place: Place, services: Services) -> None:
    async with world.node_at(services, place) as node:
        job = await world.submitted(services, "book", how="wait")
        await _is_writing(place)
        await rows.taken_away(place, job.id)

        async def is_lost() -> bool:
            return not node.worker.held()

        await until(is_lost)
        assert node.worker.stale_ends == 1
    assert await place.value(EFFECTS, job.id) is None
    assert await _open_transactions(place) == 0


async def test_a_node_that_stops_leaves_nothing(place: Place, services: Services) -> None:
    async with world.node_at(services, place, grace=0):
        job = await world.submitted(services, "book", how="wait", max_attempts=1)
        await _is_writing(place)
    ended = await world.ended(services, job.id)
    assert (ended.status, (ended.error or {})["type"]) == (Status.FAILED, "lost")
    assert await place.value(EFFECTS, job.id) is None


@pytest.mark.parametrize("task", ["book_in_thread", "book_in_process", "submit_in_thread"])
async def test_a_def_is_told_that_it_cannot_await(place: Place, services: Services, task: str) -> None:
    async with world.node_at(services, place, processes=1):
        job = await world.ended(services, (await world.submitted(services, task)).id)
    assert (job.status, (job.error or {})["type"]) == (Status.FAILED, "ContextError")
    assert "async def" in (job.error or {})["message"]


async def _is_writing(place: Place) -> None:
    async def found() -> bool:
        return await _open_transactions(place) > 0

    await until(found)


async def _open_transactions(place: Place) -> int:
    """How many job sessions there are whose task has written and does something else now."""
    query = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                  AND state LIKE 'idle in transaction%' AND query LIKE 'INSERT INTO effects%'"""
    return int(await place.value(query))


async def test_a_session_that_opens_after_the_attempt_has_ended_is_given_back(place: Place, services: Services) -> None:
    database = open_database(place.url.sqlalchemy, pool_size=1)
    narrow = Services(database, services.catalog)
    async with world.node_at(narrow, place, cancel_grace=timedelta(seconds=0.1)):
        first = await world.submitted(services, "book", how="wait")
        await _is_writing(place)
        second = await world.submitted(services, "ask_and_leave")
        await world.reached(services, second.id, Status.RUNNING)
        for job in (second, first):
            await cancel(services, job.id, by="ann")
            await world.ended(services, job.id)
        with pytest.raises(ContextError, match="this attempt has ended"):
            await booking.OPENING.pop()
        assert database.jobs.pool.checkedout() == 0  # type: ignore[attr-defined]
    await database.dispose()
