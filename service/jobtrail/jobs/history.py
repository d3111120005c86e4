"""Reading the history of a job, in pages: it may have any number of moves, each with an error."""

from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import Text, cast, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.db.tables import jobs, transitions
from jobtrail.errors import JobNotFoundError
from jobtrail.jobs.query import MOST_BYTES
from jobtrail.jobs.services import Services
from jobtrail.records import Transition

MOST_MOVES: Final = 5000
"""Moves in a page: two megabytes of JSON where none has an error."""


class Moves(NamedTuple):
    """`following`: the `seq` after which the next page begins, None after the last one."""

    moves: Sequence[Transition]
    following: int | None


async def history(session: AsyncSession, job_id: UUID, *, after: int = 0, only_of: str | None = None) -> Moves:
    """The moves of a job after this `seq`, also when its row was purged; none when nothing is known of the id. Of moves
    with large errors there are fewer in a page, but at least one.

    None also for a job that another than `only_of` submitted: after its row only its birth tells who.
    """
    columns = [transitions.c[name] for name in Transition.__dataclass_fields__]
    statement = select(*columns).where(transitions.c.job_id == job_id, transitions.c.seq > after)
    if only_of is not None:
        row = select(jobs.c.created_by).where(jobs.c.id == job_id).scalar_subquery()
        births = transitions.alias("births")
        birth = select(births.c.actor).where(births.c.job_id == job_id, births.c.seq == 1).scalar_subquery()
        statement = statement.where(func.coalesce(row, birth) == only_of)
    # one more tells whether there is another page
    some = statement.order_by(transitions.c.seq).limit(MOST_MOVES + 1).subquery("some")
    size = func.coalesce(func.octet_length(cast(some.c.error, Text)), 0)
    summed = select(some, (func.sum(size).over(order_by=some.c.seq) - size).label("before")).subquery("summed")
    there_are = select(func.count()).select_from(some).scalar_subquery()
    found = select(*(summed.c[column.name] for column in columns), there_are)
    rows = (await session.execute(found.where(summed.c.before < MOST_BYTES).order_by(summed.c.seq))).all()
    moves = [Transition(*row[:-1]) for row in rows[:MOST_MOVES]]
    return Moves(moves, moves[-1].seq if moves and rows[0][-1] > len(moves) else None)


async def read_moves(services: Services, job_id: UUID, *, after: int = 0, only_of: str | None = None) -> Moves:
    """A page of the history, after this `seq`; also of a job that was purged.

    Raises JobNotFoundError when nothing is known of the id, UnavailableError.
    """
    async with services.session() as session:
        found = await history(session, job_id, after=after, only_of=only_of)
        if not found.moves and not (await history(session, job_id, only_of=only_of)).moves:
            raise JobNotFoundError(job_id)
    return found


async def read_history(services: Services, job_id: UUID) -> Sequence[Transition]:
    """The whole of it. Raises as `read_moves`."""
    found = await read_moves(services, job_id)
    moves = list(found.moves)
    while found.following is not None:
        found = await read_moves(services, job_id, after=found.following)
        moves += found.moves
    return moves
