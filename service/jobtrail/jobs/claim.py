"""pending → running. The only place where `attempt` rises."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import text

from jobtrail.db.direct import Statement
from jobtrail.db.engine import LONGEST, Database
from jobtrail.db.tables import Json
from jobtrail.jobs.fence import FENCE, AttemptRef
from jobtrail.records import Claimed

_WAITED: Final = "CAST(extract(epoch FROM statement_timestamp() - {}) AS float8)"

# From `picked`, ids in the order of the claim. greatest: a row that was set back to pending in SQL was allowed one more
# attempt by hand
_START: Final = f"""
UPDATE jobtrail.jobs j
   SET status = 'running', attempt = j.attempt + 1, seq = j.seq + 1, moved_by = 'node', move_reason = 'claimed',
       node_id = :node, lease_until = clock_timestamp() + CAST(:lease AS interval),
       started_at = statement_timestamp(), error = NULL, progress = NULL,
       max_attempts = greatest(j.max_attempts, j.attempt + 1)
  FROM picked
 WHERE j.id = ANY(ARRAY[picked.id]) AND j.status || '' = 'pending'
RETURNING j.id, j.attempt, j.task, CAST(j.args AS text) AS args, j.trace_id, j.max_attempts, j.timeout, j.created_by,
          j.given_back, CAST(j.cursor AS text) AS cursor, j.priority, j.run_at, j.queue, j.trace_parent,
          CASE WHEN j.trace_parent IS NOT NULL THEN statement_timestamp() - j.created_at END AS age,
          {_WAITED.format("j.run_at")}
"""

# Uncorrelated, so that each is read once for a statement; what is paused after its snapshot may still start.
_PAUSED_QUEUES: Final = "SELECT name FROM jobtrail.pauses WHERE kind = 'queue'"
_PAUSED_TASKS: Final = "SELECT name FROM jobtrail.pauses WHERE kind = 'task'"

# `spots` hops through the distinct queues and priorities that have pending jobs, one index probe each. The rows of a
# spot come in claim order straight from the index; run_at is compared with statement_timestamp because a volatile
# clock is no index condition. Spots of equal priority come in an order that changes with the salt: no queue starves.
# The tasks are a subquery also to keep their names from the planner, which would read the whole table for rare ones.
_SPOTS: Final = f"""
WITH RECURSIVE spots AS (
    (SELECT queue, priority FROM jobtrail.jobs WHERE status = 'pending' ORDER BY queue, priority LIMIT 1)
    UNION ALL
    SELECT n.queue, n.priority FROM spots s CROSS JOIN LATERAL (
        SELECT queue, priority FROM jobtrail.jobs
         WHERE status = 'pending' AND (queue, priority) > (s.queue, s.priority)
         ORDER BY queue, priority LIMIT 1) n
), served AS (
    SELECT queue, priority FROM spots
     WHERE (:all_queues OR queue = ANY(CAST(:queues AS text[]))) AND queue <> ALL(ARRAY({_PAUSED_QUEUES}))
)"""

_OF_SPOT: Final = f"""
            WHERE status = 'pending' AND queue = s.queue AND priority = s.priority
              AND run_at <= statement_timestamp() AND task = ANY(ARRAY(
                  SELECT unnest(CAST(:tasks AS text[])) EXCEPT {_PAUSED_TASKS}))"""

_NEXT: Final = Statement(
    f"""{_SPOTS}, picked AS MATERIALIZED (
    SELECT due.id
      FROM (SELECT queue, priority FROM served
             ORDER BY priority DESC, hashtext(queue || CAST(:salt AS text))) s
     CROSS JOIN LATERAL (
           SELECT id FROM jobtrail.jobs {_OF_SPOT}
            ORDER BY run_at, id LIMIT :free FOR UPDATE SKIP LOCKED) due
     LIMIT :free)
{_START}"""
)

_DUE: Final = Statement(
    f"""{_SPOTS}
SELECT EXISTS (
    SELECT FROM served s CROSS JOIN LATERAL (
           SELECT FROM jobtrail.jobs {_OF_SPOT}
            ORDER BY run_at, id LIMIT 1) due)"""
)

_THESE: Final = Statement(
    f"""
