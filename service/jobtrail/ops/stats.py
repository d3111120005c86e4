"""Stats: how much waits, runs and has ended of late, who runs it, and whether that is alarming.

Nothing is counted in full: the pending jobs of a queue and priority up to a number, the ended ones by the minutes of
`totals`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from jobtrail.db.direct import Statement
from jobtrail.db.engine import Database
from jobtrail.db.errors import unavailable
from jobtrail.jobs.services import AlarmLimits
from jobtrail.ops.nodes import LIVING
from jobtrail.ops.totals import CURSOR, EndCounts, ended_since
from jobtrail.ranges import OWN
from jobtrail.records import Alarm, QueueStats, Stats, TaskStats

EXACT: Final = 1000
"""Pending jobs of one queue and priority that are counted at least, if there are as many."""

_HOUR: Final = timedelta(hours=1)


class TaskJobs(NamedTuple):
    """Jobs of one task in one queue. `oldest`: since when one could have begun, or has run."""

    queue: str
    task: str
    jobs: int
    oldest: datetime | None
    more: bool = False


# One probe for each queue and priority, as a claim does, and no more rows of each than count. In the order of the
# index, and by limits that the planner cannot see: for a large one it would read and sort the whole queue. `further`
# are jobs beyond the first, of all queues together as many as the alarm asks for; those of our own queues would take
# that from the others. What is paused waits for no slot.
_PENDING: Final = Statement("""
WITH RECURSIVE spots AS (
    (SELECT queue, priority FROM jobtrail.jobs WHERE status = 'pending' ORDER BY queue, priority LIMIT 1)
    UNION ALL
    SELECT n.queue, n.priority FROM spots s CROSS JOIN LATERAL (
        SELECT queue, priority FROM jobtrail.jobs
         WHERE status = 'pending' AND (queue, priority) > (s.queue, s.priority)
         ORDER BY queue, priority LIMIT 1) n
), first AS MATERIALIZED (
    SELECT s.queue, s.priority, w.task, w.jobs, w.oldest FROM spots s CROSS JOIN LATERAL (
           SELECT task, count(*) AS jobs, min(run_at) FILTER (WHERE run_at <= statement_timestamp()) AS oldest
             FROM (SELECT task, run_at FROM jobtrail.jobs
                    WHERE status = 'pending' AND queue = s.queue AND priority = s.priority
                    ORDER BY queue, priority, run_at, id LIMIT (SELECT :exact + 1)) f
            GROUP BY task) w
), further AS MATERIALIZED (
    SELECT queue, priority, task, count(*) AS jobs
      FROM (SELECT s.queue, s.priority, w.task
              FROM (SELECT queue, priority FROM first WHERE NOT starts_with(queue, :own)
                     GROUP BY queue, priority HAVING sum(jobs) > :exact) s
             CROSS JOIN LATERAL (
                   SELECT task FROM jobtrail.jobs
                    WHERE status = 'pending' AND queue = s.queue AND priority = s.priority
                    ORDER BY queue, priority, run_at, id
                    LIMIT (SELECT CAST(:further AS bigint)) OFFSET (SELECT :exact + 1)) w
             LIMIT :further) f
     GROUP BY queue, priority, task
), judged AS (
    SELECT queue, task, jobs, oldest, sum(jobs) OVER (PARTITION BY queue, priority) > :exact AND (
           starts_with(queue, :own) OR (SELECT coalesce(sum(jobs), 0) FROM further) >= :further) AS more
      FROM (SELECT * FROM first UNION ALL SELECT *, NULL FROM further) found
)
SELECT queue, task, CAST(sum(jobs) AS bigint),
       CASE WHEN NOT EXISTS (SELECT FROM jobtrail.pauses
                              WHERE kind = 'queue' AND name = queue OR kind = 'task' AND name = task)
            THEN min(oldest) END, bool_or(more)
  FROM judged GROUP BY queue, task
""")

_RUNNING: Final = Statement("""
SELECT queue, task, count(*), min(started_at) FROM jobtrail.jobs WHERE status = 'running' GROUP BY queue, task
""")

_NOW: Final = Statement("SELECT clock_timestamp()")

_NODES: Final = Statement(f"SELECT CAST(slots AS text), loop_lag FROM jobtrail.nodes WHERE {LIVING}")


# A cursor is moved lazily where nothing moves; what it has yet to pass has marks.
_LAGS: Final = Statement("""
SELECT c.name, CAST(greatest(extract(epoch FROM statement_timestamp() - m.at), 0) AS float8)
  FROM jobtrail.feed_cursors c CROSS JOIN LATERAL (
       SELECT at FROM jobtrail.feed_marks WHERE no > c.no ORDER BY no LIMIT 1) m
""")


async def read_stats(database: Database, as_of: datetime, limits: AlarmLimits) -> Stats:
    """`as_of`: when the minutes were exact, by the database's clock. Raises UnavailableError."""
    since = as_of.replace(second=0, microsecond=0) - _HOUR
    further = max(0, limits.pending - EXACT)
    with unavailable():
        ((read_at,),) = await database.fetch(_NOW)
        waiting = [TaskJobs(*row) for row in await database.fetch(_PENDING, exact=EXACT, further=further, own=OWN)]
        running = [TaskJobs(*row) for row in await database.fetch(_RUNNING)]
        nodes = [(Counter(json.loads(slots)), lag) for slots, lag in await database.fetch(_NODES)]
        lags = dict(await database.fetch(_LAGS))
        ended = await ended_since(database, since)
    total = _sum(ended.values())
    return Stats(
        as_of=as_of,
        since=since,
        read_at=read_at,
        pending=sum(each.jobs for each in waiting),
        more=any(each.more for each in waiting),
        oldest_pending_at=_oldest(waiting),
        running=sum(each.jobs for each in running),
        oldest_running_at=_oldest(running),
        ended=total.ended,
        failed=total.failed,
        nodes=len(nodes),
        slots=dict(sum((slots for slots, _ in nodes), Counter())),
        loop_lag=max((lag for _, lag in nodes), default=0.0),
        numbers_lag=lags.get(CURSOR, 0.0),
        webhooks_lag=lags.get("webhooks", 0.0),
        queues=_queues(waiting, running),
        tasks=_tasks(waiting, running, ended),
        alarms=_alarms(limits, read_at, waiting, running, ended),
    )


