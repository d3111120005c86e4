"""A node for as long as there is work: due jobs, what they submit, and their further attempts."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

from jobtrail.db import scratch
from jobtrail.db.engine import open_single
from jobtrail.db.scratch import Unsettled
from jobtrail.embed.opened import Opened
from jobtrail.job.errors import UnknownTaskError
from jobtrail.job.record import Job
from jobtrail.job.status import Status
from jobtrail.jobs.query import Filter, Page, read_page
from jobtrail.jobs.services import Services
from jobtrail.testing.database import ScratchDatabase
from jobtrail.wiring import build_node
from jobtrail.worker.node import Node

_PLACES: Final = {
    "slots": 32,
    "threads": 8,
    "processes": 2,
    "queues": (),
    "poll_every": timedelta(milliseconds=50),
    "purge_every": timedelta(days=1),
}

_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.05

_LAST_WORDS: Final = 1.0
"""Seconds that what has ended in the row may still take to leave its place."""

_AT_ONCE: Final = 200

_ENDED: Final = Filter(status=[status for status in Status if status.is_terminal])


@dataclass(frozen=True, slots=True)
class Wanted:
    """`within` seconds; `later`: also what is due later by now."""

    within: float
    later: bool


async def run(opened: Opened, database: ScratchDatabase, wanted: Wanted) -> list[Job]:
    """The jobs that ended meanwhile, oldest first; in the loop of `opened`, where the host's own engine is at home.

    Raises TimeoutError, which says what every job does that has not ended, and UnknownTaskError.
    """
    before = {(job.id, job.seq) for job in await ended(opened.services)}
    async with opened.services.transaction() as session:
        await scratch.hasten(session, await scratch.waiting(session) if wanted.later else ())
    if await _left(opened.services):
        await _settle(opened, database, wanted.within)
    return [job for job in await ended(opened.services) if (job.id, job.seq) not in before]


async def ended(services: Services) -> list[Job]:
    """Oldest first."""
    return await jobs_of(services, _ENDED)


async def jobs_of(services: Services, wanted: Filter) -> list[Job]:
    """All of them, oldest first."""
    page = await read_page(services, Page(_AT_ONCE, heavy=True, filter=wanted))
    found = list(page.jobs)
    while page.following is not None:
        page = await read_page(services, Page(_AT_ONCE, page.following, heavy=True, filter=wanted))
        found += page.jobs
    return found[::-1]


async def _settle(opened: Opened, database: ScratchDatabase, within: float) -> None:
    settings = opened.settings.model_copy(update=_PLACES)
    node = build_node(settings, opened.services, partial(open_single, database.sqlalchemy_url, settings.schema))
    node.start()
    grace = 0.0
    try:
        async with asyncio.timeout(within):
            await _until_settled(opened.services, node)
        grace = _LAST_WORDS
    except TimeoutError:
        left = "\n".join(map(_line, await _left(opened.services)))
        raise TimeoutError(f"not everything has ended within {within:g} s:\n{left}") from None
    finally:
        await node.stop(grace)


async def _until_settled(services: Services, node: Node) -> None:
    pause = _FIRST_PAUSE
    while True:
        async with services.transaction() as session:
            if await scratch.hasten(session):
                node.worker.claim_loop.wake()
        if not await _left(services):
            return
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


async def _left(services: Services) -> Sequence[Unsettled]:
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
    what = f"  job {job.id} of {job.task!r} has been {job.status} for {job.age.total_seconds():.1f} s"
    return f"{what}, in attempt {job.attempt}" if job.status == Status.RUNNING else f"{what}, in queue {job.queue!r}"
