"""A migrated database of one's own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from jobtrail.db import scratch
from jobtrail.db.connecting import is_pooled
from jobtrail.db.embedded import EmbeddedPostgres
from jobtrail.db.engine import Database, open_database
from jobtrail.job.database_url import DatabaseUrl, normalize
from jobtrail.testing import ScratchDatabase, scratch_database
from support.bouncer import through


@dataclass(frozen=True)
class Place:
    """A database and a plain connection to it, for what an auditor or an intruder would do."""

    url: DatabaseUrl
    database: Database
    psql: asyncpg.Connection
    scratch: ScratchDatabase

    @property
    def setting(self) -> str:
        """As JOBTRAIL_DATABASE_URL names it."""
        return self.url.libpq + "?pgbouncer=true" * is_pooled(self.url.sqlalchemy)

    async def rows(self, query: str, *args: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in await self.psql.fetch(query, *args)]

    async def value(self, query: str, *args: Any) -> Any:
        return await self.psql.fetchval(query, *args)

    async def empty(self) -> None:
        """As if new. This loop goes on meanwhile: what the test before left may still have a transaction to end."""
        await asyncio.to_thread(self.scratch.empty)


async def create(server: EmbeddedPostgres) -> str:
    """An empty database; its libpq URL."""
    return (await scratch.create(normalize(server.url))).url.libpq


@asynccontextmanager
async def migrated(server: EmbeddedPostgres, bouncer: str | None = None) -> AsyncIterator[Place]:
    """`bouncer`, a host and port, is between all but the plain connection."""
    with scratch_database(server.url) as made:
        url = normalize(made.url if bouncer is None else through(bouncer, made.url))
        database, connection = open_database(url.sqlalchemy), await asyncpg.connect(made.url)
        try:
            yield Place(url, database, connection, made)
        finally:
            await connection.close()
            await database.dispose()
