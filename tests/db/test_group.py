"""Group commit: what goes together, and what each failure, or a database that says nothing, does to the callers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.db import engine
from jobtrail.db.engine import open_database
from jobtrail.db.errors import Fault, fault_of
from jobtrail.db.group_commit import GroupCommit
from jobtrail.errors import OutcomeUnknownError, UnavailableError
from jobtrail.jobs import services as module
from jobtrail.jobs.cancel import Cancellation, cancel_group
from jobtrail.jobs.insert import Inserted, insert_group, inserts
from jobtrail.jobs.services import Services
from jobtrail.jobs.submit import prepare, submit, submit_batch
from jobtrail.records import NewJob
from jobtrail.task.catalog import Catalog
from jobtrail.task.submission import Submission
from support import tasks, world
from support.proxy import Proxy
from support.rows import trail
from support.until import until
from support.world import Place

NOOP = Submission(task="noop")
STORED = "SELECT count(*) FROM jobtrail.jobs"


def new(services: Services, **changes: Any) -> NewJob:
    return replace(prepare(services, NOOP, by="ann", trace=None), **changes)


async def test_rows_that_arrive_during_a_write_go_together_next() -> None:
    written: list[list[int]] = []
    first_may_end = asyncio.Event()

    async def write(rows: Sequence[int]) -> Sequence[int]:
        written.append(list(rows))
        await first_may_end.wait()
        return [row * 10 for row in rows]

    group = GroupCommit(write, patience=1)
    first = asyncio.create_task(group.put(1))
    while not written:
        await asyncio.sleep(0)
    others = [asyncio.create_task(group.put(n)) for n in (2, 3, 4)]
    await asyncio.sleep(0)
    first_may_end.set()
    assert await asyncio.gather(first, *others) == [10, 20, 30, 40]
    assert written == [[1], [2, 3, 4]]


async def test_a_group_has_at_most_so_many_rows_and_bytes() -> None:
    sizes: list[int] = []

    async def write(rows: Sequence[int]) -> Sequence[int]:
        sizes.append(len(rows))
        return rows

    by_count = GroupCommit(write, patience=1)
    await asyncio.gather(*(by_count.put(n) for n in range(1200)))
    by_weight = GroupCommit(write, weigh=lambda row: row, patience=1)
    await asyncio.gather(*(by_weight.put(3 * 1024 * 1024) for _ in range(3)), by_weight.put(9 * 1024 * 1024))
    assert sizes == [500, 500, 200, 1, 1, 1, 1]


async def test_a_cancelled_caller_does_not_cancel_the_group(place: Place) -> None:
    services = world.services_at(place)
    callers = [asyncio.create_task(inserts(services).put(new(services))) for _ in range(5)]
    await asyncio.sleep(0)
    callers[2].cancel()
    answers = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(answers[2], asyncio.CancelledError)
    await inserts(services).settle()
    assert await place.value(STORED) == 5


@pytest.mark.parametrize(
    ("bad", "state"),
    [
        ({"task": ""}, "23514"),  # a CHECK
        ({"args_json": '{"a": "\\u0000"}'}, "22P05"),  # jsonb has no NUL
        ({"tags": ["t" * 9000]}, "23514"),
        ({"priority": 99_999}, "22000"),  # the driver cannot encode it
    ],
)
async def test_a_bad_row_fails_its_own_caller_only(place: Place, bad: dict[str, Any], state: str) -> None:
    services = world.services_at(place)
    rows = [new(services, **(bad if n == 7 else {})) for n in range(20)]
    answers = await asyncio.gather(*(inserts(services).put(row) for row in rows), return_exceptions=True)
    (wrong,) = [(index, answer) for index, answer in enumerate(answers) if isinstance(answer, BaseException)]
    assert wrong[0] == 7
    assert (fault_of(wrong[1]), getattr(getattr(wrong[1], "orig", wrong[1]), "sqlstate", None)) == (Fault.DATA, state)
    assert await place.value(STORED) == 19


async def test_a_lost_connection_repeats_the_group_and_doubles_nothing(place: Place) -> None:
    services = world.services_at(place)
    rounds = lost = 0

    async def put_all() -> None:
        nonlocal rounds
        for rounds in range(1, 101):  # noqa: B007 - the cuts wait for it
            rows = [new(services) for _ in range(20)]
            first = await asyncio.gather(*(inserts(services).put(row) for row in rows))
            # as after a commit whose answer was lost
            assert await asyncio.gather(*(inserts(services).put(row) for row in rows)) == first

    putting = asyncio.create_task(put_all())
    query = """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE application_name = 'jobtrail' AND datname = current_database() AND query LIKE '%INSERT INTO%'"""
    while not putting.done():
        lost, seen = lost + await place.value(query), rounds
        while rounds == seen and not putting.done():  # one cut in each round, or a slow machine would never get on
            await asyncio.wait({putting}, timeout=0.02)
    await putting
    assert lost > 0, "no connection was cut: nothing was proved"
    await place.database.grouped.dispose()  # the last cut may have hit those that wait for the next test
    assert await place.value(STORED) == 2000
    assert await place.value("SELECT count(*) FROM jobtrail.transitions") == 2000


async def test_a_deadlock_repeats_the_whole_group(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The group waits for one row and holds another that the intruder wants; PostgreSQL ends the group's statement."""
    services = world.services_at(place)
    ids = sorted([(await world.submitted(services, "noop")).id for _ in range(2)])
    name = await place.value("SELECT current_database()")
    query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    before = await place.value(query)
    # the intruder must be in the queue before the group looks for a deadlock, and both before its lock timeout
    await place.psql.execute(f"ALTER DATABASE {name} SET deadlock_timeout = '2s'")
    monkeypatch.setattr(engine, "FOR_GROUPS", engine.FOR_GROUPS._replace(lock=60))
    database = open_database(place.url.sqlalchemy)
    intruder = await asyncpg.connect(place.url.libpq)
    try:
        await intruder.execute("SET deadlock_timeout = '60s'")
        other = Services(database, services.catalog)
        transaction = intruder.transaction()
        await transaction.start()
        await intruder.execute("UPDATE jobtrail.jobs SET tags = '{x}' WHERE id = $1", ids[1])
        both = asyncio.gather(*(other.group(cancel_group).put(Cancellation(each, "ann", None)) for each in ids))
        waiting = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = $1"
        await until(lambda: place.value(waiting, name), every=0.005)
        await intruder.execute("UPDATE jobtrail.jobs SET tags = '{x}' WHERE id = $1", ids[0])
        await transaction.commit()
        assert await both == ["cancelled", "cancelled"]
        assert [len(await trail(place, each)) for each in ids] == [2, 2]
        await database.dispose()
        await until(lambda: place.value(f"SELECT ({query}) > $1", before))
    finally:
        await intruder.close()
        await database.dispose()
        await place.psql.execute(f"ALTER DATABASE {name} RESET deadlock_timeout")


