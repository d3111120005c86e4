"""A database that is reached and says nothing, is slow, or takes nothing: nobody waits for ever."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import text

from jobtrail.db import engine
from jobtrail.db.engine import open_database
from jobtrail.db.group_commit import GroupCommit
from jobtrail.errors import OutcomeUnknownError, UnavailableError
from jobtrail.jobs import services as module
from jobtrail.jobs.services import Services
from jobtrail.jobs.submit import Inserted, insert_group, inserts, prepare, submit, submit_batch, submit_keyed
from jobtrail.records import NewJob
from jobtrail.task.catalog import Catalog
from jobtrail.task.submission import Submission
from support import tasks
from support.proxy import Proxy
from support.until import until
from support.world import Place

NOOP = Submission(task="noop")


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

    async def stored(self) -> int:
        return int(await self.place.value("SELECT count(*) FROM jobtrail.jobs"))


@pytest.fixture
async def line(place: Place, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Line]:
    monkeypatch.setattr(engine, "LONGEST", 0.8)
    monkeypatch.setattr(module, "SILENCE", 0.6)
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    async with Proxy.before(place) as wire:
        database = open_database(wire.url, connect_timeout=0.2)
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
    done, _ = await asyncio.wait({submitting}, timeout=1.2)
    assert not done
    line.wire.mute = False
    job = await submitting
    assert await line.place.value("SELECT count(*) FROM jobtrail.jobs WHERE id = $1", job.id) == 1
    assert await line.stored() == 2


async def test_an_unknown_outcome_names_the_job(line: Line) -> None:
    await submit(line.services, NOOP, by="ann")
    line.wire.mute = True
    with pytest.raises(OutcomeUnknownError, match="not known whether") as told:
        await submit(line.services, NOOP, by="ann")
    line.wire.mute = False
    await inserts(line.services).settle()
    there = await line.place.value("SELECT count(*) FROM jobtrail.jobs WHERE id = $1", told.value.job_id)
    assert str(told.value.job_id) in str(told.value)
    assert 1 + there == await line.stored()


async def test_what_was_never_sent_is_not_stored(line: Line) -> None:
    line.wire.go_away()
    with pytest.raises(UnavailableError, match="away") as told:
        await submit(line.services, NOOP, by="ann")
    assert not isinstance(told.value, OutcomeUnknownError)
    assert await line.stored() == 0


@pytest.mark.parametrize(("loses", "stored"), [("request", 0), ("answer", 1), ("wait", 1), ("silence", 1)])
async def test_a_commit_without_an_answer_is_an_unknown_outcome(line: Line, loses: str, stored: int) -> None:
    line.wire.loses = loses  # type: ignore[assignment]
    with pytest.raises(OutcomeUnknownError):
        await submit_batch(line.services, [NOOP], by="ann")
    await until(lambda: _is(line, stored))
    again, was_there = await submit_keyed(line.services, NOOP, by="ann", key="k")
    line.wire.loses = loses  # type: ignore[assignment]
    with pytest.raises(OutcomeUnknownError):
        await submit_keyed(line.services, NOOP, by="ann", key="other")
    assert not was_there
    assert again.attempt == 0


async def _is(line: Line, stored: int) -> bool:
    return await line.stored() == stored


async def test_who_reads_is_told_too(line: Line) -> None:
    await submit_batch(line.services, [NOOP], by="ann")
    with pytest.raises(UnavailableError):
        await _read_in_silence(line)
    assert line.idle()


async def _read_in_silence(line: Line) -> None:
    async with line.services.session() as session:
        line.wire.mute = True
        await session.execute(text("SELECT 1"))


async def test_a_rollback_without_an_answer_holds_nobody_up(line: Line) -> None:
    await submit_batch(line.services, [NOOP], by="ann")
    async with asyncio.timeout(60):
        with pytest.raises(UnavailableError):
            await _fail_in_silence(line)
    assert line.idle()


async def _fail_in_silence(line: Line) -> None:
    async with line.services.transaction() as session:
        await session.execute(text("SELECT 1"))
        line.wire.mute = True
        raise LookupError


async def test_what_a_try_without_an_answer_may_have_stored_stays_unknown(line: Line) -> None:
    """Also when what comes after it refuses them one by one."""
    rows = [prepare(line.services, NOOP, by="ann", trace_id=None) for _ in range(3)]
    tries = 0

    async def write(rows: Sequence[NewJob]) -> Sequence[Inserted]:
        nonlocal tries
        tries += 1
        if tries > 1:
            await line.place.psql.execute("DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '55P03'; END $$")
        await insert_group(line.place.database, rows)
        raise ConnectionResetError

    told = await asyncio.gather(*map(GroupCommit(write, patience=5).put, rows), return_exceptions=True)
    assert [type(each) for each in told] == [OutcomeUnknownError] * 3
    assert (tries, await line.stored()) == (5, 3)


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
    go_on.set()
    await group.settle()
    assert written == [1]


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


async def test_every_statement_of_ours_has_a_limit_and_those_of_tasks_have_none(place: Place) -> None:
    limit = text("SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'")
    async with place.database.autocommit() as connection:
        grouped = (await connection.execute(limit)).scalar_one()
    async with place.database.transaction() as session:
        within = (await session.execute(limit)).scalar_one()
    async with place.database.jobs.connect() as connection:
        jobs = (await connection.execute(limit)).scalar_one()
    assert [grouped, within, jobs] == [10_000, 10_000, 0]
