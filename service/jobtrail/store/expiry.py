"""What goes: rows whose TTL has passed, and the history of rows that are long gone. The database refuses the rest."""

from datetime import timedelta
from typing import Final

from sqlalchemy import text

from jobtrail.store.engine import Database

# A session variable is enough here: one purge has one actor. It holds for this transaction only.
_ACTOR: Final = text("SELECT set_config('jobtrail.actor', :actor, true)")

_PURGE: Final = text("""
DELETE FROM jobtrail.jobs
 WHERE id = ANY(ARRAY(
     SELECT id FROM jobtrail.jobs WHERE expires_at <= statement_timestamp()
      ORDER BY expires_at LIMIT :most FOR UPDATE SKIP LOCKED))
   AND expires_at <= statement_timestamp()
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


async def purge(database: Database, *, actor: str, most: int) -> int:
    """Remove at most `most` expired jobs, oldest first; other nodes may do the same at the same time. How many went."""
    async with database.transaction() as session:
        await session.execute(_ACTOR, {"actor": actor})
        return _count(await session.execute(_PURGE, {"most": most}))


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
