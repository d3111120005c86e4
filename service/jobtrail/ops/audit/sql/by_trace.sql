-- Which jobs belong to a trace, and how did they end? Purged jobs too.
-- trace_id: 32 hex digits; the id of a job will do for a job that began its own trace
\if :{?trace_id} \else \set trace_id '' \endif
-- purged_since: how far back to look for purged jobs of a trace that came from outside
\if :{?purged_since} \else \set purged_since '7 days' \endif
-- limit: rows at most, the earliest first
\if :{?limit} \else \set limit '100' \endif

WITH trace AS MATERIALIZED (
    SELECT :'trace_id'::uuid AS id, replace((:'trace_id'::uuid)::text, '-', '') AS hex
), present AS (
    -- ix_jobs_trace holds only traces from outside: a job's own trace is found by its id
    SELECT j.id FROM trace JOIN jobtrail.jobs j ON j.id = trace.id AND j.trace_id = trace.hex
    UNION ALL
    SELECT j.id
      FROM trace JOIN jobtrail.jobs j ON j.trace_id = trace.hex AND j.trace_id <> replace(j.id::text, '-', '')
), gone AS (
    SELECT t.* FROM trace JOIN jobtrail.transitions t ON t.job_id = trace.id AND t.trace_id = trace.hex
     WHERE t.to_status = 'purged'
    UNION ALL
    -- ix_transitions_trace, too, holds only traces from outside
    SELECT t.* FROM trace JOIN jobtrail.transitions t ON t.trace_id = trace.hex
     WHERE t.to_status = 'purged' AND t.trace_id <> replace(t.job_id::text, '-', '')
       AND t.at >= (statement_timestamp() AT TIME ZONE 'UTC' - :'purged_since'::interval) AT TIME ZONE 'UTC'
)
SELECT j.id AS job_id, j.task, j.status, j.attempt, j.created_by, j.created_at, j.started_at, j.finished_at,
       NULL::timestamptz AS purged_at, j.error ->> 'type' AS error_type
  FROM present JOIN jobtrail.jobs j USING (id)
UNION ALL
SELECT g.job_id, g.task, g.from_status, g.attempt, birth.actor, birth.at, started.at, ended.at, g.at,
       ended.error ->> 'type'
  FROM gone g
  LEFT JOIN jobtrail.transitions birth ON birth.job_id = g.job_id AND birth.seq = 1
  LEFT JOIN jobtrail.transitions ended ON ended.job_id = g.job_id AND ended.seq = g.seq - 1
  LEFT JOIN jobtrail.transitions started
         ON started.job_id = g.job_id AND started.seq = g.seq - 2 AND started.to_status = 'running'
 ORDER BY created_at, job_id
 LIMIT :'limit'::bigint;
