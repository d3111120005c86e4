"""Databases that tests make, empty and drop: no others, since each bears a mark that only its maker knows.

And what a test does to the clock of its jobs.
"""

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import TableClause, delete, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from jobtrail.db.engine import connect_once
from jobtrail.db.tables import metadata
from jobtrail.db.url import DatabaseUrl, normalize
from jobtrail.errors import SettingsError

PREFIX: Final = "jobtrail_test_"

LARGE: Final = 1024 * 1024
"""Bytes; below it rows are deleted, which takes a tenth of the time of a TRUNCATE, above it the files are cut."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """A database that was made here."""

    name: str
    url: DatabaseUrl
    mark: str = field(repr=False)


async def create(server: DatabaseUrl) -> Scratch:
    """An empty database beside the one that `server` names, whose user must be allowed to make databases."""
    name, mark = PREFIX + secrets.token_hex(6), f"made for tests: {secrets.token_hex(16)}"
    async with _connected(server) as connection:
        await connection.execute(text(f"CREATE DATABASE {name}"))
        await connection.execute(text(f"COMMENT ON DATABASE {name} IS '{mark}'"))
    return Scratch(name, beside(server, name), mark)


async def drop(server: DatabaseUrl, scratch: Scratch) -> None:
    """Connections to it are cut off."""
    async with _connected(server) as connection:
        await connection.execute(text(f"DROP DATABASE IF EXISTS {scratch.name} WITH (FORCE)"))


def beside(server: DatabaseUrl, name: str) -> DatabaseUrl:
    """The database `name` on the same server, for the same user."""
    login, _, rest = server.libpq.removeprefix("postgresql://").partition("/")
    _, mark, query = rest.partition("?")
    return normalize(f"postgresql://{login}/{name}{mark}{query}")


async def empty(session: AsyncSession, scratch: Scratch) -> None:
    """Every table of the schema, in the caller's transaction; it takes the owner of the tables, not a superuser.

    Raises SettingsError for a database that is not the one that was made.
    """
    if (await session.execute(_MARK)).scalar_one_or_none() != scratch.mark:
        raise SettingsError(f"the database is not {scratch.name} as it was made for tests: nothing of it is removed")
    # the feed goes on: its places are numbered, and something stands at one; nothing of what goes is derived from it.
    # First, as whoever derives does, who takes a cursor and then writes to the tables
    await session.execute(_PASS)
    tables: Sequence[TableClause] = [each for each in metadata.sorted_tables if not each.name.startswith("feed_")]
    # rows of a transaction that is still open would be there after all
    locked = ", ".join(table.fullname for table in tables)
    await session.execute(text(f"LOCK TABLE {locked} IN SHARE ROW EXCLUSIVE MODE"))
    sizes = " UNION ALL ".join(
        f"SELECT '{table.name}' AS name, pg_relation_size('{table.fullname}') AS size"
        f" WHERE EXISTS (SELECT FROM {table.fullname})"
        for table in tables
    )
    filled = {row.name: row.size for row in await session.execute(text(sizes))}
    for table in tables:
        if table.name in filled:
            # the guards refuse this to everybody who does not switch them off
            await session.execute(text(f"ALTER TABLE {table.fullname} DISABLE TRIGGER USER"))
            large = filled[table.name] > LARGE
            await session.execute(text(f"TRUNCATE {table.fullname}") if large else delete(table))
            await session.execute(text(f"ALTER TABLE {table.fullname} ENABLE TRIGGER USER"))


class Unsettled(NamedTuple):
    """A job that runs, or is to run without anybody waiting: it is due, or was tried already. `age` since it was
    started, or due.
    """

    id: UUID
    task: str
    queue: str
    status: str
    attempt: int
    age: timedelta


async def unsettled(session: AsyncSession) -> Sequence[Unsettled]:
    """Oldest first. What is paused, or due later, is not among them."""
    return [Unsettled(*row) for row in await session.execute(_UNSETTLED)]


async def waiting(session: AsyncSession) -> Sequence[UUID]:
    """The pending jobs whose time has not come."""
    return (await session.execute(_WAITING)).scalars().all()


async def hasten(session: AsyncSession, ids: Sequence[UUID] = ()) -> bool:
    """Make these pending jobs due now, and those that were tried already; whether there was any."""
    return bool((await session.execute(_HASTEN, {"ids": list(ids)})).all())


@asynccontextmanager
async def _connected(server: DatabaseUrl) -> AsyncIterator[AsyncConnection]:
    engine = connect_once(server.sqlalchemy, isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()


_MARK: Final = text("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()")

_PASS: Final = text("UPDATE jobtrail.feed_cursors SET no = (SELECT max(no) FROM jobtrail.feed_marks)")

_UNSETTLED: Final = text("""
SELECT id, task, queue, status, attempt, clock_timestamp() - coalesce(started_at, run_at, due_at)
  FROM jobtrail.jobs
 WHERE status = 'running'
    OR (status = 'pending' AND NOT waits AND (coalesce(run_at, due_at) <= statement_timestamp() OR attempt > 0)
        AND NOT EXISTS (SELECT FROM jobtrail.limits WHERE key = ANY(limit_keys) AND override = 0)
        AND queue NOT IN (SELECT name FROM jobtrail.pauses WHERE kind = 'queue')
        AND task NOT IN (SELECT name FROM jobtrail.pauses WHERE kind = 'task'))
 ORDER BY created_at, id
""")

_WAITING: Final = text("""
SELECT id FROM jobtrail.jobs WHERE status = 'pending' AND coalesce(run_at, due_at) > statement_timestamp()
""")

_HASTEN: Final = text("""
UPDATE jobtrail.jobs SET run_at = statement_timestamp()
 WHERE status = 'pending' AND coalesce(run_at, due_at) > statement_timestamp()
   AND (attempt > 0 OR id = ANY(CAST(:ids AS uuid[])))
RETURNING id
""")
