-- Which jobs were purged, when, and by whom? The history keeps them after their rows are gone.
-- since: how far back
\if :{?since} \else \set since '24 hours' \endif
-- task: only this task; empty for all
\if :{?task} \else \set task '' \endif
-- limit: rows at most, the latest first
\if :{?limit} \else \set limit '100' \endif

WITH purged AS (
    SELECT t.*
      FROM jobtrail.transitions t
     WHERE t.to_status = 'purged'
       AND t.at >= (statement_timestamp() AT TIME ZONE 'UTC' - :'since'::interval) AT TIME ZONE 'UTC'
       AND (:'task' = '' OR t.task = :'task')
     ORDER BY t.at DESC, t.job_id
     LIMIT :'limit'::bigint
)
SELECT p.at AS purged_at, p.actor AS purged_by, p.job_id, p.task, p.from_status AS ended_as, p.attempt,
       birth.at AS created_at, birth.actor AS created_by, ended.at AS finished_at,
       round(extract(epoch FROM p.at - ended.at), 3)::float8 AS kept_seconds, p.trace_id
  FROM purged p
  LEFT JOIN jobtrail.transitions birth ON birth.job_id = p.job_id AND birth.seq = 1
  LEFT JOIN jobtrail.transitions ended ON ended.job_id = p.job_id AND ended.seq = p.seq - 1
 ORDER BY p.at DESC, p.job_id;
