"""What a scenario has for itself: a folder, a PostgreSQL server, a migrated database, tables for effects, a ledger."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, Self
from uuid import UUID

import asyncpg
import psutil

from chaos.client import Ledger
from chaos.process import Nursery
from jobtrail.db.embedded import EmbeddedPostgres
from jobtrail.db.migrate import migrate
from jobtrail.db.url import DatabaseUrl, normalize
from jobtrail.testing.server import embedded_server
from support.embedded import postmaster_of, servers_in
from support.servers import reachable_folder

POSTGRES = {"max_connections": "200"}
"""Its durability is PostgreSQL's own."""

EFFECTS = """
CREATE TABLE inside (job uuid, attempt int, token text, at timestamptz DEFAULT clock_timestamp());
CREATE TABLE outside (job uuid, attempt int, token text, at timestamptz DEFAULT clock_timestamp());
CREATE TABLE steps (job uuid, attempt int, step int);
"""

_BROKEN = (OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError)


class Fault(NamedTuple):
    """`at` in seconds since the world began."""

    what: str
    at: float
    proof: str


@dataclass
class World:
    """`random` is the seed's. Where there is a `nursery`, processes come from it. `groups` are the process groups that
    were started here, `left` what remained of them and of PostgreSQL at the end. `silences`: which node was killed or
    stopped, and when, in seconds since 1970.
    """

    folder: Path
    server: EmbeddedPostgres
    random: Random
    ledger: Ledger
    nursery: Nursery | None
    faults: list[Fault] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    silences: list[tuple[UUID, float]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    _connection: asyncpg.Connection | None = None

    @classmethod
    @asynccontextmanager
    async def made(cls, seed: int, nursery: Nursery | None) -> AsyncIterator[Self]:
        async with AsyncExitStack() as stack:
            folder = stack.enter_context(reachable_folder())
            serving = embedded_server(POSTGRES)
            server = await asyncio.to_thread(serving.__enter__)
            stack.push_async_callback(asyncio.to_thread, serving.__exit__, None, None, None)
            ledger = stack.enter_context(Ledger(folder / "ledger.jsonl"))
            world = cls(folder, server, Random(seed), ledger, nursery)  # noqa: S311 - it guards nothing
            stack.push_async_callback(world._close)
            await migrate(world.url.sqlalchemy)
            await world.execute(EFFECTS)
            yield world
        # by now the server has ended too
        world.left += [each.pid for each in servers_in(server.folder)]

    @property
    def url(self) -> DatabaseUrl:
        return normalize(self.server.url)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began

    def note(self, what: str, proof: str) -> None:
        """A fault that happened, and how that is known."""
        self.faults.append(Fault(what, self.elapsed, proof))

    async def rows(self, query: str, *args: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in await self._ask("fetch", query, *args)]

    async def value(self, query: str, *args: Any) -> Any:
        return await self._ask("fetchval", query, *args)

    async def execute(self, query: str, *args: Any) -> Any:
        return await self._ask("execute", query, *args)

    async def connection(self) -> asyncpg.Connection:
        """Straight to the server, around every proxy; a new one when the last was cut."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(self.url.libpq)
        return self._connection

    async def settled(self, within: float) -> bool:
        """Wait until no job is unfinished; False when some are after `within` seconds."""
        end = time.monotonic() + within
        while await self.value("SELECT count(*) FROM jobtrail.jobs WHERE status IN ('pending', 'running')"):
            if time.monotonic() > end:
                return False
            await asyncio.sleep(0.1)
        return True

    async def _ask(self, how: str, query: str, *args: Any) -> Any:
        """Again for a minute while the server is away, as it may be by a fault."""
        end = time.monotonic() + 60
        while True:
            try:
                return await getattr(await self.connection(), how)(query, *args)
            except _BROKEN:
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(0.05)

    async def _close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
        # nobody reads it again, so it need not write down what it has in memory
        with suppress(FileNotFoundError, psutil.NoSuchProcess):
            postmaster = postmaster_of(self.server.folder)
            postmaster.send_signal(signal.SIGQUIT)
            await asyncio.to_thread(postmaster.wait, 30)  # else whoever stops it finds it half gone
        self.left += [group for group in self.groups if _is_there(group)]


def _is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
