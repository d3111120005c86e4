"""What goes: rows whose TTL has passed, and the history of rows that are long gone. The database refuses the rest."""

from collections.abc import Collection
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from jobtrail.store.engine import Database
from jobtrail.store.faults import unavailability

# A session variable is enough here: one purge has one actor. It holds for this transaction only.
_ACTOR: Final = text("SELECT set_config('jobtrail.actor', :actor, true)")

_EXPIRED: Final = text("""
SELECT id FROM jobtrail.jobs WHERE expires_at <= statement_timestamp() AND id <> ALL(CAST(:but AS uuid[]))
 ORDER BY expires_at LIMIT :most FOR UPDATE SKIP LOCKED
""")

_PURGE: Final = text("""
DELETE FROM jobtrail.jobs WHERE id = ANY(CAST(:ids AS uuid[])) AND expires_at <= statement_timestamp()
""")

# Rows are counted, not jobs: one may have any number of moves. They go in the order of `seq`, so that the last one, by
# which the others are found, goes last however often this is cut short.
_FORGET: Final = text("""
WITH old AS MATERIALIZED (
  SELECT m.job_id, m.seq
    FROM (SELECT job_id FROM jobtrail.transitions
           WHERE to_status = 'purged' AND at < statement_timestamp() - CAST(:age AS interval)
           ORDER BY at LIMIT :most) AS purged
   CROSS JOIN LATERAL (
         SELECT job_id, seq FROM jobtrail.transitions WHERE job_id = purged.job_id ORDER BY seq LIMIT :most) AS m
   LIMIT :most)
DELETE FROM jobtrail.transitions t USING old WHERE t.job_id = old.job_id AND t.seq = old.seq
""")

_FORGET_NODES: Final = text("""
DELETE FROM jobtrail.nodes WHERE heartbeat_at < clock_timestamp() - greatest(CAST(:age AS interval), lease)
""")


class StuckError(Exception):
    """A single expired job that the database does not let go."""

    def __init__(self, job_id: UUID) -> None:
        self.job_id: Final = job_id


async def purge(database: Database, *, actor: str, most: int, but: Collection[UUID] = ()) -> int:
    """Remove at most `most` expired jobs, oldest first; other nodes may do the same at the same time. How many went.

    Raises StuckError where a single one is refused, as by a foreign key of the host's; `but` are not tried.
    """
    async with database.transaction() as session:
        await session.execute(_ACTOR, {"actor": actor})
        ids = (await session.scalars(_EXPIRED, {"most": most, "but": list(but)})).all()
        try:
            return _count(await session.execute(_PURGE, {"ids": ids}))
        except DBAPIError as error:
            if len(ids) == 1 and unavailability(error) is None:
                raise StuckError(ids[0]) from error
            raise


async def forget(database: Database, *, age: timedelta, most: int) -> int:
    """Remove at most `most` rows of the history of jobs that were purged longer than `age` ago. How many went."""
    async with database.transaction() as session:
        return _count(await session.execute(_FORGET, {"age": age, "most": most}))


async def forget_nodes(database: Database, *, age: timedelta) -> int:
    """Remove nodes that have been silent for `age`. How many went."""
    async with database.transaction() as session:
        return _count(await session.execute(_FORGET_NODES, {"age": age}))


def _count(result: object) -> int:
    return int(getattr(result, "rowcount", 0))
