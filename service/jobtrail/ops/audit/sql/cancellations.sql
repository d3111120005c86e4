-- Which jobs were to be cancelled, by whom and why, and how did they end? Requests that came too late and requests that
-- still wait for their node are here too, as long as the row is there.
-- since: how far back
\if :{?since} \else \set since '24 hours' \endif
-- task: only this task; empty for all
\if :{?task} \else \set task '' \endif
-- requested_by: only requests of this caller; empty for all
\if :{?requested_by} \else \set requested_by '' \endif
-- limit: rows at most, the latest first
\if :{?limit} \else \set limit '100' \endif

WITH cancellations AS (
    SELECT CASE t.from_status WHEN 'pending' THEN t.at ELSE j.cancel_requested_at END AS requested_at,
           t.actor AS requested_by,
           -- who gives no reason gets one from the service
           coalesce(j.cancel_reason,
                    CASE WHEN t.reason IN ('cancelled', 'released', 'drained', 'rescued', t.error ->> 'type') THEN NULL ELSE t.reason END
           ) AS reason,
           t.job_id, t.task, t.from_status, t.to_status AS ended_as, t.at AS ended_at, t.actor AS ended_by
      FROM jobtrail.transitions t
      -- the row speaks of its last cancellation only
      LEFT JOIN jobtrail.jobs j ON j.id = t.job_id AND j.seq = t.seq
     WHERE t.to_status = 'cancelled'
       AND t.at >= (statement_timestamp() AT TIME ZONE 'UTC' - :'since'::interval) AT TIME ZONE 'UTC'
    UNION ALL
    -- asking a running job is no move: when it ended otherwise, or did not end yet, only the row knows of it
    SELECT j.cancel_requested_at, j.cancel_requested_by, j.cancel_reason, j.id, j.task, 'running',
           nullif(j.status, 'running'), j.finished_at, CASE WHEN j.finished_at IS NOT NULL THEN j.moved_by END
      FROM jobtrail.jobs j
     WHERE j.cancel_requested_at IS NOT NULL AND j.status <> 'cancelled'
       AND (j.status = 'running'
            OR j.cancel_requested_at
               >= (statement_timestamp() AT TIME ZONE 'UTC' - :'since'::interval) AT TIME ZONE 'UTC')
)
SELECT *
  FROM cancellations
 WHERE (:'task' = '' OR task = :'task') AND (:'requested_by' = '' OR requested_by = :'requested_by')
 ORDER BY coalesce(requested_at, ended_at) DESC, job_id
 LIMIT :'limit'::bigint;
