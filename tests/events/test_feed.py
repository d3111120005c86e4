"""The feed holds every committed transition once, in one order for all, and the transitions of a job by `seq`."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from jobtrail.events import feed
from jobtrail.events.cursors import derive as derive_from
from jobtrail.events.feed import Event, Place
from jobtrail.events.hub import Gap, Hub
from jobtrail.jobs.services import Services
from support import world

NEW = "INSERT INTO jobtrail.jobs (id, task) VALUES ($1, $2)"
CLAIM = """
UPDATE jobtrail.jobs SET status = 'running', attempt = attempt + 1, node_id = gen_random_uuid(),
       lease_until = clock_timestamp() + interval '1 hour' WHERE id = $1
"""
CANCEL = "UPDATE jobtrail.jobs SET status = 'cancelled' WHERE id = $1"
HISTORY = "SELECT job_id, seq FROM jobtrail.transitions"

Seen = list[tuple[UUID, int]]


@pytest.fixture
def services(place: world.Place) -> Services:
    return world.services_at(place)


@pytest.fixture
async def hub(services: Services) -> AsyncIterator[Hub]:
    found = Hub(services)
    yield found
    await found.stop()


async def read_until(hub: Hub, last: UUID, since: Place | None = None) -> tuple[Seen, Place | None, list[Gap]]:
    """What a reader sees until the birth of the job `last`, the place where it is then, and its gaps."""
    seen, at, gaps = Seen(), since, list[Gap]()
    begin, gap = await hub.enter(since)
    gaps += [gap] if gap else []
    async for page in hub.follow(begin):
        if isinstance(page, Gap):
            gaps.append(page)
            continue
        for event in page:
            if event.transition.job_id == last:
                return seen, at, gaps
            seen.append((event.transition.job_id, event.transition.seq))
            at = event.place
    raise AssertionError("the feed has no end")


async def readers(hub: Hub, count: int, last: UUID) -> tuple[list[asyncio.Task[Any]], Place]:
    """Begun: what is committed from now on they see."""
    at = (await feed.mark(hub._database)).end
    return [asyncio.create_task(read_until(hub, last, at)) for _ in range(count)], at


def is_in_order(seen: Sequence[tuple[UUID, int]]) -> bool:
    by_job = defaultdict[UUID, list[int]](list)
    for job, seq in seen:
        by_job[job].append(seq)
    return all(each == list(range(each[0], each[0] + len(each))) for each in by_job.values())


async def write(place: world.Place, rounds: int, seed: int = 0) -> None:
    """Jobs that are born and cancelled, in transactions that write before and wait in between."""
    number = random.Random(seed)  # noqa: S311 - no secret
    connection = await asyncpg.connect(place.url.libpq)
    try:
        for _ in range(rounds):
            jobs = [uuid4() for _ in range(number.randint(1, 4))]
            if number.random() < 0.5:
                await connection.executemany(NEW, [(job, "feed") for job in jobs])
            async with connection.transaction():
                await connection.execute("CREATE TEMP TABLE IF NOT EXISTS mine (a int)")
                await connection.execute("SELECT pg_current_xact_id()")
                await asyncio.sleep(number.random() * 0.05)
                for job in jobs:
                    await connection.execute(NEW + " ON CONFLICT DO NOTHING", job, "feed")
                    await connection.execute(CANCEL, job)
                await asyncio.sleep(number.random() * 0.05)
    finally:
        await connection.close()


async def test_each_transition_comes_once_whenever_it_was_committed(place: world.Place, services: Services) -> None:
    """Three processes read while transactions overlap; one of these holds its transitions back until the end."""
    hubs, last, late = [Hub(services) for _ in range(3)], uuid4(), uuid4()
    found = [await readers(hub, 2, last) for hub in hubs]
    slow = await asyncpg.connect(place.url.libpq)
    transaction = slow.transaction()
    await transaction.start()
    await slow.execute(NEW, late, "late")
    await asyncio.gather(*(write(place, 30, seed) for seed in range(6)))
    await slow.execute(CANCEL, late)
    await transaction.commit()
    await slow.close()
    await place.psql.execute(NEW, last, "last")
    sequences = [await each for tasks, _ in found for each in tasks]
    for hub in hubs:
        await hub.stop()

    written = {(row["job_id"], row["seq"]) for row in await place.rows(HISTORY)} - {(last, 1)}
    first, *others = [seen for seen, _, _ in sequences]
    assert set(first) == written
    assert len(first) == len(written)
    assert is_in_order(first)
    assert all(seen == first for seen in others)


async def test_a_reader_goes_on_after_any_event_in_any_process(place: world.Place, services: Services) -> None:
    begin, first, last = Hub(services), Hub(services), uuid4()
    tasks, at = await readers(begin, 1, last)
    await write(place, 20, 1)
    await place.psql.execute(NEW, last, "last")
    whole, _, _ = await tasks[0]
    places, seen = [at], 0
    async for page in first.follow(at):
        places += [event.place for event in page if isinstance(event, Event)]
        seen += len(page)
        if seen > len(whole):
            break
    for taken, since in enumerate(places[:-1]):
        other = Hub(services)
        rest, _, gaps = await read_until(other, last, Place.read(str(since)))
        await other.stop()
        assert rest == whole[taken:]
        assert not gaps
    await begin.stop()
    await first.stop()


async def test_a_mark_of_more_than_a_page(place: world.Place, hub: Hub) -> None:
    last = uuid4()
    tasks, _ = await readers(hub, 1, last)
    await place.psql.execute(
        "INSERT INTO jobtrail.jobs (id, task) SELECT gen_random_uuid(), 'many' FROM generate_series(1, 2500)"
    )
    await place.psql.execute(NEW, last, "last")
    seen, _, _ = await tasks[0]
    assert len(seen) == len(set(seen)) == 2500


async def test_a_clock_that_is_set_back_changes_no_order(place: world.Place, hub: Hub) -> None:
    at, job, last = (await feed.mark(place.database)).end, uuid4(), uuid4()
    async with place.psql.transaction():
        await place.psql.execute(NEW, job, "one")
        await place.psql.execute(CANCEL, job)
        await place.psql.execute("ALTER TABLE jobtrail.transitions DISABLE TRIGGER USER")
        await place.psql.execute("UPDATE jobtrail.transitions SET at = at + interval '1 hour' WHERE seq = 1")
        await place.psql.execute("ALTER TABLE jobtrail.transitions ENABLE TRIGGER USER")
    await feed.mark(place.database)
    await place.psql.execute(NEW, last, "last")
    assert (await read_until(hub, last, at))[0] == [(job, 1), (job, 2)]


async def test_an_open_transaction_delays_no_other(place: world.Place, hub: Hub) -> None:
    last = uuid4()
    tasks, _ = await readers(hub, 1, last)
    slow = await asyncpg.connect(place.url.libpq)
    transaction = slow.transaction()
    await transaction.start()
    await slow.execute(NEW, uuid4(), "late")
    await place.psql.execute(NEW, last, "last")
    assert (await tasks[0])[0] == []
    await transaction.rollback()
    await slow.close()


async def test_nothing_is_marked_where_nothing_moves(place: world.Place) -> None:
    database = place.database
    before = await feed.mark(database)
    assert await feed.mark(database) == before
    await place.psql.execute("CREATE TEMP TABLE another (a int)")
    assert await feed.mark(database) == before
    await place.psql.execute(NEW, uuid4(), "one")
    assert (await feed.mark(database)).no == before.no + 1


async def test_marks_at_once_are_one_after_the_other(place: world.Place) -> None:
    await place.psql.execute(NEW, uuid4(), "one")
    await asyncio.gather(*(feed.mark(place.database) for _ in range(5)))
    numbers = [row["no"] for row in await place.rows("SELECT no FROM jobtrail.feed_marks ORDER BY no")]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))


@pytest.mark.parametrize("restored", ["another system", "an older backup"])
async def test_a_restored_database_begins_anew(place: world.Place, hub: Hub, restored: str) -> None:
    """What was written before has ids of transactions that mean nothing now."""
    at = (await feed.mark(place.database)).end
    await place.psql.execute(NEW, uuid4(), "old")
    if restored == "another system":
        await place.psql.execute("UPDATE jobtrail.feed_marks SET system = 'other'")
    else:
        ahead = "pg_snapshot_xmax(pg_current_snapshot())::text::bigint + 100000"
        await place.psql.execute(
            f"UPDATE jobtrail.feed_marks SET snapshot = format('%1$s:%1$s:', {ahead})::pg_snapshot"
        )
    try:
        last, new = uuid4(), uuid4()
        await feed.mark(place.database)
        for each in (new, last):
            await place.psql.execute(NEW, each, "new")
        assert (await read_until(hub, last, at))[0] == [(new, 1)]
        before = await feed.mark(place.database)
        assert await feed.mark(place.database) == before
    finally:  # the next test has the same database
        await place.psql.execute("UPDATE jobtrail.feed_marks SET since = '-infinity', snapshot = pg_current_snapshot()")


async def test_a_reader_is_told_when_a_standby_takes_over_that_lacks_the_last_marks(
    place: world.Place, hub: Hub
) -> None:
    kept = await feed.mark(place.database)
    pages = hub.follow(kept.end)
    for number in range(3):
        await place.psql.execute(NEW, uuid4(), "lost")
        assert len(await anext(pages)) == 1
        assert number < 3
    # as if neither had ever been
    await place.psql.execute("DELETE FROM jobtrail.feed_marks WHERE no > $1", kept.no)
    await place.psql.execute(NEW, uuid4(), "new")
    gap = await anext(pages)
    assert isinstance(gap, Gap)
    assert gap.reason == "this id is of another history"
    last = uuid4()
    await place.psql.execute(NEW, last, "last")
    seen = list[UUID]()
    while last not in seen:
        page = await anext(pages)
        seen += [event.transition.job_id for event in page if isinstance(event, Event)]


async def test_old_marks_are_forgotten_but_for_what_somebody_has_to_pass(place: world.Place, hub: Hub) -> None:
    database, last = place.database, uuid4()
    began = await feed.mark(database)
    since = Place(began.no, began.tag, 0)
    for _ in range(4):
        await place.psql.execute(NEW, uuid4(), "one")
        await feed.mark(database)
    await place.psql.execute("INSERT INTO jobtrail.feed_cursors VALUES ('test', $1)", began.no + 2)
    await feed.forget(database, age=timedelta(0))
    [first] = await place.rows("SELECT min(no) AS no FROM jobtrail.feed_marks")
    assert first["no"] == min(
        began.no + 2, *[row["no"] for row in await place.rows("SELECT no FROM jobtrail.feed_cursors")]
    )
    await place.psql.execute("DELETE FROM jobtrail.feed_cursors WHERE name = 'test'")
    await place.psql.execute("UPDATE jobtrail.feed_cursors SET no = $1", began.no + 4)
    await feed.forget(database, age=timedelta(0))

    begin, gap = await hub.enter(since)
    assert isinstance(gap, Gap)
    assert Place.read(str(begin)) == begin
    assert await hub.enter(begin) == (begin, None)
    await place.psql.execute(NEW, last, "last")
    page = await anext(hub.follow(begin))
    assert [event.transition.job_id for event in page if isinstance(event, Event)] == [last]


async def test_what_moves_after_a_long_silence_is_kept_as_long_as_all_else(place: world.Place, hub: Hub) -> None:
    database, ids = place.database, sorted([uuid4(), uuid4()])
    before = await feed.mark(database)
    await place.psql.execute("UPDATE jobtrail.feed_marks SET at = at - interval '3 days'")
    async with place.psql.transaction():
        for each in ids:
            await place.psql.execute(NEW, each, "one")
    new = await feed.mark(database)
    await place.psql.execute("UPDATE jobtrail.feed_cursors SET no = $1", new.no)
    await feed.forget(database, age=timedelta(days=1))
    for since in (before.end, Place(new.no, new.tag, 0)):
        begin, gap = await hub.enter(since)
        assert gap is None
        assert [each.transition.job_id for each in await anext(hub.follow(begin))] == ids[since.no == new.no :]


async def test_an_id_that_is_too_old_is_told_and_goes_on_with_what_is_there(place: world.Place, hub: Hub) -> None:
    database, last = place.database, uuid4()
    old = await feed.mark(database)
    kept = []
    for _ in range(3):
        job = uuid4()
        await place.psql.execute(NEW, job, "one")
        kept.append((job, 1))
        await feed.mark(database)
    await place.psql.execute("DELETE FROM jobtrail.feed_marks WHERE no <= $1", old.no)
    await place.psql.execute(NEW, last, "last")
    seen, _, [gap] = await read_until(hub, last, Place(old.no, old.tag, 0))
    assert gap.reason == "what came after this id is not kept any more"
    assert seen == kept[1:]


@pytest.mark.parametrize("said", ["", "0-12345678-0", "1-12345678", "1-1234567g-0", "1-12345678--1", "٣-12345678-0"])
def test_what_is_no_place(said: str) -> None:
    assert Place.read(said) is None


async def test_what_is_derived_is_derived_once_whoever_dies(place: world.Place) -> None:
    """Processes race, and backends are killed in the middle."""
    database = place.database
    now = await feed.mark(database)
    await place.psql.execute("CREATE TABLE derived (job_id uuid, seq int)")
    await place.psql.execute("INSERT INTO jobtrail.feed_cursors VALUES ('test', $1)", now.no)
    over = asyncio.Event()

    async def derive() -> None:
        while not over.is_set():
            try:
                await feed.mark(database)
                more = await derive_from(database, "test", "INSERT INTO derived SELECT job_id, seq FROM moved")
                await asyncio.sleep(0 if more else 0.01)
            except Exception:  # noqa: BLE001 - its backend was killed
                await asyncio.sleep(0.01)

    async def kill() -> None:
        while not over.is_set():
            await asyncio.sleep(0.05)
            await place.psql.execute("""
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%derived%' LIMIT 1""")

    beside = [asyncio.create_task(each) for each in (derive(), derive(), derive(), kill())]
    try:
        await asyncio.gather(*(write(place, 25, seed) for seed in range(4)))
        over.set()
        await asyncio.gather(*beside)
        await feed.mark(database)
        while await derive_from(database, "test", "INSERT INTO derived SELECT job_id, seq FROM moved"):
            pass
        derived = [(row["job_id"], row["seq"]) for row in await place.rows("SELECT * FROM derived")]
        written = [(row["job_id"], row["seq"]) for row in await place.rows(HISTORY)]
        assert sorted(derived) == sorted(written)
    finally:
        over.set()
        await place.psql.execute("DROP TABLE derived")
        await place.psql.execute("DELETE FROM jobtrail.feed_cursors WHERE name = 'test'")
