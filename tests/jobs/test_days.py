"""A day has 86,400 seconds, also where the database's zone puts its clock forward within it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from jobtrail import Again, JobContext, Jobtrail, task
from jobtrail.db.embedded import EmbeddedPostgres
from jobtrail.jobs.amend import amend
from jobtrail.jobs.purge import purge
from jobtrail.ops.audit import ask, question
from jobtrail.ops.keys import create_key
from jobtrail.settings import Settings
from jobtrail.task.submission import Amendment
from support.psql import run_file
from support.rows import passed
from support.until import until
from support.world import Place, migrated

DAY = 86_400
SHORT = "SELECT extract(epoch FROM {} - {})::float8"
AHEAD = SHORT.format("(now() + interval '1 day')", "now()")
BEHIND = SHORT.format("now()", "(now() - interval '1 day')")


@task
async def plain() -> None: ...


@task
async def in_session(context: JobContext) -> str:
    session = await context.session()
    return str((await session.execute(text("SHOW timezone"))).scalar_one())


@task(max_attempts=2)
async def tomorrow() -> None:
    raise Again(after=timedelta(days=1))


@asynccontextmanager
async def changing(server: EmbeddedPostgres, when: timedelta) -> AsyncIterator[tuple[Place, str]]:
    """A database in a zone whose clock goes forward `when` from now, and back a hundred days later."""
    async with migrated(server) as place:
        now: datetime = await place.value("SELECT now()")
        forth, back = (f"J{_day(now + each)}/{now + each:%H:%M:%S}" for each in (when, when + timedelta(days=100)))
        zone = f"WIN0SUM,{forth},{back}"
        name = await place.value("SELECT current_database()")
        await place.psql.execute(f"ALTER DATABASE {name} SET timezone = '{zone}'")
        yield place, zone


def _day(date: datetime) -> int:
    """The day of a year without a 29th of February, as POSIX counts them."""
    return date.replace(year=2001, day=min(date.day, 28) if date.month == 2 else date.day).timetuple().tm_yday


@asynccontextmanager
async def opened(place: Place, way: str) -> AsyncIterator[Jobtrail]:
    url = place.url.libpq
    if way == "pooled":
        url += ("&" if "?" in url else "?") + "pgbouncer=true"
    engine = create_async_engine(place.url.sqlalchemy) if way == "lent" else None
    settings = Settings(database_url=url, poll_every=timedelta(milliseconds=50))
    trail = Jobtrail(settings, engine=engine, tasks=[plain, in_session, tomorrow])
    async with trail.lifespan():
        yield trail
    if engine is not None:
        await engine.dispose()


async def kept(place: Place, job_id: UUID) -> float | None:
    query = "SELECT extract(epoch FROM expires_at - finished_at)::float8 FROM jobtrail.jobs WHERE id = $1"
    found: float | None = await place.value(query, job_id)
    return found


@pytest.mark.parametrize("way", ["own", "pooled", "lent"])
async def test_what_lives_for_a_day_lives_for_a_day(postgres: EmbeddedPostgres, way: str) -> None:
    async with changing(postgres, timedelta(hours=12)) as (place, zone), opened(place, way) as trail:
        async with place.database.jobs.connect() as connection:
            assert (await connection.execute(text(AHEAD))).scalar_one() == DAY - 3600, "nothing would be proved"
        services = trail._running().services
        ended = await trail.options(ttl=DAY).submit(plain)
        await ended.wait(5)
        written = await trail.options(ttl=DAY).submit(in_session)
        assert await written.wait(5) == zone, "the session of a task is in its database's zone"
        keyed = await trail.options(ttl=1, idempotency_key="k").submit(plain)
        await keyed.wait(5)
        cancelled = await trail.options(ttl=DAY, run_at=datetime.now().astimezone() + timedelta(days=3)).submit(plain)
        await trail.cancel(cancelled.id)
        amended = await trail.submit(plain)
        await amended.wait(5)
        await amend(services, amended.id, Amendment(ttl=DAY), by="ann", unchanged=lambda _: True)
        assert [await kept(place, each.id) for each in (ended, written, keyed, cancelled, amended)] == [DAY] * 5
        again = await trail.submit(tomorrow)
        query = """SELECT round(extract(epoch FROM j.run_at - t.at) / 600)::int * 600 FROM jobtrail.jobs j
                     JOIN jobtrail.transitions t ON t.job_id = j.id AND t.seq = 3 WHERE j.id = $1"""
        assert await until(lambda: place.value(query, again.id)) == DAY
        key, _ = await create_key(services, "bob", ["read"], by="ann", lives_for=timedelta(days=1))
        assert key.expires_at == key.created_at + timedelta(days=1)


ENDED = """
INSERT INTO jobtrail.transitions (job_id, seq, attempt, from_status, to_status, at, actor, reason, trace_id, task)
SELECT $1, seq, 1, 'running', status, now() - interval '23 hours 30 minutes', 'x', 'y', repeat('0', 32), 'noop'
  FROM (VALUES (1, 'succeeded'), (2, 'cancelled'), (3, 'purged')) AS moves (seq, status)
"""


async def test_the_last_day_has_as_many_seconds_in_every_zone(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with changing(postgres, timedelta(hours=-12)) as (place, _):
        async with place.psql.transaction():
            await place.psql.execute("SET LOCAL session_replication_role = replica")
            await place.psql.execute(ENDED, uuid4())
        async with place.database.jobs.connect() as connection:
            assert (await connection.execute(text(BEHIND))).scalar_one() == DAY - 3600, "nothing would be proved"
        for name, count in (("purged", 1), ("cancellations", 1), ("throughput_by_hour", 25)):
            file = Path(question.__code__.co_filename).parent / "sql" / f"{name}.sql"
            monkeypatch.setenv("PGTZ", "UTC")
            in_utc = run_file(place.url.libpq, file, {"since": "1 day"})
            monkeypatch.delenv("PGTZ")
            in_its_own = run_file(place.url.libpq, file, {"since": "1 day"})
            assert len(in_utc[1]) == len(in_its_own[1]) == count
            async with place.database.sessions() as session:
                assert len((await ask(session, question(name), {"since": "1 day"})).rows) == count
        await passed(place)
        assert (await purge(place.database, by="ann", history_ttl=timedelta(days=1))).transitions == 0
        assert (await purge(place.database, by="ann", history_ttl=timedelta(hours=23))).transitions == 3
