"""A migrated database of one's own."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from jobtrail.job.database_url import DatabaseUrl, normalize
from jobtrail.store.embedded import EmbeddedPostgres
from jobtrail.store.engine import Database, open_database
from jobtrail.store.schema import migrate

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Place:
    """A database and a plain connection to it, for what an auditor or an intruder would do."""

    url: DatabaseUrl
    database: Database
    psql: asyncpg.Connection

    async def rows(self, query: str, *args: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in await self.psql.fetch(query, *args)]

    async def value(self, query: str, *args: Any) -> Any:
        return await self.psql.fetchval(query, *args)

    async def empty(self) -> None:
        """As if new. The guards refuse this to everybody who does not switch them off."""
        async with self.psql.transaction():
            await self.psql.execute("SET LOCAL session_replication_role = replica")
            await self.psql.execute("""TRUNCATE jobtrail.jobs, jobtrail.transitions, jobtrail.nodes,
                jobtrail.log_lines, jobtrail.pauses""")


def url_of(server: EmbeddedPostgres, name: str) -> str:
    return server.url.replace("/jobtrail?", f"/{name}?", 1)


async def create(server: EmbeddedPostgres) -> str:
    """An empty database; its libpq URL."""
    name = f"test_{next(_numbers)}"
    connection = await asyncpg.connect(server.url)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    return url_of(server, name)


@asynccontextmanager
async def migrated(server: EmbeddedPostgres) -> AsyncIterator[Place]:
    url = normalize(await create(server))
    await migrate(url.sqlalchemy)
    database = open_database(url.sqlalchemy)
    connection = await asyncpg.connect(url.libpq)
    try:
        yield Place(url, database, connection)
    finally:
        await connection.close()
        await database.dispose()


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)
