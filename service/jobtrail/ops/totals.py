"""Totals of what became of jobs, by task, and of those that ended by the minute: derived from the feed, each transition
once, whoever wrote it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import BigInteger, Column, Table, Text

from jobtrail.db.direct import Statement
from jobtrail.db.engine import Database
from jobtrail.db.errors import unavailable
from jobtrail.db.tables import TIME, metadata

CURSOR: Final = "minutes"

MINUTES: Final = Table(
    "ended_minutes",
    metadata,
    Column("minute", TIME, primary_key=True),
    Column("task", Text, primary_key=True),
    Column("status", Text, primary_key=True),
    Column("n", BigInteger, nullable=False),
    info={"rights": "SELECT, INSERT, UPDATE, DELETE"},
)

TOTALS: Final = Table(
    "totals",
    metadata,
    Column("task", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("n", BigInteger, nullable=False),
    info={"rights": "SELECT, INSERT, UPDATE"},
)

KEPT: Final = timedelta(hours=25)
"""How long the minutes are kept."""

_MOST: Final = 5000
"""Totals that are told."""

ROLL_UP: Final = """
, grouped AS MATERIALIZED (
    SELECT task, date_trunc('minute', at) AS minute,
           CASE WHEN from_status IS NULL THEN 'submitted' ELSE to_status END AS kind,
           coalesce(from_status = 'running' AND error ->> 'type' = 'lost', false) AS is_lost,
           coalesce(from_status = 'running' AND reason = 'rescued', false) AS is_rescued, count(*) AS n
      FROM moved WHERE to_status <> 'running' GROUP BY 1, 2, 3, 4, 5
), minutes AS (
    INSERT INTO jobtrail.ended_minutes AS e (minute, task, status, n)
    SELECT minute, task, kind, sum(n) FROM grouped
     WHERE kind IN ('succeeded', 'failed', 'cancelled') GROUP BY minute, task, kind
        ON CONFLICT (minute, task, status) DO UPDATE SET n = e.n + excluded.n
)
INSERT INTO jobtrail.totals AS t (task, kind, n)
SELECT task, kind, sum(n) FROM (
       SELECT task, kind, n FROM grouped WHERE kind <> 'pending'
       UNION ALL SELECT task, 'lost', n FROM grouped WHERE is_lost
       UNION ALL SELECT task, 'rescued', n FROM grouped WHERE is_rescued) AS counted
 GROUP BY task, kind
    ON CONFLICT (task, kind) DO UPDATE SET n = t.n + excluded.n
"""
"""Counts the rows of `moved`, which are transitions. An attempt that was lost counts beside what became of its job."""

_ENDED: Final = Statement("""
SELECT task, CAST(sum(n) AS bigint), CAST(coalesce(sum(n) FILTER (WHERE status = 'failed'), 0) AS bigint)
  FROM jobtrail.ended_minutes WHERE minute >= :since GROUP BY task
""")

_ALL: Final = Statement("SELECT task, kind, n FROM jobtrail.totals ORDER BY task, kind LIMIT :most")

_FORGET: Final = Statement("""
DELETE FROM jobtrail.ended_minutes WHERE minute < statement_timestamp() - CAST(:kept AS interval)
""")


class EndCounts(NamedTuple):
    """Jobs of a task; `failed` are among the `ended`."""

    ended: int
    failed: int


async def ended_since(database: Database, since: datetime) -> Mapping[str, EndCounts]:
    """By task. `since` is a whole minute."""
    return {task: EndCounts(ended, failed) for task, ended, failed in await database.fetch(_ENDED, since=since)}


async def all_totals(database: Database) -> Sequence[tuple[str, str, int]]:
    """Task, kind and number."""
    return [(task, kind, n) for task, kind, n in await database.fetch(_ALL, most=_MOST)]


async def purge_minutes(database: Database) -> None:
    """Raises UnavailableError."""
    with unavailable():
        await database.fetch(_FORGET, kept=KEPT)
