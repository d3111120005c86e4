"""Looking at jobs without moving them.

`only_of` is a caller's name: the jobs of others are then not found, as if they were not there.
"""

from collections.abc import Collection, Sequence
from uuid import UUID

from jobtrail.job.errors import JobNotFoundError
from jobtrail.job.record import Job, LogLine, NodeRecord, Transition
from jobtrail.lifecycle.desk import Desk
from jobtrail.store import history, jobs, log_lines, nodes
from jobtrail.store.history import Moves
from jobtrail.store.jobs import Listed, Page


async def read(desk: Desk, job_id: UUID, *, only_of: str | None = None) -> Job:
    """Raises JobNotFoundError, UnavailableError."""
    async with desk.session() as session:
        job = await jobs.get(session, job_id, only_of=only_of)
    if job is None:
        raise JobNotFoundError(job_id)
    return job


async def are_there(desk: Desk, ids: Collection[UUID]) -> set[UUID]:
    """Those of these jobs that are stored and committed. Raises UnavailableError."""
    async with desk.session() as session:
        return await jobs.committed_of(session, ids)


async def read_page(desk: Desk, wanted: Page) -> Listed:
    async with desk.session() as session:
        return await jobs.page(session, wanted)


async def read_moves(desk: Desk, job_id: UUID, *, after: int = 0, only_of: str | None = None) -> Moves:
    """A page of the history, after this `seq`; also of a job that was purged.

    Raises JobNotFoundError when nothing is known of the id, UnavailableError.
    """
    async with desk.session() as session:
        found = await history.history(session, job_id, after=after, only_of=only_of)
        if not found.moves and not (await history.history(session, job_id, only_of=only_of)).moves:
            raise JobNotFoundError(job_id)
    return found


async def read_history(desk: Desk, job_id: UUID) -> Sequence[Transition]:
    """The whole of it. Raises as `read_moves`."""
    found = await read_moves(desk, job_id)
    moves = list(found.moves)
    while found.following is not None:
        found = await read_moves(desk, job_id, after=found.following)
        moves += found.moves
    return moves


async def read_log(
    desk: Desk,
    job_id: UUID,
    *,
    attempt: int | None = None,
    after: tuple[int, int] = (0, 0),
    only_of: str | None = None,
) -> Sequence[LogLine]:
    """What is kept of a job's own log, oldest first: of all its attempts or one, after this attempt and number.

    Raises JobNotFoundError, UnavailableError.
    """
    async with desk.session() as session:
        if await jobs.get(session, job_id, only_of=only_of) is None:
            raise JobNotFoundError(job_id)
        found = await log_lines.lines_of(session, job_id, after=after)
    return [line for line in found if attempt is None or line.attempt == attempt]


async def read_nodes(desk: Desk) -> Sequence[NodeRecord]:
    async with desk.session() as session:
        return await nodes.all_nodes(session)
