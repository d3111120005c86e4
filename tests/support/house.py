"""The parts of a process for tests: the services on a test database, and nodes that run its jobs."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from jobtrail.db.engine import open_single
from jobtrail.job.catalog import Catalog
from jobtrail.job.record import Job
from jobtrail.job.status import Status
from jobtrail.job.submission import Submission
from jobtrail.jobs.query import read
from jobtrail.jobs.services import Services
from jobtrail.jobs.submit import submit
from jobtrail.worker.leases import Terms
from jobtrail.worker.node import Node
from jobtrail.worker.periodic import Upkeep
from jobtrail.worker.worker import Work
from support import tasks
from support.database import Place
from support.until import until

LEASE = timedelta(seconds=2)


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
        Work(**terms),
        Upkeep(timedelta(seconds=0.2)),
        Terms(terms["lease"], timedelta(seconds=300)),
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
    return await submit(services, Submission(task=task, args=wanted, **options), by=by)


async def ended(services: Services, job_id: UUID, *, within: float = 10.0) -> Job:
    async def job() -> Job | None:
        found = await read(services, job_id)
        return found if found.status.is_terminal else None

    return await until(job, within=within)


async def reached(services: Services, job_id: UUID, status: Status, *, within: float = 10.0) -> Job:
    async def job() -> Job | None:
        found = await read(services, job_id)
        return found if found.status is status else None

    return await until(job, within=within)
