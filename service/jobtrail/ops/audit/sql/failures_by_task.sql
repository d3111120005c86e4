-- Which tasks fail, and how? Counted from the history: what was purged counts too, and a job that was retried by hand
-- counts each time it ended.
-- since: how far back
\if :{?since} \else \set since '24 hours' \endif
-- task: only this task; empty for all
\if :{?task} \else \set task '' \endif
-- limit: rows at most, the most failed jobs first
\if :{?limit} \else \set limit '100' \endif

WITH ends AS MATERIALIZED (
    SELECT t.task, t.to_status, t.at, coalesce(t.error ->> 'type', 'unknown') AS error_type,
           left(t.error ->> 'message', 200) AS message
      FROM jobtrail.transitions t
     WHERE t.at >= (statement_timestamp() AT TIME ZONE 'UTC' - :'since'::interval) AT TIME ZONE 'UTC'
       AND (t.to_status IN ('succeeded', 'failed', 'cancelled') OR (t.to_status = 'pending' AND t.error IS NOT NULL))
       AND (:'task' = '' OR t.task = :'task')
), ended AS (
    SELECT task, count(*) FILTER (WHERE to_status <> 'pending') AS ended FROM ends GROUP BY task
), failed AS (
    SELECT task, error_type, count(*) FILTER (WHERE to_status = 'failed') AS failed, count(*) AS attempts_failed,
           max(at) AS last_at, (array_agg(message ORDER BY at DESC))[1] AS last_message
      FROM ends
     -- what an attempt raised after a cancel was delivered is the cancel's doing
     WHERE to_status IN ('failed', 'pending')
     GROUP BY 1, 2
)
-- attempts_failed has those that were followed by another attempt, too
SELECT task, error_type, e.ended, f.failed, f.attempts_failed,
       round(f.failed::numeric / nullif(e.ended, 0), 4)::float8 AS failure_rate, f.last_at, f.last_message
  FROM failed f JOIN ended e USING (task)
 ORDER BY f.failed DESC, f.attempts_failed DESC, task, error_type
 LIMIT :'limit'::bigint;
