"""Removing what has expired, in batches until one is short; other nodes may do the same at the same time.

There are three parts, none of which waits for another or fails with it: expired jobs (their log lines go by a trigger),
the history of jobs that were purged long ago, and nodes that fell silent. The database refuses to lose anything else.
"""

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any, Final, NamedTuple

from sqlalchemy import TextClause, text

from jobtrail.db.engine import Database
from jobtrail.db.errors import unavailable
from jobtrail.db.group_commit import in_batches

JOBS: Final = 1000
"""Jobs of one commit, at most."""

MOVES: Final = 5000
"""Rows of the history of one commit, at most."""

NODE_AGE: Final = timedelta(hours=1)
"""How long a node that went silent stays on the list, for whoever asks what happened."""


class Purged(NamedTuple):
    """Numbers of rows that went: jobs, and rows of the history of jobs that were purged long ago."""

    jobs: int
    transitions: int


async def purge(database: Database, *, by: str, history_ttl: timedelta | None) -> Purged:
    """One part after the other, whatever became of the one before. `history_ttl` None keeps the history for ever.

    Raises the first error, when every part has come to an end: UnavailableError.
    """
    gone: list[int] = []
    errors: list[Exception] = []
    for part in (
        partial(purge_jobs, database, by=by),
        partial(purge_history, database, age=history_ttl),
        partial(purge_nodes, database),
    ):
        try:
            gone.append(await part())
        except Exception as error:  # noqa: BLE001 - raised below
            errors.append(error)
    if errors:
        raise errors[0]
    return Purged(jobs=gone[0], transitions=gone[1])


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


async def purge_jobs(database: Database, *, by: str) -> int:
    """Removes expired jobs, oldest first; how many. Raises UnavailableError; what was committed is gone."""
    return await _delete(database, _PURGE, {}, most=JOBS, actor=by)


async def purge_history(database: Database, *, age: timedelta | None) -> int:
    """Removes the history of jobs that were purged longer than `age` ago; how many rows. Raises as `purge_jobs`."""
    return 0 if age is None else await _delete(database, _FORGET, {"age": age}, most=MOVES, actor=None)


async def purge_nodes(database: Database) -> int:
    """Removes nodes that were silent for NODE_AGE; how many. Raises UnavailableError."""
    with unavailable():
        async with database.transaction() as session:
            return _count(await session.execute(_FORGET_NODES, {"age": NODE_AGE}))


async def _delete(
    database: Database, statement: TextClause, parameters: Mapping[str, Any], *, most: int, actor: str | None
) -> int:
    total = 0

    async def step(size: int) -> bool:
        nonlocal total
        async with database.transaction() as session:
            if actor is not None:
                await session.execute(_ACTOR, {"actor": actor})
            gone = _count(await session.execute(statement, {**parameters, "most": size}))
        total += gone
        return gone == size

    with unavailable():
        await in_batches(step, most=most)
    return total


def _count(result: object) -> int:
    return int(getattr(result, "rowcount", 0))
