"""running → pending, failed or cancelled, for attempts whose node went silent. By lease, never by age."""

import logging
from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import text

from jobtrail.db.engine import Database
from jobtrail.db.group_commit import in_batches
from jobtrail.status import Status
from jobtrail.task.context import TASK_LOGGER

log = logging.getLogger(__name__)
of_tasks = logging.getLogger(TASK_LOGGER)

BATCH: Final = 500
"""Attempts of one commit, at most."""


class Rescued(NamedTuple):
    id: UUID
    task: str
    attempt: int
    status: Status


async def rescue(database: Database, *, node: UUID, by: str) -> Sequence[Rescued]:
    """All the attempts whose lease ran out, in batches; `node` judges, as `rescue_batch` says."""
    found: list[Rescued] = []

    async def step(most: int) -> bool:
        batch = await rescue_batch(database, node=node, actor=by, most=most)
        for each in batch:
            is_over = each.status is Status.FAILED
            (of_tasks if is_over else log).log(
                logging.ERROR if is_over else logging.WARNING,
                "%s: attempt %d of job %s was lost: its node went silent; the job is %s now",
                each.task,
                each.attempt,
                each.id,
                each.status,
                extra={"job_id": str(each.id), "task": each.task, "attempt": each.attempt},
            )
        found.extend(batch)
        return len(batch) == most

    await in_batches(step, most=BATCH)
    return found


# One statement with the fence checked again under the lock: an end that arrives in between wins. Ordered by what no
# index has: else the primary key would give the order, and all rows would be read for the few that run.
#
# `judge`: only a node that was heard of without a gap for a lease may say that others were silent, and PostgreSQL must
# have been up for as long; else all of them may be reconnecting. It is the lease of the node that is judged, if that is
# known, since each comes back at its own pace. The database alone judges, by the start of the statement: a node, or a
# server, that was stopped just here would otherwise go on with what it knew of the time before.
_RESCUE: Final = text("""
UPDATE jobtrail.jobs j
   SET status = r.status, seq = j.seq + 1, lease_until = NULL, node_id = NULL,
       moved_by = CASE r.status WHEN 'cancelled' THEN j.cancel_requested_by ELSE :actor END,
       move_reason = CASE r.status WHEN 'cancelled' THEN coalesce(j.cancel_reason, 'rescued') ELSE 'rescued' END,
       error = jsonb_build_object(
           'type', 'lost', 'traceback', NULL, 'attempt', j.attempt,
           'message', 'the node ' || j.node_id || ' that ran attempt ' || j.attempt || ' went silent'),
       started_at = CASE r.status WHEN 'pending' THEN NULL ELSE j.started_at END,
       finished_at = CASE r.status WHEN 'pending' THEN NULL ELSE statement_timestamp() END,
       expires_at = CASE r.status WHEN 'pending' THEN NULL ELSE statement_timestamp() + j.ttl_failed END,
       run_at = CASE r.status WHEN 'pending' THEN statement_timestamp() ELSE j.run_at END
  FROM (SELECT id, attempt, node_id,
               CASE WHEN cancel_requested_at IS NOT NULL THEN 'cancelled'
                    WHEN attempt < max_attempts THEN 'pending' ELSE 'failed' END AS status
          FROM jobtrail.jobs
         WHERE status = 'running' AND lease_until < statement_timestamp()
           AND EXISTS (
               SELECT FROM jobtrail.nodes judge
                WHERE judge.id = :node AND judge.heartbeat_at >= statement_timestamp() - judge.lease / 2
                  AND greatest(judge.steady_since, pg_postmaster_start_time())
                      <= statement_timestamp() - coalesce((
                          SELECT lease FROM jobtrail.nodes WHERE id = jobtrail.jobs.node_id), judge.lease))
         ORDER BY lease_until LIMIT :most FOR UPDATE SKIP LOCKED) r
 WHERE j.id = ANY(ARRAY[r.id]) AND j.attempt = r.attempt AND j.node_id = r.node_id AND j.status || '' = 'running'
   AND j.lease_until < statement_timestamp()
RETURNING j.id, j.task, j.attempt, j.status
""")


async def rescue_batch(database: Database, *, node: UUID, actor: str, most: int) -> Sequence[Rescued]:
    """At most `most` of the attempts whose lease ran out; each ends or goes back as its row says.

    None while `node`, which judges, may have been away itself, and right after PostgreSQL was.
    """
    async with database.autocommit() as connection:
        rows = (await connection.execute(_RESCUE, {"node": node, "actor": actor, "most": most})).all()
    return [Rescued(row.id, row.task, row.attempt, Status(row.status)) for row in rows]
