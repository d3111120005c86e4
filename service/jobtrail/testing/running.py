"""A node for as long as there is work: due jobs, what they submit, and their further attempts."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from jobtrail.db import scratch
from jobtrail.db.engine import open_single
from jobtrail.db.scratch import Unsettled
from jobtrail.embed.opened import Opened
from jobtrail.errors import UnknownTaskError
from jobtrail.jobs.query import Filter, Page, read_page
from jobtrail.jobs.services import Services
from jobtrail.records import Job
from jobtrail.status import Status
from jobtrail.testing.database import ScratchDatabase
from jobtrail.wiring import build_node

_SETTINGS: Final = {
    "slots": 32,
    "threads": 8,
    "processes": 2,
    "queues": (),
    "poll_every": timedelta(milliseconds=50),
    "purge_every": timedelta(days=1),
}

_PAUSE: Final = 0.01
"""Seconds between two looks at what is left."""

_LAST_WORDS: Final = 1.0
"""Seconds in which what has ended in its row may still leave its thread or process."""

_AT_ONCE: Final = 200

_ENDED: Final = Filter(status=[status for status in Status if status.is_terminal])


async def run(opened: Opened, database: ScratchDatabase, *, within: float, later: bool) -> list[Job]:
    """The jobs that ended meanwhile, oldest first. It runs in the loop of `opened`, where the host's engine is at home.

    Raises TimeoutError, which lists the jobs that have not ended, and UnknownTaskError.
    """
    services = opened.services
    before = {(job.id, job.seq) for job in await jobs_of(services, _ENDED)}
    async with services.transaction() as session:
        await scratch.hasten(session, await scratch.waiting(session) if later else ())
    if await _unsettled(services):
        await _settle(opened, database, within)
    return [job for job in await jobs_of(services, _ENDED) if (job.id, job.seq) not in before]


async def jobs_of(services: Services, wanted: Filter) -> list[Job]:
    """All of them, oldest first."""
    page = await read_page(services, Page(_AT_ONCE, heavy=True, filter=wanted))
    found = list(page.jobs)
    while page.following is not None:
        page = await read_page(services, Page(_AT_ONCE, page.following, heavy=True, filter=wanted))
        found += page.jobs
    return found[::-1]


async def _settle(opened: Opened, database: ScratchDatabase, within: float) -> None:
    services, settings = opened.services, opened.settings.model_copy(update=_SETTINGS)
    node = build_node(settings, services, partial(open_single, database.sqlalchemy_url, settings.schema))
    node.start()
    grace = 0.0
    try:
        async with asyncio.timeout(within):
            while await _unsettled(services):
                async with services.transaction() as session:
                    if await scratch.hasten(session):
                        node.worker.claim_loop.wake()
                await asyncio.sleep(_PAUSE)
        grace = _LAST_WORDS
    except TimeoutError:
        left = "\n".join(map(_line, await _unsettled(services)))
        raise TimeoutError(f"not everything has ended within {within:g} s:\n{left}") from None
    finally:
        await node.stop(grace)


async def _unsettled(services: Services) -> Sequence[Unsettled]:
    """Raises UnknownTaskError for a job that this process could not run."""
    async with services.session() as session:
        left = await scratch.unsettled(session)
    for each in left:
        try:
            _ = services.catalog[each.task]
        except UnknownTaskError as error:
            error.add_note(f"job {each.id} is of that task: import its module, or name it in Jobtrail(tasks=[…])")
            raise
    return left


def _line(job: Unsettled) -> str:
    where = f"attempt {job.attempt}" if job.status == Status.RUNNING else f"queue {job.queue!r}"
    return f"  job {job.id} of {job.task!r} has been {job.status} for {job.age.total_seconds():.1f} s, in {where}"
