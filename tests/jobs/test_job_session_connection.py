"""What becomes of a job session's connection: waited for, used again, abandoned, or gone before COMMIT is answered."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, ResourceClosedError

from jobtrail.db.engine import Database, open_database
from jobtrail.errors import CommitFailedError, UnavailableError
from jobtrail.jobs.finish import Recorded
from jobtrail.jobs.job_session import abandon, complete, open_job_session
from support.effects import LEASE, Job, is_gone, write
from support.gates import Gate, gate
from support.proxy import Loss, Proxy
from support.until import until
from support.world import Place


async def test_an_abandoned_session_can_do_nothing_more(job: Job) -> None:
    session = await job.open()
    await write(session, "undone")
    await asyncio.gather(abandon(session), abandon(session))
    await abandon(session)
    with pytest.raises(ResourceClosedError):
        await write(session, "late")
    assert await job.found() == ("running", [])


async def test_a_session_is_abandoned_while_a_statement_is_under_way(job: Job) -> None:
    session = await job.open()
    pid = await session.scalar(text("SELECT pg_backend_pid()"))
    working = asyncio.create_task(session.execute(text("SELECT pg_sleep(3600)")))

    async def sleeps() -> bool:
        query = "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $1"
        return bool(await job.place.value(query, pid))

    await until(sleeps)
    await asyncio.wait_for(abandon(session), 60)
    with pytest.raises(DBAPIError):
        await working
    await until(lambda: is_gone(job.place, pid))


async def test_a_broken_session_is_abandoned(job: Job) -> None:
    session = await job.open()
    pid = await session.scalar(text("SELECT pg_backend_pid()"))
    await job.place.psql.execute("SELECT pg_terminate_backend($1)", pid)
    await until(lambda: is_gone(job.place, pid))
    await abandon(session)
    assert await job.complete(await job.open()) is Recorded.YES


async def test_a_cancelled_caller_leaves_no_connection_behind(job: Job) -> None:
    session = await job.open()
    leaving = asyncio.create_task(abandon(session))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert session.own.closed


async def test_sessions_wait_for_their_turn_and_starve_nobody(job: Job) -> None:
    held = [await job.open() for _ in range(5)]
    waiting = asyncio.create_task(job.open())
    async with job.place.database.sessions() as reader:
        assert await reader.scalar(text("SELECT 1")) == 1
    assert not waiting.done()
    assert job.place.database.jobs.pool.timeout() is None  # type: ignore[attr-defined]
    given_up = asyncio.create_task(job.open())
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait({given_up})
    await abandon(held.pop())
    for each in (await waiting, *held):
        await abandon(each)


async def test_a_session_finds_nothing_of_the_one_before(job: Job, beyond: Database) -> None:
    first = await open_job_session(beyond, lease=LEASE)
    pid = await first.scalar(text("SELECT pg_backend_pid()"))
    await first.execute(text("SET statement_timeout = '1h'"))
    await first.execute(text("SELECT pg_advisory_lock(5)"))
    assert await complete(beyond, first, job.ending, node=job.node) is Recorded.YES
    assert (
        await job.place.value(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        == 0
    )
    second = await open_job_session(beyond, lease=LEASE)
    assert await second.scalar(text("SELECT pg_backend_pid()")) == pid
    shown = [await second.scalar(text(f"SHOW {name}")) for name in ("statement_timeout", "lock_timeout")]
    assert shown == ["0", "3s"]
    await abandon(second)


async def test_a_stricter_default_isolation_costs_no_effects(job: Job) -> None:
    name = await job.place.value("SELECT current_database()")
    await job.place.psql.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
    database = open_database(job.place.url.sqlalchemy)
    try:
        session = await open_job_session(database, lease=LEASE)
        await write(session, "done")
        await job.place.psql.execute("UPDATE jobtrail.jobs SET lease_until = now() + interval '1h'")
        assert await complete(database, session, job.ending, node=job.node) is Recorded.YES
    finally:
        await database.dispose()
        await job.place.psql.execute(f"ALTER DATABASE {name} RESET default_transaction_isolation")
    assert await job.found() == ("succeeded", ["done"])


@pytest.fixture
async def proxy(place: Place) -> AsyncIterator[Proxy]:
    async with Proxy.before(place) as made:
        yield made


@pytest.fixture
async def beyond(proxy: Proxy) -> AsyncIterator[Database]:
    """The database on the other side of the proxy."""
    database = open_database(proxy.url)
    yield database
    await database.dispose()


@pytest.mark.parametrize("loses", ["request", "answer"])
@pytest.mark.parametrize("outage", [False, True])
async def test_a_commit_without_an_answer(job: Job, proxy: Proxy, beyond: Database, loses: Loss, outage: bool) -> None:
    session = await open_job_session(beyond, lease=LEASE)
    await write(session, "done")
    proxy.loses, proxy.away = loses, outage
    completing = asyncio.create_task(complete(beyond, session, job.ending, node=job.node))
    await proxy.lost()
    if outage:
        done, _ = await asyncio.wait({completing}, timeout=0.3)
        assert not done
        proxy.away = False
    if loses == "answer":
        assert await completing is Recorded.YES
        assert await job.found() == ("succeeded", ["done"])
    else:
        with pytest.raises(CommitFailedError, match="another attempt may succeed"):
            await completing
        assert await job.found() == ("running", [])


async def test_a_commit_that_is_still_on_its_way(job: Job, proxy: Proxy, beyond: Database) -> None:
    """The connection is gone while the server still checks what was deferred: a plain read would say `running`."""
    session = await open_job_session(beyond, lease=LEASE)
    await write(session, "done")
    async with gate(job.place, Gate.COMMIT) as waits:
        proxy.loses = "wait"
        completing = asyncio.create_task(complete(beyond, session, job.ending, node=job.node))
        await until(waits)
        done, _ = await asyncio.wait({completing}, timeout=0.3)
        assert not done
    assert await completing is Recorded.YES
    assert await job.found() == ("succeeded", ["done"])


async def test_a_database_that_is_away_gives_no_session() -> None:
    nowhere = open_database("postgresql+asyncpg://nobody@127.0.0.1:9/none", connect_timeout=1)
    with pytest.raises(UnavailableError):
        await open_job_session(nowhere, lease=LEASE)
    await nowhere.dispose()
