"""What hinders the fleet within a database that is there: locks on tables, ends that are refused, a right that is taken
away, connections that are refused. Each leaves a note in its world, once it has hindered somebody.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg

from chaos.wire import Wire
from chaos.world import World
from support.until import until

ROLE: Final = "app"
"""Whom the fleet comes as: it owns no table, so a right can be taken from it."""

RIGHTS = f"""
CREATE ROLE {ROLE} LOGIN;
GRANT USAGE ON SCHEMA jobtrail TO {ROLE};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA jobtrail TO {ROLE};
GRANT USAGE ON ALL SEQUENCES IN SCHEMA jobtrail TO {ROLE};
GRANT INSERT ON inside TO {ROLE};
"""

# A sequence counts what is rolled back too.
REFUSER = """
CREATE TABLE said_to_ends (state text);
CREATE SEQUENCE ends_refused;
CREATE FUNCTION refuse_end() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
DECLARE
    said text;
BEGIN
    SELECT state INTO said FROM said_to_ends;
    IF FOUND THEN
        PERFORM nextval('ends_refused');
        RAISE EXCEPTION 'refused by the suite' USING ERRCODE = said;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse_end BEFORE UPDATE ON jobtrail.jobs FOR EACH ROW
    WHEN (OLD.status = 'running' AND NEW.status <> 'running') EXECUTE FUNCTION refuse_end();

CREATE FUNCTION slowly(id uuid) RETURNS uuid LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    PERFORM pg_sleep(current_setting('chaos.pause')::float);
    RETURN id;
END $$;
"""

REFUSED = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM ends_refused"

WAITING = """
SELECT pid FROM pg_stat_activity WHERE application_name = 'jobtrail' AND $1 = ANY(pg_blocking_pids(pid))
"""

LONGEST = 20.0
"""Seconds until somebody is hindered, on a machine that is busy."""


async def prepare(world: World) -> None:
    """Before the fleet is there."""
    await world.execute(RIGHTS)
    await world.execute(REFUSER)


async def lock(world: World, table: str, mode: str, seconds: float) -> None:
    """As `LOCK TABLE` does in psql, and so does much of what changes a table."""
    async with _connected(world) as locking, locking.transaction():
        await locking.execute(f"LOCK TABLE jobtrail.{table} IN {mode} MODE")
        waited, held = await _held(world, locking, seconds)
    _note(world, f"{table} locked: {mode}", waited, held)


async def make_index(world: World, seconds: float) -> None:
    """An index that takes as long to be made; it is not kept, since everybody would be slow by it."""
    async with _connected(world) as making:
        transaction = making.transaction()
        await transaction.start()
        rows = await making.fetchval("SELECT greatest(count(*), 1) FROM jobtrail.jobs")
        await making.execute(f"SET LOCAL chaos.pause = {seconds / rows}")
        index = asyncio.ensure_future(making.execute("CREATE INDEX ON jobtrail.jobs (public.slowly(id))"))
        waited, held = await _held(world, making, seconds, index)
        await transaction.rollback()
    _note(world, "CREATE INDEX on jobs", waited, held)


async def alter(world: World, seconds: float) -> None:
    """A change of the table waits behind somebody who reads, and everybody behind the change."""
    async with _connected(world) as reading, _connected(world) as altering:
        read = reading.transaction()
        await read.start()
        await reading.fetchval("SELECT count(*) FROM jobtrail.jobs")
        change = "ALTER TABLE jobtrail.jobs ADD CONSTRAINT chaos CHECK (attempt >= 0) NOT VALID"
        changing = asyncio.ensure_future(altering.execute(change))
        waited, held = await _held(world, altering, seconds)
        assert not changing.done(), "the change did not wait"
        await read.rollback()
        await changing
        await altering.execute("ALTER TABLE jobtrail.jobs DROP CONSTRAINT chaos")
    _note(world, "ALTER of jobs behind an open read", waited, held)


async def refuse_ends(world: World, state: str, seconds: float) -> None:
    """Whatever ends an attempt fails with this SQLSTATE."""
    before, began = await world.value(REFUSED), time.monotonic()

    async def refused() -> int:
        return int(await world.value(REFUSED)) - before

    await world.execute("INSERT INTO said_to_ends VALUES ($1)", state)
    await until(refused, within=LONGEST)
    await asyncio.sleep(began + seconds - time.monotonic())
    await world.execute("DELETE FROM said_to_ends")
    took = time.monotonic() - began
    world.note(f"ends refused: {state}", f"{await refused()} times in {took:.2f} s")


async def revoke_update(world: World, seconds: float) -> None:
    """Nobody of the fleet may change a job: no claim, no renewal, no end."""
    before, began = _denied(world), time.monotonic()

    async def denied() -> int:
        return _denied(world) - before

    await world.execute(f"REVOKE UPDATE ON jobtrail.jobs FROM {ROLE}")
    await until(denied, within=LONGEST)
    await asyncio.sleep(began + seconds - time.monotonic())
    await world.execute(f"GRANT UPDATE ON jobtrail.jobs TO {ROLE}")
    took = time.monotonic() - began
    world.note("UPDATE on jobs revoked", f"PostgreSQL's log: permission denied, {await denied()} times in {took:.2f} s")


async def refuse_connections(world: World, wire: Wire, state: str, seconds: float) -> None:
    """As when a password is rotated and the backends are ended: whoever comes again is refused with this SQLSTATE."""
    began = time.monotonic()
    async with wire.refusing(state) as refused:
        ended = await world.value(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = $1", ROLE
        )

        async def somebody() -> bool:
            return bool(refused())

        await until(somebody, within=LONGEST)
        await asyncio.sleep(began + seconds - time.monotonic())
        took, times = time.monotonic() - began, refused()
    assert ended, "there was no backend to end"
    world.note(f"connections refused: {state}", f"{ended} backends ended, {times} times refused in {took:.2f} s")


@asynccontextmanager
async def _connected(world: World) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(world.url.libpq)
    try:
        yield connection
    finally:
        connection.terminate()


async def _held(
    world: World, by: asyncpg.Connection, seconds: float, until_done: asyncio.Future[Any] | None = None
) -> tuple[int, float]:
    """How many of the fleet's backends waited for that one, and for how many seconds there was something to wait for:
    so many at least, until somebody did, and until that is done.
    """
    pid, waited, began = by.get_server_pid(), set(), time.monotonic()
    while (held := time.monotonic() - began) < LONGEST:
        waited |= {row["pid"] for row in await world.rows(WAITING, pid)}
        if held >= seconds and waited and (until_done is None or until_done.done()):
            break
        await asyncio.sleep(0.05)
    return len(waited), held


def _note(world: World, what: str, waited: int, held: float) -> None:
    assert waited, f"nobody waited for it: {what}"
    world.note(what, f"for {held:.2f} s; {waited} backends of the fleet waited")


def _denied(world: World) -> int:
    return Path(world.server.log_file).read_text(errors="replace").count("permission denied for table jobs")
