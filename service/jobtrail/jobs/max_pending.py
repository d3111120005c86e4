"""`max_pending`: a submit is refused while its queue, or a key of its limits, has as many pending jobs as it may have.

Judged by what the database counted at most a second ago, of all processes, so a burst may pass it. A count that fails
refuses nothing. Judged are submits, from Python and over HTTP alike; not what the service makes itself or an operator
orders, nor jobs in a caller's own transaction.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from jobtrail.db.direct import Statement
from jobtrail.db.errors import unavailable
from jobtrail.errors import BacklogFullError
from jobtrail.jobs.services import PATIENCE, Services
from jobtrail.records import NewJob

# In the order of an index, so that no other plan is worth a thought; no more of it than counts.
_OF_QUEUES: Final = Statement("""
SELECT q.name, p.jobs
  FROM ROWS FROM (unnest(CAST(:queues AS text[])), unnest(CAST(:most AS bigint[]))) AS q(name, most)
 CROSS JOIN LATERAL (
       SELECT count(*) AS jobs FROM (
           SELECT FROM jobtrail.jobs WHERE status = 'pending' AND queue = q.name
            ORDER BY queue, priority, run_at, id LIMIT q.most) waiting) p
""")

# The lanes are the distinct keys of pending jobs together, one probe of their index each. All keys at once: a task may
# have thousands of them, and a lane that holds one is found only by looking at all.
_OF_KEYS: Final = Statement("""
WITH RECURSIVE lanes AS (
    (SELECT limit_keys AS lane FROM jobtrail.jobs
      WHERE status = 'pending' AND limit_keys IS NOT NULL ORDER BY limit_keys LIMIT 1)
    UNION ALL
    SELECT n.lane FROM lanes l CROSS JOIN LATERAL (
        SELECT limit_keys AS lane FROM jobtrail.jobs
         WHERE status = 'pending' AND limit_keys IS NOT NULL AND limit_keys > l.lane ORDER BY limit_keys LIMIT 1) n
), counted AS (
    SELECT k AS key, sum(w.jobs) AS jobs
      FROM (SELECT lane FROM lanes LIMIT 20000) l
     CROSS JOIN LATERAL (
           SELECT count(*) AS jobs FROM (
               SELECT FROM jobtrail.jobs WHERE status = 'pending' AND limit_keys IS NOT NULL AND limit_keys = l.lane
                ORDER BY limit_keys, priority, due_at, id LIMIT CAST(:most AS bigint)) waiting) w
     CROSS JOIN LATERAL unnest(l.lane) AS k
     GROUP BY k
)
SELECT CAST(coalesce(jsonb_object_agg(key, jobs), '{}') AS text) FROM counted
""")


async def count_pending(services: Services, jobs: Sequence[NewJob]) -> None:
    """Have counts that are at most a second old of the queues and keys that `require_room` will judge these jobs by."""
    if any(job.queue in services.max_pending for job in jobs):
        await services.pending["queue"].renew(partial(_of_queues, services))
    if any(job.max_pending for job in jobs):
        await services.pending["limit"].renew(partial(_of_keys, services))


def require_room(services: Services, jobs: Sequence[NewJob]) -> None:
    """Judge by the counts that are there. Several jobs are judged together; more than a place may have go while nothing
    is pending there. Raises BacklogFullError.
    """
    wanted = Counter(place for job in jobs for place in _places(services, job))
    for (kind, name, most), number in wanted.items():
        pending = services.pending[kind].numbers.get(name, 0)
        if pending and pending + number > most:
            raise BacklogFullError(f"the {kind} {name!r}", most)


def _places(services: Services, job: NewJob) -> Iterator[tuple[str, str, int]]:
    if (most := services.max_pending.get(job.queue)) is not None:
        yield "queue", job.queue, most
    for key, most in (job.max_pending or {}).items():
        yield "limit", key, most


async def _of_queues(services: Services) -> Mapping[str, int]:
    asked = {"queues": list(services.max_pending), "most": list(services.max_pending.values())}
    with unavailable():
        return dict(await services.database.fetch(_OF_QUEUES, PATIENCE, **asked))


async def _of_keys(services: Services) -> Mapping[str, int]:
    most = max(each.max_pending or 0 for task in services.catalog for each in task.limits)
    with unavailable():
        ((text,),) = await services.database.fetch(_OF_KEYS, PATIENCE, most=most)
    found: Mapping[str, int] = json.loads(text)
    return found