async def test_what_is_too_slow_together_goes_in_halves(place: Place) -> None:
    sizes: list[int] = []

    async def write(rows: Sequence[int]) -> Sequence[int]:
        sizes.append(len(rows))
        async with place.database.sessions.begin() as session:
            await session.execute(text("SET LOCAL statement_timeout = '150ms'"))
            await session.execute(text("SELECT pg_sleep(CASE WHEN :n > 2 THEN 5 ELSE 0 END)"), {"n": len(rows)})
        return rows

    group = GroupCommit(write, patience=10)
    assert await asyncio.gather(*(group.put(n) for n in range(7))) == list(range(7))
    assert sizes == [7, 3, 1, 2, 4, 2, 2]


async def test_what_was_not_sent_in_time_is_not_sent_later() -> None:
    go_on, written = asyncio.Event(), list[int]()

    async def write(rows: Sequence[int]) -> Sequence[int]:
        await go_on.wait()
        written.extend(rows)
        return rows

    group = GroupCommit(write, patience=1, longest=0.05)
    first = asyncio.create_task(group.put(1))
    await asyncio.sleep(0)
    told = await asyncio.gather(first, group.put(2), group.put(3), return_exceptions=True)
    assert [type(each) for each in told] == [OutcomeUnknownError, UnavailableError, UnavailableError]
    assert all("within 0.05 s" in str(each) for each in told)
    go_on.set()
    await group.settle()
    assert written == [1]