WITH picked AS MATERIALIZED (
    SELECT j.id FROM unnest(CAST(:ids AS uuid[])) AS u(id) JOIN jobtrail.jobs j ON j.id = ANY(ARRAY[u.id])
     WHERE j.status || '' = 'pending' AND j.run_at <= statement_timestamp()
       AND j.queue <> ALL(ARRAY({_PAUSED_QUEUES})) AND j.task <> ALL(ARRAY({_PAUSED_TASKS}))
       FOR UPDATE OF j SKIP LOCKED)
{_START}"""
)


async def claim_next(
    database: Database,
    *,
    node: UUID,
    lease: timedelta,
    tasks: Sequence[str],
    queues: Sequence[str],
    free: int,
    salt: str,
) -> Sequence[Claimed]:
    """Claim at most `free` due jobs of these tasks, most urgent first; `queues` empty means every queue.

    What is paused waits, here and in `claim_these`.
    """
    found = await database.fetch(
        _NEXT, answering_within(lease),
        node=node, lease=lease, tasks=tasks, queues=queues, all_queues=not queues, free=free, salt=salt,
    )  # fmt: skip
    return _claimed(found)


async def is_any_due(database: Database, *, lease: timedelta, tasks: Sequence[str], queues: Sequence[str]) -> bool:
    """Whether `claim_next` may find a job of these tasks, or did so a moment ago. It writes and locks nothing."""
    found = await database.fetch(
        _DUE, answering_within(lease), tasks=tasks, queues=queues, all_queues=not queues
    )  # fmt: skip
    return bool(found[0][0])


async def claim_these(database: Database, ids: Sequence[UUID], *, node: UUID, lease: timedelta) -> Sequence[Claimed]:
    """Claim those of these jobs that are due, not paused, and neither taken nor just being taken by another node."""
    return _claimed(await database.fetch(_THESE, answering_within(lease), ids=ids, node=node, lease=lease))


_LIMITED: Final = Statement(f"""
SELECT c.*, {_WAITED.format("c.due_at")} FROM jobtrail.claim_limited(
    :node, :lease, CAST(:tasks AS text[]), CAST(:queues AS text[]), CAST(:free AS int), CAST(:declared AS jsonb),
    CAST(:start AS text[]), CAST(:hints AS uuid[])) c
""")

_ANY_LIMITED: Final = Statement("""
SELECT EXISTS (SELECT FROM jobtrail.jobs WHERE status = 'pending' AND limit_keys IS NOT NULL)
""")


class LimitedClaim(NamedTuple):
    """`after`: the keys of the lane to go on from next time. `wake`: when a rate will have room, if that is known."""

    jobs: Sequence[Claimed]
    after: Sequence[str]
    wake: timedelta | None


async def claim_limited(
    database: Database,
    *,
    node: UUID,
    lease: timedelta,
    tasks: Sequence[str],
    queues: Sequence[str],
    free: int,
    declared: str,
    start: Sequence[str],
    hints: Sequence[UUID],
) -> LimitedClaim:
    """Claim at most `free` due jobs that have limits, as far as these have room. What is paused waits.

    `declared`: this node's numbers by template, as JSON text. `hints`: jobs whose lanes are looked at in any case.
    """
    *rows, last = await database.fetch(
        _LIMITED, answering_within(lease),
        node=node, lease=lease, tasks=tasks, queues=queues, free=free, declared=declared, start=start, hints=hints,
    )  # fmt: skip
    jobs = _claimed(rows)
    for each in jobs:
        each.is_limited = True
    return LimitedClaim(jobs, json.loads(last[3]), last[6])


async def is_any_limited(database: Database) -> bool:
    """Whether a job with limits waits, due or not, of whatever task."""
    return bool((await database.fetch(_ANY_LIMITED))[0][0])


def _claimed(rows: Sequence[Any]) -> Sequence[Claimed]:
    """In the order in which they are to begin."""
    ordered = sorted(rows, key=lambda row: (-row[10], row[11], row[0])) if len(rows) > 1 else rows
    return [
        Claimed(
            id_, attempt, task, json.loads(args), trace_id, most, limit, by,
            given_back, None if cursor is None else json.loads(cursor), queue, parent, age, waited=waited,
        )
        for (
            id_, attempt, task, args, trace_id, most, limit, by, given_back, cursor, _priority, _due, queue, parent,
            age, waited,
        ) in ordered
    ]  # fmt: skip


def answering_within(lease: timedelta) -> float:
    """Seconds: the node must learn what it has claimed while there is time to renew it."""
    return min(max(lease.total_seconds() / 3, 0.5), LONGEST)


_HELD: Final = text(f"""
SELECT j.id, j.attempt, j.task, CAST(j.args AS text) AS args, j.trace_id, j.max_attempts, j.timeout, j.created_by,
       j.given_back, CAST(j.cursor AS text) AS cursor, j.queue, j.trace_parent, clock_timestamp() - j.created_at AS age
  FROM unnest(CAST(:id AS uuid[]), CAST(:attempt AS int[])) AS u(id, attempt)
  JOIN jobtrail.jobs j ON j.{FENCE.format(row="j.")}
""").columns(args=Json, cursor=Json)


async def held_by(database: Database, held: Sequence[AttemptRef], *, node: UUID, lease: timedelta) -> Sequence[Claimed]:
    """Those of these attempts that the database still says this node runs: claims whose answer was lost."""
    parameters = {"id": [each.id for each in held], "attempt": [each.attempt for each in held], "node": node}
    async with database.autocommit(answering_within(lease)) as connection:
        return [Claimed(*row) for row in await connection.execute(_HELD, parameters)]
