"""What the feed numbers stays until its marks are forgotten, and a reader is told where it does not go on."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest

from jobtrail.events import feed
from jobtrail.events.feed import END, PAGE, Event, Mark, Place
from jobtrail.events.hub import Gap, Hub
from jobtrail.jobs.purge import purge, purge_history
from jobtrail.status import Status
from support import world
from support.rows import born, in_status, passed

HOUR = timedelta(hours=1)
EXPIRED = "UPDATE jobtrail.jobs SET ttl = '0', expires_at = finished_at WHERE id = ANY($1)"
PURGED = "DELETE FROM jobtrail.jobs WHERE id = ANY($1)"
LONG_AGO = "UPDATE jobtrail.transitions SET at = at - interval '2 hours'"
MANY = "INSERT INTO jobtrail.jobs (id, task) SELECT gen_random_uuid(), 'many' FROM generate_series(1, $1)"


@pytest.fixture
async def hub(place: world.Place) -> AsyncIterator[Hub]:
    found = Hub(world.services_at(place))
    yield found
    await found.stop()


async def made_long_ago(place: world.Place) -> tuple[Mark, list[UUID]]:
    """The mark before those that have jobs that live and jobs that were purged two hours ago, and the purged ones."""
    before = await feed.mark(place.database)
    gone = []
    for _ in range(3):
        async with place.psql.transaction():
            jobs = [await in_status(place, Status.SUCCEEDED) for _ in range(4)]
            gone += jobs[::2]
            await place.psql.execute(EXPIRED, jobs[::2])
            await place.psql.execute(PURGED, jobs[::2])
        await feed.mark(place.database)
    async with place.psql.transaction():
        await place.psql.execute("SET LOCAL session_replication_role = replica")
        await place.psql.execute(LONG_AGO)
    return before, gone


async def all_after(place: world.Place, before: Mark) -> list[Event]:
    marks = await feed.marks_after(place.database, before.no)
    return [event for each in marks for event in await feed.first_page(place.database, each)]


def said(events: list[Event]) -> list[tuple[str, UUID, int]]:
    return [(str(each.place), each.transition.job_id, each.transition.seq) for each in events]


async def test_a_purge_of_the_history_moves_no_place_in_the_feed(place: world.Place) -> None:
    """`JOBTRAIL_HISTORY_TTL` may be shorter than `JOBTRAIL_FEED_TTL`, and a cursor may stand still."""
    before, _ = await made_long_ago(place)
    whole = said(await all_after(place, before))
    assert len(whole) == 3 * (2 * 3 + 2 * 4)
    await place.psql.execute("UPDATE jobtrail.feed_cursors SET no = $1", before.no)
    await feed.forget(place.database, age=timedelta(0))
    assert await purge_history(place.database, age=HOUR) == 0
    assert said(await all_after(place, before)) == whole

    # two of its marks are passed: what they hold goes, and the numbers of the third one are the same
    await place.psql.execute("UPDATE jobtrail.feed_cursors SET no = $1", before.no + 2)
    await feed.forget(place.database, age=timedelta(0))
    assert await purge_history(place.database, age=HOUR) == 2 * 2 * 4
    third = [each for each in whole if each[0].startswith(f"{before.no + 3}-")]
    assert said(await all_after(place, before))[-len(third) :] == third


async def test_history_of_a_restored_database_goes_by_its_age(place: world.Place) -> None:
    """Its transactions have ids that no snapshot of this database has seen."""
    _, gone = await made_long_ago(place)
    async with place.psql.transaction():
        await place.psql.execute("SET LOCAL session_replication_role = replica")
        await place.psql.execute("UPDATE jobtrail.transitions SET xact = '1000000000000'")
    await place.psql.execute("UPDATE jobtrail.feed_marks SET since = now() - interval '90 min'")
    try:
        assert await purge_history(place.database, age=HOUR) == len(gone) * 4
    finally:  # the next test has the same database
        await place.psql.execute("UPDATE jobtrail.feed_marks SET since = '-infinity'")


@pytest.mark.parametrize("count", [1, 2 * PAGE + 1])
async def test_a_reader_is_told_of_a_mark_that_is_forgotten_while_it_reads(
    place: world.Place, hub: Hub, count: int
) -> None:
    before = await feed.mark(place.database)
    await place.psql.execute(MANY, count)
    held = await feed.mark(place.database)
    begin, gap = await hub.enter(before.end)
    assert gap is None
    pages = hub.follow(begin)
    assert len(await anext(pages)) == min(count, PAGE)
    if count > PAGE:
        assert len(await anext(pages)) == PAGE
    else:  # its mark is known, and not what is in it
        pages, hub._pages = hub.follow(begin), {}
    await born(place)
    await passed(place)
    last = await born(place)
    assert isinstance(await anext(pages), Gap)
    page = await anext(pages)
    assert [event.transition.job_id for event in page if isinstance(event, Event)] == [last]
    assert not await feed.find(place.database, Place(held.no, held.tag, END))


async def test_the_history_of_a_living_feed_goes_with_its_marks(place: world.Place) -> None:
    _, gone = await made_long_ago(place)
    await passed(place)
    assert (await purge(place.database, by="ann", history_ttl=HOUR)).transitions == len(gone) * 4
