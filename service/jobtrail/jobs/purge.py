"""Removing what has expired, in batches until one is short; other nodes may do the same at the same time.

There are three parts, none of which waits for another or fails with it: expired jobs (their log lines go by a trigger),
the history of jobs that were purged long ago, and nodes that fell silent. The database refuses to lose anything else.
"""

from datetime import timedelta
from functools import partial
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from jobtrail.db.engine import Database
from jobtrail.db.errors import reason, unavailability, unavailable
from jobtrail.db.group_commit import in_batches
from jobtrail.errors import PurgeRefusedError

JOBS: Final = 1000
"""Jobs of one commit, at most."""

MOVES: Final = 5000
"""Rows of the history of one commit, at most."""

_MOST_REFUSED: Final = 100
"""Jobs that are stepped over in one purge: each costs an attempt of its own."""

NODE_AGE: Final = timedelta(hours=1)
"""How long a node that went silent stays on the list, to show what happened."""


class Purged(NamedTuple):
    """Numbers of rows that went: jobs, and rows of the history of jobs that were purged long ago."""

    jobs: int
    transitions: int


async def purge(database: Database, *, by: str, history_ttl: timedelta | None) -> Purged:
    """One part after the other, whatever became of the one before. `history_ttl` None keeps the history for ever.

    Raises the first error, when every part has come to an end: UnavailableError, PurgeRefusedError.
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


# A session variable is enough here: one purge has one actor. It holds for this transaction only. So does the other
# setting, for plans that were made when the table was small.
_ACTOR: Final = text("SELECT set_config('jobtrail.actor', :actor, true), set_config('enable_seqscan', 'off', true)")

_EXPIRED: Final = text("""
SELECT id, CAST(ctid AS text) AS place FROM jobtrail.jobs
 WHERE expires_at <= statement_timestamp() AND id <> ALL(CAST(:but AS uuid[]))
 ORDER BY expires_at LIMIT :most FOR UPDATE SKIP LOCKED
""")

# By their places, where they stay as they were locked: without a look into an index for each. `expires_at` is not asked
# again, since the guard of the table does.
_PURGE: Final = text("DELETE FROM jobtrail.jobs WHERE ctid = ANY(CAST(CAST(:places AS text[]) AS tid[]))")

# Rows are counted, not jobs: one may have any number of moves. They go in the order of `seq`, so that the last one, by
# which the others are found, goes last however often this is cut short.
# What the oldest mark of the feed does not see is numbered within a mark that can be read, or has yet to be derived, so
# it stays for as long. Before `since` are ids of transactions of another database.
_FORGET: Final = text("""
WITH oldest AS MATERIALIZED (SELECT snapshot, since FROM jobtrail.feed_marks ORDER BY no LIMIT 1),
old AS MATERIALIZED (
  SELECT m.job_id, m.seq
    FROM (SELECT job_id FROM jobtrail.transitions
           WHERE to_status = 'purged' AND at < statement_timestamp() - CAST(:age AS interval)
             AND (pg_visible_in_snapshot(xact, (SELECT snapshot FROM oldest)) OR at < (SELECT since FROM oldest))
           ORDER BY at LIMIT :most) AS purged
   CROSS JOIN LATERAL (
         SELECT job_id, seq FROM jobtrail.transitions WHERE job_id = purged.job_id ORDER BY seq LIMIT :most) AS m
   LIMIT :most)
DELETE FROM jobtrail.transitions t USING old WHERE t.job_id = ANY(ARRAY[old.job_id]) AND t.seq = old.seq
""")

_FORGET_NODES: Final = text("""
DELETE FROM jobtrail.nodes WHERE heartbeat_at < clock_timestamp() - greatest(CAST(:age AS interval), lease)
""")


async def purge_jobs(database: Database, *, by: str) -> int:
    """Removes expired jobs, oldest first; how many. What was committed is gone.

    Raises UnavailableError, and PurgeRefusedError for jobs that the database does not let go, as for a foreign key of
    the host's, when all the others went.
    """
    total = 0
    refused: dict[UUID, str] = {}

    async def step(size: int) -> bool:
        nonlocal total
        async with database.transaction() as session:
            await session.execute(_ACTOR, {"actor": by})
            rows = (await session.execute(_EXPIRED, {"most": size, "but": list(refused)})).all()
            try:
                gone = _count(await session.execute(_PURGE, {"places": [row.place for row in rows]}))
            except DBAPIError as error:
                if len(rows) > 1 or unavailability(error) is not None:
                    raise
                refused[rows[0].id] = reason(error)
                await session.rollback()
                return len(refused) < _MOST_REFUSED
        total += gone
        return gone == size

    with unavailable():
        await in_batches(step, most=JOBS)
    if refused:
        raise PurgeRefusedError(refused)
    return total


async def purge_history(database: Database, *, age: timedelta | None) -> int:
    """Removes the history of jobs that were purged longer than `age` ago, up to the oldest mark of the feed that is
    kept; how many rows. Raises as `purge_jobs`.
    """
    total = 0

    async def step(size: int) -> bool:
        nonlocal total
        async with database.transaction() as session:
            gone = _count(await session.execute(_FORGET, {"age": age, "most": size}))
        total += gone
        return gone == size

    if age is not None:
        with unavailable():
            await in_batches(step, most=MOVES)
    return total


async def purge_nodes(database: Database) -> int:
    """Removes nodes that were silent for NODE_AGE; how many. Raises UnavailableError."""
    with unavailable():
        async with database.transaction() as session:
            return _count(await session.execute(_FORGET_NODES, {"age": NODE_AGE}))


def _count(result: object) -> int:
    return int(getattr(result, "rowcount", 0))
