"""Whatever the database says to the end of an attempt, it is offered until it is written."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from jobtrail.task.task import Task
from support.host import Host
from support.tasks import GATE, hold, hold_and_write
from support.until import until
from support.world import Place

LEASE = 3

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid))"

STATES = (
    "0A000", "22023", "23514", "25006", "40001", "42501", "42703", "53100", "55006", "55P03", "57014", "57P03", "P0001",
    "XX000",
)  # fmt: skip

# A sequence counts what is rolled back too.
REFUSER = """
CREATE SEQUENCE refused;
CREATE FUNCTION refuse_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('public.refused') <= 3 THEN
        RAISE EXCEPTION 'refused by the test' USING ERRCODE = TG_ARGV[0];
    END IF;
    RETURN NEW;
END $$;
"""


@asynccontextmanager
async def running(place: Place, *, lent: bool = False, of: Task[..., str] = hold) -> AsyncIterator[tuple[Host, UUID]]:
    """A host, and a job of its that ends when the gate is opened."""
    GATE.clear()
    async with AsyncExitStack() as stack:
        engine = create_async_engine(place.url.sqlalchemy) if lent else None
        if engine is not None:
            stack.push_async_callback(engine.dispose)
        host = await stack.enter_async_context(Host.at(place, said={"lease": LEASE, "poll_every": 1}, engine=engine))
        stack.callback(GATE.set)
        job = await host.trail.submit(of)
        await until(lambda: place.value("SELECT true FROM jobtrail.jobs WHERE status = 'running'"))
        yield host, job.id


async def run(place: Place, job: UUID) -> list[tuple[str, int, str]]:
    rows = await place.rows("SELECT * FROM jobtrail.transitions WHERE job_id = $1 ORDER BY seq", job)
    return [(row["to_status"], row["attempt"], row["reason"]) for row in rows]


RAN_ONCE = [("pending", 0, "submitted"), ("running", 1, "claimed"), ("succeeded", 1, "succeeded")]


@pytest.mark.parametrize(
    ("table", "mode", "seconds", "lent"),
    [("jobs", "SHARE", 2, False), ("jobs", "SHARE", 2, True), ("transitions", "ACCESS EXCLUSIVE", 1, False)],
    ids=str,
)
async def test_a_locked_table_takes_no_success_away(
    place: Place, table: str, mode: str, seconds: float, lent: bool
) -> None:
    async with running(place, lent=lent) as (host, job):
        locking = await asyncpg.connect(place.scratch.url)
        async with locking.transaction():
            await locking.execute(f"LOCK TABLE jobtrail.{table} IN {mode} MODE")
            GATE.set()
            await until(lambda: place.value(WAITING, locking.get_server_pid()))
            await locking.execute("SELECT pg_sleep($1)", seconds)
        await locking.close()
        assert await host.trail.wait(job, timeout=15) == "released"
    assert await run(place, job) == RAN_ONCE


# A session on a server that became read-only is lost, and with it what was written.
OFFERED = [(hold if number % 2 else hold_and_write, state) for number, state in enumerate(STATES)]


@pytest.mark.parametrize(("of", "state"), OFFERED, ids=lambda said: getattr(said, "name", said))
async def test_an_end_that_was_refused_is_offered_again(place: Place, of: Task[..., str], state: str) -> None:
    await place.psql.execute("DROP TABLE IF EXISTS written; CREATE TABLE written (attempt int)")
    async with running(place, of=of) as (host, job):
        await place.psql.execute(REFUSER)
        await place.psql.execute(
            f"""CREATE TRIGGER refuse_end BEFORE UPDATE ON jobtrail.jobs FOR EACH ROW
                WHEN (OLD.status = 'running' AND NEW.status <> 'running') EXECUTE FUNCTION refuse_end('{state}')"""
        )
        try:
            GATE.set()
            assert await host.trail.wait(job, timeout=15) == "released"
        finally:
            times = await place.value("SELECT last_value FROM refused")
            await place.psql.execute("DROP TRIGGER refuse_end ON jobtrail.jobs; DROP FUNCTION refuse_end")
            await place.psql.execute("DROP SEQUENCE refused")
    assert times == 4
    assert await run(place, job) == RAN_ONCE
    assert await place.value("SELECT count(*) FROM written") == (of is hold_and_write)
    await place.psql.execute("DROP TABLE written")
