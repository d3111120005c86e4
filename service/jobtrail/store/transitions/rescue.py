"""running → pending, failed or cancelled, for attempts whose node went silent. By lease, never by age."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import text

from jobtrail.job.status import Status
from jobtrail.store.engine import Database


class Rescued(NamedTuple):
    id: UUID
    task: str
    attempt: int
    status: Status


# One statement with the fence checked again under the lock: an end that arrives in between wins. After a restart of
# PostgreSQL nobody could renew, so nobody is silent until a lease has passed.
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
         WHERE status = 'running' AND lease_until < clock_timestamp()
           AND pg_postmaster_start_time() < clock_timestamp() - CAST(:lease AS interval)
         ORDER BY id LIMIT :most FOR UPDATE SKIP LOCKED) r
 WHERE j.id = r.id AND j.attempt = r.attempt AND j.node_id = r.node_id AND j.status = 'running'
   AND j.lease_until < clock_timestamp()
RETURNING j.id, j.task, j.attempt, j.status
""")


async def rescue(database: Database, *, actor: str, lease: timedelta, most: int) -> Sequence[Rescued]:
    """At most `most` of the attempts whose lease ran out; each ends or goes back as its row says."""
    async with database.autocommit() as connection:
        rows = (await connection.execute(_RESCUE, {"actor": actor, "lease": lease, "most": most})).all()
    return [Rescued(row.id, row.task, row.attempt, Status(row.status)) for row in rows]
