"""Cursors of the feed: up to which mark something was derived from it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.db.engine import Database
from jobtrail.db.errors import unavailable
from jobtrail.events.feed import LIMIT, LONGEST, MOST_MARKS, MOVED

_TAKE: Final = text("SELECT no FROM jobtrail.feed_cursors WHERE name = :name FOR UPDATE SKIP LOCKED")
_UPTO: Final = text("""
SELECT max(no) FROM (SELECT no FROM jobtrail.feed_marks WHERE no > :after ORDER BY no LIMIT :most) AS coming
""")
_MOVE: Final = text("UPDATE jobtrail.feed_cursors SET no = :upto WHERE name = :name")


class Step(NamedTuple):
    """The transaction of a cursor, and the marks between which its transitions lie, as MOVED names them."""

    session: AsyncSession
    bounds: Mapping[str, int]
    may_be_more: bool


@asynccontextmanager
async def advancing(
    database: Database, name: str, *, most: int = MOST_MARKS, seconds: float = LONGEST
) -> AsyncIterator[Step | None]:
    """The cursor moves over at most so many marks in the transaction that is open meanwhile: each transition once,
    whoever dies. None where nothing is new, or another process does it at this moment. Raises UnavailableError.
    """
    with unavailable():
        async with database.transaction(seconds) as session:
            await session.execute(LIMIT, {"limit": f"{seconds:.0f}s"})
            after = (await session.execute(_TAKE, {"name": name})).scalar()
            upto = None
            if after is not None:
                upto = (await session.execute(_UPTO, {"after": after, "most": most})).scalar()
            if after is None or upto is None:
                yield None
                return
            yield Step(session, {"after": after, "upto": upto}, upto - after >= most)
            await session.execute(_MOVE, {"upto": upto, "name": name})


async def derive(database: Database, name: str, statement: str) -> bool:
    """Let the statement see the transitions that are new to the cursor `name`, as `moved` of MOVED, in a step of it.
    Whether there may be more. Raises UnavailableError.
    """
    async with advancing(database, name) as step:
        if step is None:
            return False
        await step.session.execute(text(f"WITH {MOVED} {statement}"), step.bounds)
    return step.may_be_more
