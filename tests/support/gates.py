"""Places in the database where the end of a job can be held up."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import Enum

from support.world import Place

_KEY = 7


class Gate(Enum):
    """In the statement that ends the job, or in its COMMIT."""

    FINISH = "CREATE TRIGGER gate BEFORE UPDATE"
    COMMIT = "CREATE CONSTRAINT TRIGGER gate AFTER UPDATE"


@asynccontextmanager
async def gate(place: Place, where: Gate) -> AsyncIterator[Callable[[], Awaitable[int | None]]]:
    """Closed inside; what it gives asks for the pid of the backend that waits there."""
    deferred = "DEFERRABLE INITIALLY DEFERRED" if where is Gate.COMMIT else ""
    await place.psql.execute(
        f"""CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_advisory_xact_lock({_KEY}); RETURN NEW; END $$;
            {where.value} ON jobtrail.jobs {deferred} FOR EACH ROW
            WHEN (NEW.status = 'succeeded') EXECUTE FUNCTION gate();
            SELECT pg_advisory_lock({_KEY})"""
    )

    async def waits() -> int | None:
        pid: int | None = await place.value(
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            _KEY,
        )
        return pid

    try:
        yield waits
    finally:
        await place.psql.execute(f"SELECT pg_advisory_unlock({_KEY})")
        await place.psql.execute("DROP TRIGGER gate ON jobtrail.jobs; DROP FUNCTION gate()")
