"""The world of a test: a PostgreSQL server, a migrated database on it, services there, and nodes that run its jobs."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from jobtrail.db import scratch
from jobtrail.db.embedded import EmbeddedPostgres
from jobtrail.db.engine import Database, is_pooled, open_database, open_single
from jobtrail.db.url import DatabaseUrl, normalize
from jobtrail.jobs.query import read
from jobtrail.jobs.rescue import rescue
from jobtrail.jobs.services import Services
from jobtrail.jobs.submit import submit
from jobtrail.records import Job
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from jobtrail.task.submission import Submission
from jobtrail.testing import ScratchDatabase, scratch_database
from jobtrail.testing.server import embedded_server
from jobtrail.worker.leases import LeaseConfig
from jobtrail.worker.maintenance import MaintenanceConfig
from jobtrail.worker.node import Node
from jobtrail.worker.worker import WorkerConfig
from support import tasks
from support.bouncer import through
from support.servers import system_binaries
from support.until import until

LEASE: Final = timedelta(seconds=2)


@contextmanager
def server(which: str) -> Iterator[EmbeddedPostgres]:
    """A server of its own; `which` is `system`, or else the embedded one. What is committed need not outlive the
    machine; it outlives the server.
    """
    binaries = system_binaries()[0] if which == "system" else None
    quick = {"fsync": "off", "full_page_writes": "off"}
    with embedded_server({"max_connections": "200", **quick}, binaries=binaries) as running:
        yield running


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


def services_at(place: Place) -> Services:
    return Services(place.database, Catalog.from_modules([tasks]))


@asynccontextmanager
async def node_at(
    services: Services,
    place: Place,
    *,
    grace: float = 5.0,
    connect: Callable[[], AsyncEngine] | None = None,
    **work: Any,
) -> AsyncIterator[Node]:
    """A running node; its clock is quicker than the default so that tests need not wait."""
    terms = {"lease": LEASE, "poll_every": timedelta(milliseconds=50), **work}
    node = Node(
        services,
        connect or partial(open_single, place.url.sqlalchemy),
        WorkerConfig(**terms),
        MaintenanceConfig(timedelta(seconds=0.2)),
        LeaseConfig(terms["lease"], timedelta(seconds=300)),
        version="test",
    )
    node.start()
    try:
        yield node
    finally:
        tasks.GATE.set()
        await node.stop(grace)
        tasks.GATE.clear()


async def submitted(services: Services, task: str, *, by: str = "ann", **wanted: Any) -> Job:
    options = {name: wanted.pop(name) for name in list(wanted) if name in Submission.model_fields and name != "args"}
    return (await submit(services, Submission(task=task, args=wanted, **options), by=by))[0]


async def ended(services: Services, job_id: UUID, *, within: float = 60) -> Job:
    async def job() -> Job | None:
        found = await read(services, job_id)
        return found if found.status.is_terminal else None

    return await until(job, within=within)


async def reached(services: Services, job_id: UUID, status: Status, *, within: float = 60) -> Job:
    async def job() -> Job | None:
        found = await read(services, job_id)
        return found if found.status is status else None

    return await until(job, within=within)


async def ran(services: Services, task: str, **wanted: Any) -> Job:
    """Submitted, and run to its end by a node that is there."""
    return await ended(services, (await submitted(services, task, **wanted)).id)


async def running(services: Services, task: str, **wanted: Any) -> Job:
    """Submitted, and begun by a node that is there."""
    return await reached(services, (await submitted(services, task, **wanted)).id, Status.RUNNING)


JUDGE: Final = UUID(int=1)

_SEAT = """
INSERT INTO jobtrail.nodes (id, host, pid, version, queues, tasks, slots, heartbeat_at, lease, steady_since)
VALUES ($1, 'judge', 1, 'test', '{}', '{}', '{}', 'infinity', $2, '-infinity')
ON CONFLICT (id) DO UPDATE SET lease = excluded.lease
"""


async def judge(place: Place, lease: timedelta = timedelta(0)) -> UUID:
    """A node that was never away, and so may rescue at once; after a start of PostgreSQL it waits for `lease`."""
    await place.psql.execute(_SEAT, JUDGE, lease)
    return JUDGE


@contextmanager
def rescuing(place: Place, node: UUID) -> Iterator[None]:
    """Somebody else rescues all the time, in a thread with a loop that no task blocks; `node` judges."""
    over = threading.Event()

    async def rescue_all() -> None:
        database = open_database(place.url.sqlalchemy)
        while not over.is_set():
            await rescue(database, node=node, by="another node")
            await asyncio.sleep(0.05)
        await database.dispose()

    thread = threading.Thread(target=asyncio.run, args=[rescue_all()])
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
