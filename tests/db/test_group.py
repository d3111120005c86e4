"""Group commit: who rides together, and what each class of failure does to the others."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError

from jobtrail.db.engine import open_database
from jobtrail.db.errors import Fault, fault_of
from jobtrail.db.group_commit import GroupCommit
from jobtrail.errors import OutcomeUnknownError, UnavailableError
from jobtrail.jobs.cancel import Cancellation, cancel_group
from jobtrail.jobs.services import Services
from jobtrail.jobs.submit import insert_group, inserts, prepare
from jobtrail.records import NewJob
from jobtrail.task.submission import Submission
from support import world
from support.rows import trail
from support.until import until
from support.world import Place


def new(services: Services, **changes: Any) -> NewJob:
    return replace(prepare(services, Submission(task="noop"), by="ann", trace_id=None), **changes)


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
    assert sizes == [500, 500, 200]
    sizes.clear()
    by_weight = GroupCommit(write, weigh=lambda row: row, patience=1)
    await asyncio.gather(*(by_weight.put(3 * 1024 * 1024) for _ in range(3)), by_weight.put(9 * 1024 * 1024))
    assert sizes == [1, 1, 1, 1]


async def test_a_cancelled_caller_does_not_cancel_the_group(place: Place) -> None:
    services = world.services_at(place)
    rows = [new(services) for _ in range(5)]
    callers = [asyncio.create_task(inserts(services).put(row)) for row in rows]
    await asyncio.sleep(0)
    callers[2].cancel()
    answers = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(answers[2], asyncio.CancelledError)
    await inserts(services).settle()
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 5


@pytest.mark.parametrize(
    ("bad", "state"),
    [
        ({"task": ""}, "23514"),  # a CHECK
        ({"args_json": '{"a": "\\u0000"}'}, "22P05"),  # jsonb has no NUL
        ({"tags": ["t" * 9000]}, "23514"),
        ({"priority": 12}, "23514"),
        ({"priority": 99_999}, "22000"),  # the driver cannot encode it
    ],
)
async def test_a_bad_row_fails_its_own_caller_only(place: Place, bad: dict[str, Any], state: str) -> None:
    services = world.services_at(place)
    rows = [new(services) for _ in range(20)]
    rows[7] = new(services, **bad)
    answers = await asyncio.gather(*(inserts(services).put(row) for row in rows), return_exceptions=True)
    wrong = [(index, answer) for index, answer in enumerate(answers) if isinstance(answer, BaseException)]
    assert [index for index, _ in wrong] == [7]
    error = wrong[0][1]
    assert isinstance(error, DBAPIError)
    assert fault_of(error) is Fault.DATA
    assert getattr(error.orig, "sqlstate", None) == state
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 19


async def test_a_lost_connection_repeats_the_group_and_doubles_nothing(place: Place) -> None:
    services = world.services_at(place)
    rows = [new(services) for _ in range(2000)]
    lost = 0

    async def cut() -> None:
        nonlocal lost
        query = """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE application_name = 'jobtrail' AND datname = current_database() AND query LIKE '%INSERT INTO%'"""
        while not putting.done():
            lost += await place.value(query)
            await asyncio.sleep(0.02)

    async def put_all() -> list[Any]:
        found: list[Any] = []
        for start in range(0, 2000, 20):
            found += await asyncio.gather(*(inserts(services).put(row) for row in rows[start : start + 20]))
        return found

    putting = asyncio.create_task(put_all())
    await cut()
    answers = await putting
    assert lost > 0, "no connection was cut: nothing was proved"
    await place.database.grouped.dispose()  # the last cut may have hit those that wait for the next test
    assert len(answers) == 2000
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 2000
    assert await place.value("SELECT count(*) FROM jobtrail.transitions") == 2000


async def test_a_commit_whose_answer_was_lost_is_found_again(place: Place) -> None:
    services = world.services_at(place)
    rows = [new(services) for _ in range(3)]
    first = await asyncio.gather(*(inserts(services).put(row) for row in rows))
    assert await asyncio.gather(*(inserts(services).put(row) for row in rows)) == first
    assert await place.value("SELECT count(*) FROM jobtrail.transitions") == 3


async def test_a_deadlock_repeats_the_whole_group(place: Place) -> None:
    """The group waits for one row and holds another that the intruder wants; PostgreSQL ends the group's statement."""
    services = world.services_at(place)
    ids = sorted([(await world.submitted(services, "noop")).id for _ in range(2)])
    name = await place.value("SELECT current_database()")
    query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    before = await place.value(query)
    await place.psql.execute(f"ALTER DATABASE {name} SET deadlock_timeout = '250ms'")
    database = open_database(place.url.sqlalchemy)
    intruder = await asyncpg.connect(place.url.libpq)
    try:
        await intruder.execute("SET deadlock_timeout = '10s'")
        other = Services(database, services.catalog)
        transaction = intruder.transaction()
        await transaction.start()
        await intruder.execute("UPDATE jobtrail.jobs SET tags = '{x}' WHERE id = $1", ids[1])
        both = asyncio.gather(*(other.group(cancel_group).put(Cancellation(each, "ann", None)) for each in ids))

        async def waits() -> bool:
            waiting = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = $1"
            return bool(await place.value(waiting, name))

        # the intruder must be in the queue before the group looks for a deadlock, and both before its lock timeout
        await until(waits, every=0.005)
        await intruder.execute("UPDATE jobtrail.jobs SET tags = '{x}' WHERE id = $1", ids[0])
        await transaction.commit()
        assert await both == ["cancelled", "cancelled"]
        assert [len(await trail(place, each)) for each in ids] == [2, 2]

        async def counted() -> bool:
            return bool(await place.value(query) > before)

        await database.dispose()
        await until(counted)
    finally:
        await intruder.close()
        await database.dispose()
        await place.psql.execute(f"ALTER DATABASE {name} RESET deadlock_timeout")


async def test_a_database_that_does_not_answer_is_told_after_the_patience() -> None:
    nowhere = open_database("postgresql+asyncpg://nobody@127.0.0.1:9/none", connect_timeout=1)
    tries = 0

    async def write(rows: Sequence[NewJob]) -> Sequence[Any]:
        nonlocal tries
        tries += 1
        return await insert_group(nowhere, rows)

    group = GroupCommit(write, patience=0.3)
    with pytest.raises(UnavailableError, match="away") as told:
        await group.put(None)  # type: ignore[arg-type]
    assert not isinstance(told.value, OutcomeUnknownError)
    assert tries > 1
    await nowhere.dispose()


async def test_a_database_that_says_nothing_is_told_to_who_waits() -> None:
    silent: asyncio.Future[Sequence[int]] = asyncio.get_running_loop().create_future()

    async def write(_rows: Sequence[int]) -> Sequence[int]:
        return await silent

    group = GroupCommit(write, patience=1, longest=0.02)
    with pytest.raises(OutcomeUnknownError, match=r"within 0\.02 s"):
        await group.put(1)
    silent.set_result([1])
    await group.settle()
