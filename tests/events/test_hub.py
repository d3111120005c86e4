"""Whoever waits is answered by one look for all, whoever ended the job."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from jobtrail.errors import JobNotFoundError, NotRunningError
from jobtrail.events import hub as module
from jobtrail.events.feed import Wanted
from jobtrail.events.hub import Hub
from jobtrail.events.job_news import JobEvent, JobPlace
from jobtrail.events.readers import feed_events, job_events
from jobtrail.jobs.services import Services
from jobtrail.records import LogLine, Transition
from jobtrail.status import Status
from support import rows, world
from support.world import Place


@pytest.fixture
async def services(place: Place) -> AsyncIterator[Services]:
    made = world.services_at(place)
    yield made
    await made.once(Hub).stop()


async def test_all_wait_by_one_statement(place: Place, services: Services) -> None:
    jobs = [await rows.born(place) for _ in range(50)]
    hub = services.once(Hub)
    waits = [asyncio.create_task(hub.job_ended(job)) for job in jobs]
    for job in jobs:
        await rows.typed(place, job, "cancelled")
    await asyncio.gather(*waits)
    # the last look finds nobody, and the loop ends
    assert hub._loop is None or hub._loop.ticks < 200


@pytest.mark.parametrize("how", ["ended before", "is gone", "was never there"])
async def test_what_is_over_already_is_told(place: Place, services: Services, how: str) -> None:
    job = uuid4() if how == "was never there" else await rows.in_status(place, Status.CANCELLED)
    if how == "is gone":
        await place.psql.execute("UPDATE jobtrail.jobs SET expires_at = now() - interval '1 s'")
        await place.psql.execute("DELETE FROM jobtrail.jobs")
    await services.once(Hub).job_ended(job)
    assert await services.once(Hub).wait(job, 30)


async def test_so_many_requests_may_wait(place: Place, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 1)
    hub, job = services.once(Hub), await rows.born(place)
    one = asyncio.create_task(hub.wait(job, 30))
    await asyncio.sleep(0)
    assert not await hub.wait(job, 30)
    hub.close()
    assert await one
    assert not await hub.wait(job, 30)


async def test_who_waits_when_it_stops_is_told(place: Place, services: Services) -> None:
    hub, job = services.once(Hub), await rows.born(place)
    waits = [
        asyncio.create_task(each) for each in (hub.job_ended(job), hub.news(JobPlace(job, seq=1)), _first(services))
    ]
    await asyncio.sleep(0.2)
    await hub.stop()
    found = await asyncio.gather(*waits, return_exceptions=True)
    assert [type(each) for each in found] == [NotRunningError, NotRunningError, StopAsyncIteration]
    with pytest.raises(NotRunningError):
        await hub.job_ended(job)


async def _first(services: Services) -> object:
    return await anext(feed_events(services, Wanted()))


async def test_a_job_that_is_retried_by_hand_goes_on(place: Place, services: Services) -> None:
    job = await rows.in_status(place, Status.FAILED)
    await rows.moved(place, job, Status.PENDING)
    seen = list[JobEvent]()

    async def read() -> None:
        seen.extend([each async for each in job_events(services, job)])

    reader = asyncio.create_task(read())
    await rows.moved(place, job, Status.RUNNING)
    await rows.moved(place, job, Status.SUCCEEDED)
    await reader
    moves = [each.data for each in seen if isinstance(each.data, Transition)]
    assert [each.to_status for each in moves] == ["pending", "running", "failed", "pending", "running", "succeeded"]
    ids = [each.id for each in seen]
    for place_of, since in enumerate(ids, 1):
        rest = [each async for each in job_events(services, job, since=since)]
        assert [each.id for each in rest] == ids[place_of:]


async def test_lines_come_between_the_beginning_and_the_end_of_their_attempt(place: Place, services: Services) -> None:
    """Also where there are more of them than are read at once."""
    job = await rows.in_status(place, Status.RUNNING, max_attempts=2)
    await _says(place, job, 1, 450)
    await rows.typed(place, job, "pending", ", node_id = NULL")
    await rows.moved(place, job, Status.RUNNING)
    await _says(place, job, 2, 250)
    await rows.moved(place, job, Status.SUCCEEDED)
    seen = [each async for each in job_events(services, job)]
    order = [(each.data.to_status if isinstance(each.data, Transition) else "line", each.attempt) for each in seen]
    assert order == [
        ("pending", 0), ("running", 1), *[("line", 1)] * 450, ("pending", 1),
        ("running", 2), *[("line", 2)] * 250, ("succeeded", 2),
    ]  # fmt: skip
    numbers = [each.data.number for each in seen if isinstance(each.data, LogLine)]
    assert numbers == [*range(1, 451), *range(1, 251)]


@pytest.mark.parametrize("moves", [199, 200, 201, 400])
async def test_a_page_that_is_just_full_is_the_last_one(place: Place, services: Services, moves: int) -> None:
    job = await rows.born(place)
    for priority in range(moves - 2):
        await place.psql.execute("UPDATE jobtrail.jobs SET priority = $2 WHERE id = $1", job, priority % 9)
        await place.psql.execute("SELECT 1")
    await rows.moved(place, job, Status.CANCELLED)
    seen = [each async for each in job_events(services, job)]
    count = await place.value("SELECT count(*) FROM jobtrail.transitions")
    assert len(seen) == count


async def _says(place: Place, job: UUID, attempt: int, lines: int) -> None:
    await place.psql.execute(
        "INSERT INTO jobtrail.log_lines SELECT $1, $2, n, now(), 'INFO', 'test', 'line' FROM generate_series(1, $3) n",
        job, attempt, lines,
    )  # fmt: skip


async def test_ids_that_are_none(place: Place, services: Services) -> None:
    job = await rows.born(place)
    for since in ("x", "9.0.0.0", "1-12345678-0"):
        with pytest.raises(ValueError, match="is no id of an event of job"):
            await anext(job_events(services, job, since=since))
    with pytest.raises(ValueError, match="is no id of an event"):
        await anext(feed_events(services, Wanted(), since="x"))
    with pytest.raises(JobNotFoundError):
        await anext(job_events(services, uuid4()))
