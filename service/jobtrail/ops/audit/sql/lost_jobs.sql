-- Which attempts were lost because their node went silent or shut down, and what became of their jobs?
-- since: how far back
\if :{?since} \else \set since '24 hours' \endif
-- task: only this task; empty for all
\if :{?task} \else \set task '' \endif
-- limit: rows at most, the latest first
\if :{?limit} \else \set limit '100' \endif

-- The error tells, not the reason: who cancels a job may give any reason.
WITH lost AS (
    SELECT t.*
      FROM jobtrail.transitions t
     WHERE t.from_status = 'running' AND t.error ->> 'type' = 'lost'
       AND t.at >= (statement_timestamp() AT TIME ZONE 'UTC' - :'since'::interval) AT TIME ZONE 'UTC'
       AND (:'task' = '' OR t.task = :'task')
     ORDER BY t.at DESC, t.job_id, t.seq
     LIMIT :'limit'::bigint
)
SELECT t.at, t.job_id, t.task, t.attempt, t.to_status AS became, coalesce(j.status, 'purged') AS status_now,
       t.node_id, n.host, t.actor AS recorded_by, t.error ->> 'message' AS message
  FROM lost t LEFT JOIN jobtrail.jobs j ON j.id = t.job_id LEFT JOIN jobtrail.nodes n ON n.id = t.node_id
 ORDER BY t.at DESC, t.job_id, t.seq;