async def test_what_a_try_without_an_answer_may_have_stored_stays_unknown(place: Place) -> None:
    """Also when what comes after it refuses them one by one."""
    tries = 0

    async def write(rows: Sequence[NewJob]) -> Sequence[Inserted]:
        nonlocal tries
        tries += 1
        if tries > 1:
            await place.psql.execute("DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '55P03'; END $$")
        await insert_group(place.database, rows)
        raise ConnectionResetError

    rows = [new(world.services_at(place)) for _ in range(3)]
    told = await asyncio.gather(*map(GroupCommit(write, patience=5).put, rows), return_exceptions=True)
    assert [type(each) for each in told] == [OutcomeUnknownError] * 3
    assert (tries, await place.value(STORED)) == (5, 3)


@dataclass
class Line:
    """The services, and the wire between it and the database."""

    services: Services
    wire: Proxy
    place: Place

    def idle(self) -> bool:
        """Whether no connection is out."""
        engines = (self.services.database.grouped, self.services.database.engine)
        pools: list[Any] = [each.sync_engine.pool for each in engines]
        return not any(each.checkedout() for each in pools)


@pytest.fixture
async def line(place: Place, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Line]:
    monkeypatch.setattr(engine, "LONGEST", 2.0)
    monkeypatch.setattr(module, "SILENCE", 1.5)
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    async with Proxy.before(place) as wire:
        database = open_database(wire.url, connect_timeout=1)
        try:
            yield Line(Services(database, Catalog.from_modules([tasks])), wire, place)
        finally:
            wire.mute = False
            await database.dispose()


async def test_a_silent_connection_is_given_up_and_the_rows_go_again(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENCE", 5)
    monkeypatch.setattr(module, "PATIENCE", 5)
    patient = Services(line.services.database, line.services.catalog)
    await submit(patient, NOOP, by="ann")
    line.wire.mute = True
    submitting = asyncio.create_task(submit(patient, NOOP, by="ann"))
    done, _ = await asyncio.wait({submitting}, timeout=2.5)
    assert not done
    line.wire.mute = False
    job, _ = await submitting
    assert await line.place.value(f"{STORED} WHERE id = $1", job.id) == 1
    assert await line.place.value(STORED) == 2


async def test_an_unknown_outcome_names_the_job(line: Line) -> None:
    await submit(line.services, NOOP, by="ann")
    line.wire.mute = True
    with pytest.raises(OutcomeUnknownError, match="not known whether") as told:
        await submit(line.services, NOOP, by="ann")
    line.wire.mute = False
    await inserts(line.services).settle()
    there = await line.place.value(f"{STORED} WHERE id = $1", told.value.job_id)
    assert str(told.value.job_id) in str(told.value)
    assert 1 + there == await line.place.value(STORED)


async def test_what_was_never_sent_is_not_stored(line: Line) -> None:
    line.wire.go_away()
    with pytest.raises(UnavailableError, match="away") as told:
        await submit(line.services, NOOP, by="ann")
    assert not isinstance(told.value, OutcomeUnknownError)
    assert await line.place.value(STORED) == 0


@pytest.mark.parametrize(("loses", "stored"), [("request", 0), ("answer", 2), ("wait", 2), ("silence", 2)])
async def test_a_commit_without_an_answer_is_an_unknown_outcome(line: Line, loses: Any, stored: int) -> None:
    line.wire.loses = loses
    with pytest.raises(OutcomeUnknownError):
        await submit_batch(line.services, [NOOP, NOOP], by="ann")
    await until(lambda: line.place.value(f"SELECT ({STORED}) = $1", stored))
    again, was_there = await submit(line.services, NOOP, by="ann", key="k")
    assert (was_there, again.attempt) == (False, 0)
    line.wire.loses = loses
    with pytest.raises(OutcomeUnknownError):
        await submit(line.services, NOOP, by="ann", key="other")


Begin = Callable[[Services], AbstractAsyncContextManager[AsyncSession]]


@pytest.mark.parametrize(("begin", "statements"), [(Services.session, 1), (Services.transaction, 0)])
async def test_neither_a_read_nor_a_rollback_waits_for_ever(line: Line, begin: Begin, statements: int) -> None:
    async def fall_silent() -> None:
        async with begin(line.services) as session:
            await session.execute(text("SELECT 1"))
            line.wire.mute = True
            for _ in range(statements):
                await session.execute(text("SELECT 1"))
            raise LookupError

    await submit_batch(line.services, [NOOP], by="ann")
    with pytest.raises(UnavailableError):
        await fall_silent()
    assert line.idle()
