"""`on_full`: jobs of a task that does not wait for its limits are refused where one is full, or cancel those that wait.

Two submits at once would each see room for one. So a submit holds the rows of its keys, which every claim of them holds
too, from before it stores the job to its commit.
"""

from collections.abc import Sequence
from itertools import groupby
from math import ceil
from operator import attrgetter
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.errors import LimitFullError
from jobtrail.jobs.cancel import cancel_these
from jobtrail.records import NewJob

_MAKE: Final = text("""
INSERT INTO jobtrail.limits (key) SELECT k FROM unnest(CAST(:keys AS text[])) AS k ORDER BY k ON CONFLICT DO NOTHING
""")

_HOLD: Final = text("""
SELECT key FROM jobtrail.limits WHERE key = ANY(CAST(:keys AS text[])) ORDER BY key FOR NO KEY UPDATE
""")

# Of the jobs of the caller's transaction too. A rate is full when what waits will not fit into what is left of it.
_FULL: Final = text("""
SELECT u.key, n.number, u.term ->> 'per' AS per
  FROM ROWS FROM (unnest(CAST(:keys AS text[])), jsonb_array_elements(CAST(:terms AS jsonb))) AS u(key, term)
  LEFT JOIN jobtrail.limits l ON l.key = u.key
 CROSS JOIN LATERAL (SELECT coalesce(l.override, (u.term ->> 'number')::numeric) AS number) n
 CROSS JOIN LATERAL (
       SELECT count(*) AS jobs, coalesce(sum((
              SELECT (t ->> 'cost')::numeric
                FROM ROWS FROM (unnest(limit_keys), jsonb_array_elements(limit_terms)) AS terms(k, t)
               WHERE k = u.key)), 0) AS cost
         FROM jobtrail.jobs WHERE status = 'pending' AND limit_keys IS NOT NULL AND u.key = ANY(limit_keys)) waiting
 CROSS JOIN LATERAL (
       SELECT count(*) AS jobs FROM jobtrail.jobs
        WHERE status = 'running' AND limit_keys IS NOT NULL AND u.key = ANY(limit_keys)) running
 CROSS JOIN LATERAL (
       SELECT coalesce(sum(cost), 0) AS cost FROM jobtrail.rate_spent
        WHERE key = u.key
          AND slice >= clock_timestamp() - (u.term ->> 'per')::numeric * 1.01 * interval '1 second') spent
 WHERE CASE WHEN u.term ->> 'per' IS NULL THEN running.jobs + waiting.jobs > n.number
            ELSE n.number = 0 OR spent.cost + waiting.cost > n.number END
 ORDER BY u.key LIMIT 1
""")

_WAITING: Final = text("""
SELECT id FROM jobtrail.jobs
 WHERE status = 'pending' AND limit_keys IS NOT NULL AND limit_keys = CAST(:keys AS text[]) AND task = :task
   AND attempt = 0 AND id <> :newest
 ORDER BY id FOR NO KEY UPDATE
""")


async def hold_keys(session: AsyncSession, jobs: Sequence[NewJob]) -> None:
    """Hold the keys of those of these jobs that do not wait, to the end of the caller's transaction; first in it."""
    if keys := sorted({key for job in jobs if job.on_full != "wait" for key in job.limit_keys or ()}):
        held = 0
        while held < len(keys):  # a row that is not in use may be purged before it is held
            await session.execute(_MAKE, {"keys": keys})
            held = len((await session.execute(_HOLD, {"keys": keys})).all())


async def make_room(session: AsyncSession, jobs: Sequence[NewJob]) -> None:
    """Judge jobs that the caller's transaction has stored, and whose keys it holds. Raises LimitFullError.

    Where a key is full, `replace` cancels the jobs of the same task and keys that have not begun, but for the newest.
    """
    ordered = sorted((job for job in jobs if job.on_full != "wait"), key=_LANE)
    for _, lane in groupby(ordered, key=_LANE):
        newest = max(lane, key=attrgetter("id"))
        asked = {"keys": list(newest.limit_keys or ()), "terms": newest.limit_terms}
        if (full := (await session.execute(_FULL, asked)).one_or_none()) is None:
            continue
        if newest.on_full == "reject":
            raise LimitFullError(full.key, float(full.number), 1 if full.per is None else ceil(float(full.per)))
        wanted = {"keys": asked["keys"], "task": newest.task, "newest": newest.id}
        waiting = (await session.execute(_WAITING, wanted)).scalars().all()
        await cancel_these(session, waiting, actor=newest.created_by, reason=f"replaced by job {newest.id}")


_LANE: Final = attrgetter("task", "limit_keys")
