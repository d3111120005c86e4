-- Which finished jobs will be purged soon? What is past its time goes with the next purge.
-- within: how soon
\if :{?within} \else \set within '24 hours' \endif
-- task: only this task; empty for all
\if :{?task} \else \set task '' \endif
-- limit: rows at most, the next to go first
\if :{?limit} \else \set limit '100' \endif

SELECT j.expires_at,
       round(extract(epoch FROM j.expires_at - statement_timestamp()), 3)::float8 AS seconds_left,
       j.id AS job_id, j.task, j.status, j.attempt, j.created_at, j.finished_at, j.created_by, j.trace_id
  FROM jobtrail.jobs j
 WHERE j.expires_at <= (statement_timestamp() AT TIME ZONE 'UTC' + :'within'::interval) AT TIME ZONE 'UTC'
   AND (:'task' = '' OR j.task = :'task')
 ORDER BY j.expires_at, j.id
 LIMIT :'limit'::bigint;
