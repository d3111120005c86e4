-- Which jobs took longest? By the run time of the last attempt, and how long that attempt had waited for a slot; a job
-- that still runs counts up to now.
-- since: how far back a job may have ended
\if :{?since} \else \set since '24 hours' \endif
-- task: only this task; empty for all
\if :{?task} \else \set task '' \endif
-- queue: only this queue; empty for all
\if :{?queue} \else \set queue '' \endif
-- limit: rows at most, the slowest first
\if :{?limit} \else \set limit '100' \endif

WITH slowest AS (
    SELECT j.*, coalesce(j.finished_at, statement_timestamp()) - j.started_at AS run
      FROM jobtrail.jobs j
     WHERE j.started_at IS NOT NULL
       AND (j.finished_at IS NULL
            OR j.finished_at >= (statement_timestamp() AT TIME ZONE 'UTC' - :'since'::interval) AT TIME ZONE 'UTC')
       AND (:'task' = '' OR j.task = :'task')
       AND (:'queue' = '' OR j.queue = :'queue')
     ORDER BY run DESC, j.id
     LIMIT :'limit'::bigint
)
SELECT id AS job_id, task, queue, status, attempt,
       round(extract(epoch FROM run), 3)::float8 AS run_seconds,
       round(extract(epoch FROM started_at - greatest(coalesce(run_at, due_at), created_at)), 3)::float8 AS wait_seconds,
       created_at, started_at, finished_at, node_id
  FROM slowest
 ORDER BY run DESC, id;
