"""The three pools of a process: for grouped single statements, for transactions, and for the job sessions of tasks.

Nothing is built at import.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from jobtrail.job.storable import dump
from jobtrail.store.job_connection import watch

GROUPS: Final = 8
"""Connections for single statements: inserts, both claims, ends, cancels, progress, lines and the watch."""


@dataclass(frozen=True)
class Database:
    """`grouped` runs each statement as its own transaction, in one round trip: AUTOCOMMIT and no ping before use,
    so its callers repeat a statement that met a dead connection. `sessions` pings first and commits when told.
    `jobs` is for job sessions, which tasks may hold for minutes: they wait for each other, and nobody else for them.
    """

    grouped: AsyncEngine
    engine: AsyncEngine
    sessions: async_sessionmaker[AsyncSession]
    jobs: AsyncEngine

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[AsyncConnection]:
        async with self.grouped.connect() as connection:
            yield connection

    async def dispose(self) -> None:
        """Close what is open; a server that does not answer a goodbye is left without one."""
        for engine in (self.grouped, self.engine, self.jobs):
            with suppress(TimeoutError):
                await asyncio.wait_for(engine.dispose(), 3)


GROUP_LOCK_TIMEOUT: Final = 0.5
"""Seconds; short, since a row that somebody locked must not hold up the others of its group."""

LOCK_TIMEOUT: Final = 3.0
"""Seconds that a transaction waits for a row; then its caller is told to try again."""


def open_database(url: str, *, pool_size: int = 5, connect_timeout: float = 10) -> Database:
    """The pools for a `postgresql+asyncpg://` URL; connections are made when first used, in `connect_timeout` s.

    `pool_size` counts for transactions and for job sessions, each.
    """
    shared: dict[str, Any] = {"json_serializer": dump, "pool_timeout": 10, "max_overflow": 0}
    grouped = create_async_engine(
        url,
        isolation_level="AUTOCOMMIT",
        pool_size=GROUPS,
        connect_args=_connect_args(connect_timeout, GROUP_LOCK_TIMEOUT),
        **shared,
    )
    pinged: dict[str, Any] = {
        **shared,
        "pool_pre_ping": True,
        "pool_size": pool_size,
        "connect_args": _connect_args(connect_timeout, LOCK_TIMEOUT),
    }
    engine = create_async_engine(url, **pinged)
    # Whatever the database's default is: above READ COMMITTED a renewal of the lease would fail the end of the job.
    jobs = create_async_engine(url, **{**pinged, "pool_timeout": None}, isolation_level="READ COMMITTED")
    watch(jobs)
    return Database(grouped, engine, async_sessionmaker(engine, expire_on_commit=False), jobs)


def open_single(url: str) -> AsyncEngine:
    """One connection, kept, for a thread with a loop of its own; each statement is its own transaction."""
    return create_async_engine(
        url,
        isolation_level="AUTOCOMMIT",
        pool_pre_ping=True,
        pool_size=1,
        max_overflow=0,
        connect_args=_connect_args(10, GROUP_LOCK_TIMEOUT),
    )


def _connect_args(connect_timeout: float, lock_timeout: float) -> dict[str, Any]:
    settings = {"application_name": "jobtrail", "lock_timeout": f"{int(lock_timeout * 1000)}ms"}
    return {"timeout": connect_timeout, "server_settings": settings}
