"""What a task writes through its job session commits together with its end, or not at all."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError, ResourceClosedError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from jobtrail.job.errors import CommitFailedError, JobSessionError, UnavailableError
from jobtrail.job.status import Status
from jobtrail.store.engine import Database, open_database
from jobtrail.store.job_session import JobSession, abandon, complete, open_job_session
from jobtrail.store.transitions.cancel import Cancellation, cancel_group
from jobtrail.store.transitions.claim import claim_next
from jobtrail.store.transitions.finish import Ending, Landing
from jobtrail.store.transitions.rescue import rescue
from support import house
from support.database import Place
from support.gates import Gate, gate
from support.proxy import Loss, Proxy
from support.rows import trail
from support.until import until

LEASE = timedelta(seconds=10)
MADE = """CREATE TABLE effects (name text PRIMARY KEY, parent text REFERENCES effects DEFERRABLE INITIALLY DEFERRED)"""


class Row(DeclarativeBase):
    pass


class Effect(Row):
    __tablename__ = "effects"
    name: Mapped[str] = mapped_column(primary_key=True)
    parent: Mapped[str | None]


@dataclass
class Job:
    """One that a node holds, and the tables that its task writes to."""

    place: Place
    node: UUID
    ending: Ending
    opened: list[JobSession] = field(default_factory=list)

    async def open(self, lease: timedelta = LEASE) -> JobSession:
        self.opened.append(await open_job_session(self.place.database, lease=lease))
        return self.opened[-1]

    async def complete(self, session: JobSession) -> Landing:
        return await complete(self.place.database, session, self.ending, node=self.node)

    async def claim(self) -> None:
        wanted = {"lease": LEASE, "tasks": ["noop"], "queues": (), "free": 1, "salt": ""}
        [claimed] = await claim_next(self.place.database, node=self.node, **wanted)
        assert claimed.id == self.ending.id

    async def effects(self) -> list[str]:
        return [row["name"] for row in await self.place.rows("SELECT name FROM effects ORDER BY name")]

    async def found(self) -> tuple[str, list[str]]:
        """The status of the row and the effects that are there."""
        query = "SELECT status FROM jobtrail.jobs WHERE id = $1"
        return await self.place.value(query, self.ending.id), await self.effects()


@pytest.fixture
async def job(place: Place) -> AsyncIterator[Job]:
    submitted = await house.submitted(house.desk_at(place), "noop", max_attempts=2)
    made = Job(place, uuid4(), Ending(submitted.id, 1, Status.SUCCEEDED, "succeeded", result='"done"'))
    await made.claim()
    await place.psql.execute(MADE)
    try:
        yield made
    finally:
        for session in made.opened:
            await abandon(session)
        assert place.database.jobs.pool.checkedout() == 0  # type: ignore[attr-defined]
        await place.psql.execute("DROP TABLE effects")


async def write(session: JobSession, name: str, parent: str | None = None) -> None:
    statement = text("INSERT INTO effects VALUES (:name, :parent)")
    await session.execute(statement, {"name": name, "parent": parent})


async def test_effects_and_end_commit_together(job: Job) -> None:
    session = await job.open()
    await write(session, "by a statement")
    session.add(Effect(name="by an object, not flushed"))
    assert await job.found() == ("running", [])
    job.ending = replace(job.ending, progress='{"done": 2}')
    assert await job.complete(session) is Landing.LANDED
    assert await job.found() == ("succeeded", ["by a statement", "by an object, not flushed"])
    assert await job.place.value("SELECT progress ->> 'done' FROM jobtrail.jobs") == "2"
    assert [to for *_, to in await trail(job.place, job.ending.id)] == ["pending", "running", "succeeded"]
    xids = (
        "SELECT count(DISTINCT xmin) FROM (SELECT xmin::text FROM effects UNION SELECT xmin::text FROM jobtrail.jobs) x"
    )
    assert await job.place.value(xids) == 1


async def begin(session: JobSession) -> None:
    async with session.begin():
        pass


ENDS: dict[str, Callable[[JobSession], Awaitable[object]]] = {
    "commit": lambda session: session.commit(),
    "rollback": lambda session: session.rollback(),
    "close": lambda session: session.close(),
    "reset": lambda session: session.reset(),
    "invalidate": lambda session: session.invalidate(),
    "begin": begin,
    "commit in run_sync": lambda session: session.run_sync(lambda inner: inner.commit()),
}


@pytest.mark.parametrize("verb", ENDS)
async def test_a_task_cannot_end_it(job: Job, verb: str) -> None:
    session = await job.open()
    async with session:
        await write(session, "before")
    with pytest.raises(JobSessionError, match=r"commits the job session .*begin_nested"):
        await ENDS[verb](session)
    await write(session, "after")
    assert await job.complete(session) is Landing.LANDED
    assert await job.found() == ("succeeded", ["after", "before"])


async def test_a_part_of_it_may_be_undone(job: Job) -> None:
    session = await job.open()
    await write(session, "kept")
    with suppress(IntegrityError):
        async with session.begin_nested():
            await write(session, "undone")
            await write(session, "kept")
    await session.run_sync(lambda inner: inner.begin_nested().rollback())
    await session.begin_nested()  # and left open
    await write(session, "kept too")
    assert await job.complete(session) is Landing.LANDED
    assert await job.found() == ("succeeded", ["kept", "kept too"])


@pytest.mark.parametrize("wrong", ["node", "attempt", "rescued", "claimed again", "ended"])
async def test_nothing_remains_of_an_attempt_that_lost_its_job(
    job: Job, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    session = await job.open()
    await write(session, "late")
    match wrong:
        case "node":
            job.node = uuid4()
        case "attempt":
            job.ending = replace(job.ending, attempt=2)
        case "ended":
            assert await job.complete(await job.open()) is Landing.LANDED
        case _:
            await job.place.psql.execute("UPDATE jobtrail.jobs SET lease_until = now()")
            await rescue(job.place.database, actor="node x", lease=timedelta(0), most=1)
            if wrong == "claimed again":
                await job.claim()
    before = await job.place.rows("SELECT * FROM jobtrail.jobs")
    with caplog.at_level(logging.WARNING):
        assert await job.complete(session) is Landing.STALE
    assert ("stale: attempt" in caplog.text) == (wrong != "ended")
    assert await job.place.rows("SELECT * FROM jobtrail.jobs") == before
    assert await job.effects() == []


async def swallowed(session: JobSession) -> None:
    with pytest.raises(IntegrityError):
        await session.execute(text("INSERT INTO effects VALUES ('1'), ('1')"))


async def swallowed_flush(session: JobSession) -> None:
    session.add(Effect(name="written"))
    with pytest.raises(IntegrityError):
        await session.flush()


async def cancelled(session: JobSession) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(session.execute(text("SELECT pg_sleep(60)")), 0.05)


async def add_twice(session: JobSession) -> None:
    session.add(Effect(name="written"))


async def commit_beneath(session: JobSession) -> None:
    await (await session.connection()).commit()


async def roll_back_beneath(session: JobSession) -> None:
    await (await session.connection()).rollback()


async def close_beneath(session: JobSession) -> None:
    await (await session.connection()).close()


UNDONE: dict[str, tuple[Callable[[JobSession], Awaitable[object]], str]] = {
    "a flush that fails": (add_twice, 'the task wrote was not committed: duplicate key .* "effects_pkey"'),
    "a deferred check": (lambda session: write(session, "a", "b"), "not committed: .* violates foreign key constraint"),
    "a swallowed error": (swallowed, "task swallowed the error: duplicate key value .*; let the error out, or"),
    "a swallowed flush": (swallowed_flush, "task swallowed the error: duplicate key .*begin_nested"),
    "a cancelled statement": (cancelled, "a statement was cancelled under way, which ends the session"),
    "ROLLBACK": (lambda session: session.execute(text("ROLLBACK")), "the task ended the transaction"),
    "a rollback beneath": (roll_back_beneath, "the task ended the transaction"),
    "a close beneath": (close_beneath, "not committed: This Connection is closed"),
}


@pytest.mark.parametrize("how", UNDONE)
async def test_what_did_not_commit_leaves_nothing(job: Job, how: str) -> None:
    session = await job.open()
    await write(session, "written")
    act, said = UNDONE[how]
    await act(session)
    with pytest.raises(CommitFailedError, match=said):
        await job.complete(session)
    assert await job.found() == ("running", [])
    assert await job.complete(await job.open()) is Landing.LANDED  # the row is free, and the attempt still its own


@pytest.mark.parametrize("how", [commit_beneath, lambda session: session.execute(text("COMMIT"))])
async def test_a_task_that_commits_behind_our_back_does_not_succeed(
    job: Job, how: Callable[[JobSession], Awaitable[object]]
) -> None:
    session = await job.open()
    await write(session, "kept")
    await how(session)
    session.add(Effect(name="not flushed any more"))
    with pytest.raises(
        CommitFailedError, match=r"ended the transaction .* may be committed; leave COMMIT and ROLLBACK"
    ):
        await job.complete(session)
    assert await job.found() == ("running", ["kept"])


@pytest.mark.parametrize("notices", ["the task", "the commit"])
async def test_idle_for_longer_than_the_lease(job: Job, notices: str) -> None:
    session = await job.open(timedelta(seconds=0.1))
    await write(session, "written")
    pid = await session.scalar(text("SELECT pg_backend_pid()"))
    await until(lambda: is_gone(job.place, pid))
    said = r"idle for 0\.\d+ s; .* lease of 0\.1 s; do the slow part first, and open the session after it"
    if notices == "the task":
        with pytest.raises(CommitFailedError, match=said):
            await write(session, "more")
    with pytest.raises(CommitFailedError, match=said):
        await job.complete(session)
    assert await job.found() == ("running", [])


async def test_a_statement_that_another_ends_is_told_as_it_is(job: Job) -> None:
    """Also when it took longer than the lease: a session that works is not idle."""
    session = await job.open(timedelta(seconds=0.05))
    with pytest.raises(DBAPIError, match="terminating connection due to administrator command"):
        await session.execute(text("SELECT pg_sleep(0.1), pg_terminate_backend(pg_backend_pid())"))
    with pytest.raises(CommitFailedError, match="terminating connection due to administrator command"):
        await job.complete(session)


async def test_a_locked_row_costs_no_effects(job: Job) -> None:
    session = await job.open()
    await write(session, "kept")
    await session.execute(text("SET LOCAL lock_timeout = '20ms'"))
    transaction = job.place.psql.transaction()
    await transaction.start()
    await job.place.psql.execute("UPDATE jobtrail.jobs SET tags = '{mine}'")
    completing = asyncio.create_task(job.complete(session))
    done, _ = await asyncio.wait({completing}, timeout=0.3)
    assert not done
    await transaction.commit()
    assert await completing is Landing.LANDED
    assert await job.found() == ("succeeded", ["kept"])


async def test_success_outlives_a_cancel_request(job: Job) -> None:
    session = await job.open()
    await write(session, "done")
    await cancel_group(job.place.database, [Cancellation(job.ending.id, "ann", None)])
    assert await job.complete(session) is Landing.LANDED
    assert await job.found() == ("succeeded", ["done"])


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
    working = asyncio.create_task(session.execute(text("SELECT pg_sleep(60)")))

    async def sleeps() -> bool:
        query = "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $1"
        return bool(await job.place.value(query, pid))

    await until(sleeps)
    began = time.monotonic()
    await abandon(session)
    assert time.monotonic() - began < 2
    with pytest.raises(DBAPIError):
        await working
    await until(lambda: is_gone(job.place, pid))


async def is_gone(place: Place, pid: int) -> bool:
    return not await place.rows("SELECT FROM pg_stat_activity WHERE pid = $1", pid)


async def test_a_broken_session_is_abandoned(job: Job) -> None:
    session = await job.open()
    pid = await session.scalar(text("SELECT pg_backend_pid()"))
    await job.place.psql.execute("SELECT pg_terminate_backend($1)", pid)
    await until(lambda: is_gone(job.place, pid))
    await abandon(session)
    assert await job.complete(await job.open()) is Landing.LANDED


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
    assert await complete(beyond, first, job.ending, node=job.node) is Landing.LANDED
    assert await job.place.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
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
        assert await complete(database, session, job.ending, node=job.node) is Landing.LANDED
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
        assert await completing is Landing.LANDED
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
    assert await completing is Landing.LANDED
    assert await job.found() == ("succeeded", ["done"])


async def test_a_database_that_is_away_gives_no_session() -> None:
    nowhere = open_database("postgresql+asyncpg://nobody@127.0.0.1:9/none", connect_timeout=1)
    with pytest.raises(UnavailableError):
        await open_job_session(nowhere, lease=LEASE)
    await nowhere.dispose()
