"""A job that a caller's own session stores is the same row as one that we store, and lives and dies with it."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, registry, scoped_session, sessionmaker

from jobtrail.ids import new_job_id
from jobtrail.jobs.host_session import JobRow, add, row_of
from jobtrail.jobs.insert import insert_group
from jobtrail.records import NewJob
from support.world import Place


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


def new(**said: Any) -> NewJob:
    job_id = new_job_id()
    plain: dict[str, Any] = {
        "id": job_id, "task": "noop", "args": {}, "args_json": "{}", "trace_id": job_id.hex, "created_by": "ann",
        "queue": "default", "priority": 5, "max_attempts": 1, "tags": (), "ttl": timedelta(days=7),
        "ttl_failed": timedelta(days=30), "timeout": None, "run_at": None,
    }  # fmt: skip
    return NewJob(**{**plain, **said})


JOBS: dict[str, dict[str, Any]] = {
    "plain": {},
    "kept for ever": {"ttl": None, "ttl_failed": None},
    "not kept at all": {"ttl": timedelta(0), "ttl_failed": timedelta(microseconds=1)},
    "everything said": {
        "args_json": json.dumps({"n": 10**60 + 1, "text": "ü \"\\' 🙂 %s :x $1", "deep": [{"a": [None, True, 1.5]}]}),
        "tags": ["a,b", '"quoted"', "{x}", "back\\slash", "NULL", "ü"],
        "queue": "mail",
        "priority": 9,
        "max_attempts": 3,
        "timeout": timedelta(seconds=1, microseconds=5),
        "trace_id": "ab" * 16,
        "created_by": "o'hara",
        "run_at": datetime(2030, 1, 1, 12, 30, 15, 123456, UTC),
    },
    "with a key": {"idempotency_key": "k", "request_hash": b"\x00\xff" * 16},
}


def _odd(value: object) -> str:
    return json.dumps(repr(value))


@pytest.fixture
async def engine(place: Place) -> AsyncIterator[AsyncEngine]:
    """The host's own, with a table of the host's."""
    await place.psql.execute("DROP TABLE IF EXISTS users; CREATE TABLE users (id int PRIMARY KEY, name text)")
    made = create_async_engine(place.url.sqlalchemy, json_serializer=_odd)
    yield made
    await made.dispose()


@pytest.fixture
def plain_engine(place: Place) -> Iterator[Engine]:
    """The same for a host that is not asynchronous."""
    made = create_engine(place.url.libpq.replace("postgresql://", "postgresql+psycopg://", 1), json_serializer=_odd)
    yield made
    made.dispose()


async def columns_of(place: Place, jobs: list[NewJob]) -> list[dict[str, Any]]:
    """All that is stored of each, but for the id; the times as what they are to each other."""
    query = """SELECT to_jsonb(j) - '{id,trace_id,created_at,run_at}'::text[] AS plain,
          nullif(j.trace_id, replace(j.id::text, '-', '')) AS trace,
          j.created_at BETWEEN now() - interval '1 min' AND clock_timestamp() AS born_now,
          CASE WHEN j.run_at <> j.created_at THEN j.run_at END AS later,
          (SELECT array_agg((t.seq, t.from_status, t.to_status, t.actor, t.reason, t.attempt, t.task)::text)
             FROM jobtrail.transitions t WHERE t.job_id = j.id) AS history
        FROM jobtrail.jobs j WHERE j.id = $1"""
    return [(await place.rows(query, job.id))[0] for job in jobs]


@pytest.mark.parametrize("way", ["asynchronous", "plain"])
async def test_both_ways_store_the_same(place: Place, engine: AsyncEngine, plain_engine: Engine, way: str) -> None:
    ours, theirs = ([new(**said) for said in JOBS.values()] for _ in range(2))
    await insert_group(place.database, ours)
    expected = await columns_of(place, ours)
    await place.empty()
    if way == "asynchronous":
        async with AsyncSession(engine) as session, session.begin():
            session.add_all([row_of(job) for job in theirs])
    else:
        await asyncio.to_thread(_store, plain_engine, theirs)
    assert await columns_of(place, theirs) == expected
    assert [(row["trace"], row["later"], row["born_now"]) for row in expected] == [
        (said.get("trace_id"), said.get("run_at"), True) for said in JOBS.values()
    ]


def _store(engine: Engine, jobs: list[NewJob]) -> None:
    with Session(engine) as session, session.begin():
        for job in jobs:
            add(session, job)


async def test_several_go_in_one_statement_and_nothing_is_read_back(engine: AsyncEngine) -> None:
    sent: list[tuple[str, bool]] = []
    event.listen(engine.sync_engine, "before_cursor_execute", lambda *said: sent.append((said[2][:6], said[5])))
    async with AsyncSession(engine, expire_on_commit=True, autoflush=False) as session:
        rows = [add(session, new(**said)) for said in JOBS.values() if "run_at" not in said]
        await session.commit()
        await session.commit()
    assert (len(rows), sent) == (4, [("INSERT", True)])


@pytest.mark.parametrize("how", ["commit", "rollback", "savepoint", "forgotten", "refused"])
async def test_it_lives_and_dies_with_its_transaction(place: Place, engine: AsyncEngine, how: str) -> None:
    jobs = "SELECT count(*) FROM jobtrail.jobs"
    async with AsyncSession(engine) as session:
        session.add(User(id=1, name="ada"))
        if how == "savepoint":
            await session.flush()
            inner = await session.begin_nested()
        add(session, new(priority=12 if how == "refused" else 5))
        if how == "refused":
            with pytest.raises(IntegrityError, match="priority"):
                await session.commit()
        else:
            await session.flush()
            assert (await session.execute(text(jobs))).scalar_one() == 1
            assert await place.value(jobs) == 0
        if how == "savepoint":
            await inner.rollback()
        if how in ("commit", "savepoint"):
            await session.commit()
        elif how == "rollback":
            await session.rollback()
    assert await place.value("SELECT count(*) FROM users") == (how in ("commit", "savepoint"))
    assert await place.value(jobs) == (how == "commit")
    assert await place.value("SELECT count(*) FROM jobtrail.transitions") == (how == "commit")


async def test_every_kind_of_session(place: Place, engine: AsyncEngine, plain_engine: Engine) -> None:
    scoped = async_scoped_session(async_sessionmaker(engine), scopefunc=asyncio.current_task)
    add(scoped, new())
    await scoped.commit()
    await scoped.remove()

    def plainly() -> None:
        session = scoped_session(sessionmaker(plain_engine))
        add(session, new())
        session.commit()
        session.remove()

    await asyncio.to_thread(plainly)
    async with AsyncSession(binds={Base: engine, JobRow: engine}) as session, session.begin():
        add(session, new())
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 3


def test_a_session_that_has_no_place_for_it_is_told_what_to_do() -> None:
    elsewhere = create_async_engine("postgresql+asyncpg://nobody@127.0.0.1:9/none")
    for session, said in (
        (AsyncSession(binds={Base: elsewhere}), r"binds=\{…, JobRow: engine\}"),
        (Session(create_engine("sqlite://")), "on sqlite"),
    ):
        with pytest.raises(TypeError, match=said):
            add(session, new())
        assert not session.new


def forget() -> None:
    """As in a process that made no row before, or whose tests clear all mappers."""
    inspect(type(row_of(new()))).registry.dispose()


@pytest.mark.parametrize("before", [lambda: None, forget])
def test_a_host_s_own_tables_never_meet_it(before: Callable[[], None]) -> None:
    row_of(new())

    class Own(DeclarativeBase):
        pass

    before()
    row = row_of(new())
    assert not Own.metadata.tables
    assert not list(Own.registry.mappers)
    assert isinstance(row, JobRow)


async def test_rows_made_in_threads_at_once(place: Place, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by endpoints that are no coroutines: the mapper that each of them wants is made once."""
    forget()
    both, made = threading.Barrier(2), registry.map_imperatively

    def map_slowly(*said: Any) -> Any:
        with suppress(threading.BrokenBarrierError):
            both.wait(0.1)
        return made(*said)

    monkeypatch.setattr(registry, "map_imperatively", map_slowly)
    rows = await asyncio.gather(*(asyncio.to_thread(row_of, new()) for _ in range(2)))
    async with AsyncSession(engine) as session, session.begin():
        session.add_all(rows)
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 2
