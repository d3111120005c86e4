"""Looking at jobs without moving them."""

from collections.abc import Sequence
from uuid import UUID

from jobtrail.job.errors import JobNotFoundError
from jobtrail.job.record import Job, LogLine, NodeRecord, Transition
from jobtrail.lifecycle.desk import Desk
from jobtrail.store import jobs, log_lines, nodes
from jobtrail.store.jobs import Page


async def read(desk: Desk, job_id: UUID) -> Job:
    """Raises JobNotFoundError, UnavailableError."""
    async with desk.session() as session:
        job = await jobs.get(session, job_id)
    if job is None:
        raise JobNotFoundError(job_id)
    return job


async def read_page(desk: Desk, wanted: Page) -> Sequence[Job]:
    async with desk.session() as session:
        return await jobs.page(session, wanted)


async def read_history(desk: Desk, job_id: UUID) -> Sequence[Transition]:
    """Also of a job that was purged. Raises JobNotFoundError when nothing is known of the id."""
    async with desk.session() as session:
        found = await jobs.history(session, job_id)
    if not found:
        raise JobNotFoundError(job_id)
    return found


async def read_log(
    desk: Desk, job_id: UUID, *, attempt: int | None = None, after: tuple[int, int] = (0, 0)
) -> Sequence[LogLine]:
    """What is kept of a job's own log, oldest first: of all its attempts or one, after this attempt and number.

    Raises JobNotFoundError, UnavailableError.
    """
    async with desk.session() as session:
        found = await log_lines.lines_of(session, job_id, after=after)
        if not found and await jobs.get(session, job_id) is None:
            raise JobNotFoundError(job_id)
    return [line for line in found if attempt is None or line.attempt == attempt]


async def read_nodes(desk: Desk) -> Sequence[NodeRecord]:
    async with desk.session() as session:
        return await nodes.all_nodes(session)
