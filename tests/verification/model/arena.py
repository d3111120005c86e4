"""Two who want something of one job: the first is held in its COMMIT, with all its locks, while the second tries."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import event

from jobtrail.db.engine import Database, open_database
from jobtrail.jobs.services import Services
from jobtrail.task.catalog import Catalog
from model import found
from model.verbs import STARTS, VERBS
from support import tasks
from support.until import until
from support.world import Place, judge

_KEY: Final = 11

_HOLD: Final = f"""
DROP TABLE IF EXISTS effects;
CREATE TABLE effects (job uuid NOT NULL, attempt int NOT NULL);
CREATE SCHEMA race;
CREATE TABLE race.undone (sure bool);
CREATE SEQUENCE race.tries;
CREATE FUNCTION race.hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('race.held', true) = 'on' THEN
        PERFORM pg_advisory_xact_lock({_KEY});
        IF EXISTS (SELECT FROM race.undone) AND nextval('race.tries') = 1 THEN
            RAISE EXCEPTION 'undone' USING ERRCODE = 'data_exception';
        END IF;
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER hold AFTER INSERT OR UPDATE OR DELETE ON jobtrail.jobs
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION race.hold()
"""

_DROP: Final = "DROP SCHEMA race CASCADE; DROP TABLE effects"

_CLEAR: Final = """
SET LOCAL session_replication_role = replica;
DELETE FROM jobtrail.jobs; DELETE FROM jobtrail.transitions; DELETE FROM effects; DELETE FROM race.undone
"""

_KEEP: Final = """
CREATE TABLE race.jobs_{0} AS TABLE jobtrail.jobs; CREATE TABLE race.transitions_{0} AS TABLE jobtrail.transitions
"""

_BEGIN: Final = (
    _CLEAR
    + """;
INSERT INTO jobtrail.jobs TABLE race.jobs_{0}; INSERT INTO jobtrail.transitions TABLE race.transitions_{0}
"""
)

_HELD: Final = f"""
SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = {_KEY} AND NOT granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_WAITS: Final = """
SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND $1::int = ANY(pg_blocking_pids(pid))
"""

PATIENCE: Final = 0.02
"""Seconds that the second waits for a lock, where it does not wait for ever."""


class How(Enum):
    """What becomes of the first: it commits as soon as the second waits, or after that one's patience, or its COMMIT is
    refused, once.
    """

    COMMITS = "commits"
    COMMITS_LATE = "commits late"
    IS_UNDONE = "is undone"


@dataclass(frozen=True)
class Told:
    """What each was answered, and what is there afterwards: rows without their ids, histories, the count of effects."""

    answers: Sequence[Any]
    there: Any


@dataclass(frozen=True)
class Arena:
    place: Place
    first: Services
    second: Services
    known: dict[tuple[str, ...], Told] = field(default_factory=dict)

    async def one_by_one(self, at: str, *names: str) -> Told:
        """Without anything at the same time."""
        asked = (at, *names)
        if asked not in self.known:
            job_id = await self._begin(at)
            answers = [await _answer(self.second, name, job_id) for name in names]
            self.known[asked] = Told(answers, await self._there())
        return self.known[asked]

    async def at_once(self, at: str, first: str, second: str, how: How) -> tuple[Told, bool]:
        """What came of it; and whether the second had to wait."""
        job_id = await self._begin(at)
        if how is How.IS_UNDONE:
            await self.place.psql.execute("ALTER SEQUENCE race.tries RESTART; INSERT INTO race.undone VALUES (true)")
        await self.place.psql.execute(f"SELECT pg_advisory_lock({_KEY})")
        try:
            one = asyncio.create_task(_answer(self.first, first, job_id))
            holder = await until(lambda: self.place.value(_HELD), every=0.001)
            other = asyncio.create_task(_answer(self.second, second, job_id))
            waiting = await self._waiting(other, holder)
            if how is How.COMMITS_LATE:
                await self._loses_patience(other, holder, waiting)
            assert not one.done()
        finally:
            await self.place.psql.execute(f"SELECT pg_advisory_unlock({_KEY})")
        return Told([await one, await other], await self._there()), bool(waiting)

    async def and_again(self, name: str) -> Any:
        """What is there once it has had another turn."""
        job_id = await self.place.value("SELECT id FROM jobtrail.jobs")
        await _answer(self.second, name, job_id or UUID(int=0))
        return await self._there()

    async def prepare(self) -> None:
        for at, begin in STARTS.items():
            await self._execute(_CLEAR)
            await begin(self.second)
            await self.place.psql.execute(_KEEP.format(_named(at)))

    async def _begin(self, at: str) -> UUID:
        await self._execute(_BEGIN.format(_named(at)))
        return await self.place.value("SELECT id FROM jobtrail.jobs") or UUID(int=0)

    async def _execute(self, statements: str) -> None:
        async with self.place.psql.transaction():
            await self.place.psql.execute(statements)

    async def _waiting(self, other: "asyncio.Task[Any]", holder: int) -> list[int]:
        """The backend in which it waits for the first one; empty when it has ended without that."""

        async def found_out() -> list[list[int]]:
            pids = [row["pid"] for row in await self.place.rows(_WAITS, holder)]
            return [pids] if pids or other.done() else []

        return (await until(found_out, every=0.001))[0]

    async def _loses_patience(self, other: "asyncio.Task[Any]", holder: int, waiting: list[int]) -> None:
        """Until it has ended, or waits in another place, or has waited for so long that it will wait for ever."""
        with suppress(TimeoutError):
            async with asyncio.timeout(4 * PATIENCE):
                while await self._waiting(other, holder) == waiting != []:
                    await asyncio.sleep(0.001)

    async def _there(self) -> Any:
        rows, histories = await found.rows(self.place), await found.histories(self.place)
        assert all(found.is_lawful(history) for history in histories.values())
        assert all(histories[job_id][-1].after == row["status"] for job_id, row in rows.items())
        for row in rows.values():
            del row["id"]
        effects = await self.place.value("SELECT count(*) FROM effects")
        return [(rows.get(job_id), history) for job_id, history in sorted(histories.items())], effects


async def _answer(services: Services, name: str, job_id: UUID) -> Any:
    try:
        return await VERBS[name].act(services, job_id)
    except Exception as error:  # noqa: BLE001 - which it may be is said where the answers are compared
        return type(error).__name__


def _named(at: str) -> str:
    return at.replace(" ", "_")


@asynccontextmanager
async def arena(place: Place) -> AsyncIterator[Arena]:
    await judge(place)
    await place.psql.execute(_HOLD)
    held = _opened(place, "race.held = on", "lock_timeout = '20s'")
    hasty = _opened(place, f"lock_timeout = '{int(PATIENCE * 1000)}ms'")
    try:
        made = Arena(place, *(Services(each, Catalog.from_modules([tasks])) for each in (held, hasty)))
        await made.prepare()
        yield made
    finally:
        for each in (held, hasty):
            await each.dispose()
        await place.psql.execute(_DROP)


def _opened(place: Place, *said: str) -> Database:
    """Its connections are told so; those of job sessions whenever they are taken, since they forget it."""
    database = open_database(place.url.sqlalchemy)
    statement = "; ".join(f"SET {each}" for each in said)

    def tell(connection: Any, *_: Any) -> None:
        connection.run_async(lambda driver: driver.execute(statement))

    for engine in database.own:
        event.listen(engine.sync_engine, "checkout" if engine is database.jobs else "connect", tell)
    return database
