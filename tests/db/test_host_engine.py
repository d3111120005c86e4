"""A host's engine: its pool is used, its connections come back as they were, and its locks hold nobody up for long."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import NullPool, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AssertionPool, StaticPool

from jobtrail.db.engine import Database
from jobtrail.db.errors import Fault, fault_of
from jobtrail.db.host_engine import lend_database, lend_single
from jobtrail.errors import SettingsError, UnavailableError
from jobtrail.jobs.claim import claim_these
from jobtrail.jobs.finish import OutcomeRecord, Recorded, finish_group, finish_within
from jobtrail.jobs.job_session import abandon, open_job_session
from jobtrail.jobs.query import read
from jobtrail.jobs.services import Services
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from support import tasks, world
from support.lent import lent
from support.proxy import Loss, Proxy
from support.world import Place

NODE = uuid4()
LEASE = timedelta(seconds=30)

LOCK_TIMEOUT = text("SHOW lock_timeout")
ISOLATION = text("SHOW transaction_isolation")


def services_on(database: Database) -> Services:
    return Services(database, Catalog.from_modules([tasks]))


async def running(database: Database, count: int) -> list[OutcomeRecord]:
    """Jobs that this node holds, and the ends that they are about to have."""
    services = services_on(database)
    jobs = [await world.submitted(services, "noop") for _ in range(count)]
    await claim_these(database, [job.id for job in jobs], node=NODE, lease=LEASE)
    return [OutcomeRecord(job.id, 1, Status.SUCCEEDED, "succeeded", result="1") for job in jobs]


async def locks_of(engine: AsyncEngine) -> str:
    async with engine.connect() as connection:
        return str((await connection.execute(LOCK_TIMEOUT)).scalar_one())


async def test_each_way_in_has_its_own_lock_timeout_and_leaves_none(place: Place) -> None:
    async with lent(place, "options") as (engine, database):
        async with database.autocommit() as connection, database.sessions() as session:
            within = [(await each.execute(LOCK_TIMEOUT)).scalar_one() for each in (connection, session)]
            isolation = {(await each.execute(ISOLATION)).scalar_one() for each in (connection, session)}
        opened = await open_job_session(database, lease=LEASE)
        jobs = (await opened.execute(LOCK_TIMEOUT)).scalar_one()
        await abandon(opened)
        assert ([*within, jobs], isolation) == (["500ms", "3s", "3s"], {"read committed"})
        assert [await locks_of(engine) for _ in range(3)] == ["7s"] * 3
        single = lend_single(engine)
        assert await locks_of(single) == "100ms"
        await single.dispose()


async def test_a_locked_row_does_not_hold_up_its_group(place: Place) -> None:
    async with lent(place) as (_, database):
        endings = await running(database, 5)
        async with place.psql.transaction():
            await place.psql.execute("SELECT FROM jobtrail.jobs WHERE id = $1 FOR UPDATE", endings[2].id)
            async with asyncio.timeout(2.5):
                landings = await finish_group(database, endings, node=NODE)
        assert landings == [Recorded.YES, Recorded.YES, Recorded.UNKNOWN, Recorded.YES, Recorded.YES]
        assert await place.value("SELECT count(*) FROM jobtrail.jobs WHERE status = 'succeeded'") == 4


async def test_an_end_within_a_transaction_steps_over_nothing(place: Place) -> None:
    """Else what the task wrote would be undone, and its success recorded."""
    async with lent(place) as (_, database):
        [ending] = await running(database, 1)
        async with place.psql.transaction(), database.engine.connect() as connection:
            await place.psql.execute("SELECT FROM jobtrail.jobs WHERE id = $1 FOR UPDATE", ending.id)
            await connection.execute(text("SET LOCAL lock_timeout = '50ms'"))
            with pytest.raises(DBAPIError) as caught:
                await finish_within(connection, ending, node=NODE)
        assert fault_of(caught.value) is Fault.LOCKED


async def test_a_cancellation_at_any_moment_leaves_nothing_behind(place: Place) -> None:
    async with lent(place, "one connection, pinged") as (engine, database):
        pool: Any = engine.sync_engine.pool

        async def grouped() -> None:
            async with database.autocommit() as connection:
                await connection.execute(text("SELECT 1"))

        async def within() -> None:
            async with database.sessions.begin() as session:
                await session.execute(text("SELECT 1"))

        for work in (grouped, within):
            steps = 0
            while await _cut(engine, work, steps):  # until it was through before it could be cancelled
                steps += 4
            assert steps > 20, "cut too early: nothing was proved"
        assert pool.checkedout() == 0


async def _cut(engine: AsyncEngine, work: Callable[[], Awaitable[None]], steps: int) -> bool:
    """Whether it was in the middle when it was cancelled, so many turns of the loop after it began."""
    task = asyncio.ensure_future(work())
    for _ in range(steps):
        await asyncio.sleep(0)
    cut = task.cancel()
    await asyncio.wait({task})
    async with engine.connect() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        assert not driver.is_in_transaction()
        assert (await connection.execute(LOCK_TIMEOUT)).scalar_one() == "7s"
    return cut


@pytest.mark.parametrize("loss", ["request", "answer"])
async def test_a_group_whose_commit_was_lost_goes_again(place: Place, loss: Loss) -> None:
    async with Proxy.before(place) as wire:
        engine = create_async_engine(wire.url, pool_size=2, max_overflow=0)
        database = lend_database(engine)
        services = services_on(database)
        await world.submitted(services, "noop")
        wire.loses = loss
        jobs = await asyncio.gather(*(world.submitted(services, "noop") for _ in range(3)))
        await wire.lost()
        await database.dispose()
        await engine.dispose()
    assert wire.loses is None, "no commit was lost: nothing was proved"
    stored = await place.rows("SELECT id FROM jobtrail.jobs ORDER BY id OFFSET 1")
    assert [row["id"] for row in stored] == sorted(job.id for job in jobs)


async def test_a_host_without_a_ping_is_told_once_that_its_connections_died(place: Place) -> None:
    async with lent(place) as (_, database):
        services = services_on(database)
        await _die(place)
        job = await world.submitted(services, "noop")  # a group goes again
        await _die(place)
        with pytest.raises(UnavailableError):
            await read(services, job.id)
        assert (await read(services, job.id)).id == job.id


async def _die(place: Place) -> None:
    query = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'host'"
        " AND datname = current_database()"
    )
    assert await place.value(query) > 0


@pytest.mark.parametrize(
    ("options", "full_at"),
    [
        ({"pool_size": 1, "max_overflow": 0}, 1),
        ({"pool_size": 2, "max_overflow": 1}, 2),
        ({"pool_size": 1, "max_overflow": -1}, 1),
        ({"pool_size": 0}, None),
        ({"poolclass": NullPool}, None),
    ],
)
async def test_a_pool_is_full_when_all_that_it_keeps_are_in_use(
    place: Place, options: dict[str, Any], full_at: int | None
) -> None:
    engine = create_async_engine(place.url.sqlalchemy, **options)
    database, own = lend_database(engine), engine.sync_engine.pool
    async with AsyncExitStack() as held:
        used = []
        for _ in range(3):
            used.append(database.grouped.sync_engine.pool is own)
            if used[-1]:
                await held.enter_async_context(engine.connect())
    assert used == [full_at is None or count < full_at for count in range(3)]
    await database.dispose()
    await engine.dispose()


@pytest.mark.parametrize("kind", ["two connections", "events"])
async def test_job_sessions_take_no_connection_of_the_host_and_keep_nothing_of_each_other(
    place: Place, kind: str
) -> None:
    """The settings of the host hold in each of them, though what a task sets is reset."""
    async with lent(place, kind, pool_size=1) as (engine, database):
        pool: Any = engine.sync_engine.pool
        own: Any = database.jobs.sync_engine.pool
        assert own.timeout() is None, "who wants a job session waits however long"
        for _ in range(2):
            session = await open_job_session(database, lease=LEASE)
            waiting = asyncio.create_task(open_job_session(database, lease=LEASE))
            said = [(await session.execute(text(f"SHOW {name}"))).scalar_one() for name in ("search_path", "work_mem")]
            assert said == ["information_schema", "4MB"]
            await session.execute(text("SET search_path = public"))
            await session.execute(text("SET work_mem = '5MB'"))
            async with engine.connect():
                assert (pool.checkedout(), waiting.done()) == (1, False)
            await session.own.commit()
            await abandon(session)
            await abandon(await waiting)


async def test_the_host_s_events_hold_for_its_tasks_and_its_pool_is_left_open(place: Place) -> None:
    async with lent(place) as (engine, database):
        await running(database, 1)
        seen: list[str] = []
        event.listen(engine.sync_engine, "before_cursor_execute", lambda *said: seen.append(said[2]))
        session = await open_job_session(database, lease=LEASE)
        await session.execute(text("SELECT 'of a task'"))
        await abandon(session)
        assert "SELECT 'of a task'" in seen
        assert not list(engine.sync_engine.dispatch.begin)
        pool, own = engine.sync_engine.pool, database.jobs.sync_engine.pool
        await database.dispose()
        assert engine.sync_engine.pool is pool
        assert pool.checkedin() > 0  # type: ignore[attr-defined]
        assert own.checkedin() == 0  # type: ignore[attr-defined]


URL = "postgresql+asyncpg://ann:hunter2@host/db"


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        (lambda: create_engine("postgresql+psycopg://"), r"postgresql\+asyncpg://.*leave `engine` out"),
        (lambda: create_async_engine("postgresql+psycopg://host/db"), r"postgresql\+asyncpg://.*leave `engine` out"),
        (lambda: URL, r"^engine is str: Jobtrail works on an AsyncEngine"),
        (lambda: create_async_engine(URL, poolclass=StaticPool), "StaticPool.*leave `poolclass` out"),
        (lambda: create_async_engine(URL, poolclass=AssertionPool), "AssertionPool.*leave `poolclass` out"),
    ],
)
def test_an_engine_that_cannot_be_used_is_refused_with_the_way_out(engine: Callable[[], Any], reason: str) -> None:
    for lend in (lend_database, lend_single):
        with pytest.raises(SettingsError, match=reason) as refused:
            lend(engine())
        assert "hunter2" not in str(refused.value)