def _oldest(several: Sequence[TaskJobs]) -> datetime | None:
    return min((each.oldest for each in several if each.oldest is not None), default=None)


def _queues(waiting: Sequence[TaskJobs], running: Sequence[TaskJobs]) -> Sequence[QueueStats]:
    found = []
    for queue in sorted({each.queue for each in (*waiting, *running)}):
        wait = [each for each in waiting if each.queue == queue]
        runs = sum(each.jobs for each in running if each.queue == queue)
        more = any(each.more for each in wait)
        found.append(QueueStats(queue, sum(each.jobs for each in wait), more, _oldest(wait), runs))
    return found


def _tasks(
    waiting: Sequence[TaskJobs], running: Sequence[TaskJobs], ended: Mapping[str, EndCounts]
) -> Sequence[TaskStats]:
    waits, runs = Counter[str](), Counter[str]()
    for counts, found in ((waits, waiting), (runs, running)):
        for each in found:
            counts[each.task] += each.jobs
    return [
        TaskStats(task, waits[task], runs[task], *ended.get(task, EndCounts(0, 0)))
        for task in sorted({*waits, *runs, *ended})
    ]


def _sum(several: Iterable[EndCounts]) -> EndCounts:
    found = list(several)
    return EndCounts(sum(each.ended for each in found), sum(each.failed for each in found))


def _alarms(
    limits: AlarmLimits,
    now: datetime,
    waiting: Sequence[TaskJobs],
    running: Sequence[TaskJobs],
    ended: Mapping[str, EndCounts],
) -> Sequence[Alarm]:
    """The alarms, without deliveries of webhooks: a receiver that is away says nothing about the app's jobs, and a
    delivery for each end would halve the share of failures.
    """
    total = _sum(each for task, each in ended.items() if not task.startswith(OWN))
    pending = sum(each.jobs for each in waiting if not each.task.startswith(OWN))
    oldest = _oldest([each for each in running if not each.task.startswith(OWN)])
    # by the time they were read at: the ended may have been counted long before
    runs = 0.0 if oldest is None else max(0.0, (now - oldest).total_seconds())
    found = (
        ("pending", pending, limits.pending),
        ("running", runs, limits.running.total_seconds()),
        ("failures", total.failed / total.ended if total.ended else 0.0, limits.failures),
    )
    return [Alarm(name, float(value), float(limit), value > limit) for name, value, limit in found]


# Also those of processes that only accept jobs, and so have none in `tasks`.
_KNOWN: Final = Statement("""
SELECT unnest(tasks) FROM jobtrail.nodes
UNION SELECT jsonb_object_keys(modules) FROM jobtrail.nodes WHERE jsonb_typeof(modules) = 'object'
ORDER BY 1 LIMIT 5000
""")


async def known_tasks(database: Database) -> Sequence[str]:
    """Those of all nodes, by name. Raises UnavailableError."""
    with unavailable():
        return [task for (task,) in await database.fetch(_KNOWN)]


class Upkeep(NamedTuple):
    """What a node does beside running jobs, and how late it is, in seconds: expired rows that are still there, due
    times that were not looked at for a minute. `limits_full`: keys of which as many run as may. Since their start the
    nodes that are there had `refused` ends refused; `left_behind` tasks of theirs take a slot and do not end.
    """

    purge_lag: float
    schedules_late: int
    limits_full: int
    refused: int
    left_behind: int


_UPKEEP: Final = Statement("""
SELECT (SELECT CAST(greatest(extract(epoch FROM statement_timestamp() - expires_at), 0) AS float8)
          FROM jobtrail.jobs WHERE expires_at IS NOT NULL ORDER BY expires_at LIMIT 1),
       (SELECT count(*) FROM jobtrail.schedules
         WHERE paused_at IS NULL AND disabled_at IS NULL AND isfinite(next_at)
           AND next_at < statement_timestamp() - interval '60 s'),
       (SELECT count(*)
          FROM (SELECT u.key, count(*) AS jobs, max(CAST(u.term ->> 'number' AS numeric)) AS number
                  FROM jobtrail.jobs j CROSS JOIN LATERAL ROWS FROM (
                       unnest(j.limit_keys), jsonb_array_elements(j.limit_terms)) AS u(key, term)
                 WHERE j.status = 'running' AND j.limit_keys IS NOT NULL AND u.key IS NOT NULL
                   AND u.term ->> 'per' IS NULL
                 GROUP BY u.key) r
          LEFT JOIN jobtrail.limits l ON l.key = r.key
         WHERE r.jobs >= coalesce(l.override, r.number, 1)),
       n.refused, n.left_behind
  FROM (SELECT coalesce(sum(stale_ends), 0) AS refused, coalesce(sum(left_behind), 0) AS left_behind
          FROM jobtrail.nodes) n
""")


async def read_upkeep(database: Database) -> Upkeep:
    """Raises UnavailableError."""
    with unavailable():
        lag, *counts = (await database.fetch(_UPKEEP))[0]
    return Upkeep(lag or 0.0, *map(int, counts))
