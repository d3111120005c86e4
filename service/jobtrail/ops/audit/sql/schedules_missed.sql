-- Which due times of schedules did not become jobs, and why? Those that nodes were not there for, that met an unfinished
-- job, whose arguments no longer fit; and those that are due for longer than a tick takes, since no node knows the task.
-- since: how far back
\if :{?since} \else \set since '24 hours' \endif
-- silent: what is due for this long is not being looked at
\if :{?silent} \else \set silent '1 minute' \endif
-- task: only this task; empty for all
\if :{?task} \else \set task '' \endif
-- limit: rows at most, the latest first
\if :{?limit} \else \set limit '100' \endif

WITH found AS (
    SELECT k.last_at AS at, k.schedule, k.reason, k.count, k.last_for
      FROM jobtrail.schedule_skips k
     WHERE k.last_at >= (statement_timestamp() AT TIME ZONE 'UTC' - :'since'::interval) AT TIME ZONE 'UTC'
    UNION ALL
    SELECT s.next_at, s.name, 'overdue', NULL, s.next_at
      FROM jobtrail.schedules s
     WHERE s.paused_at IS NULL AND s.disabled_at IS NULL AND isfinite(s.next_at)
       AND s.next_at < (statement_timestamp() AT TIME ZONE 'UTC' - :'silent'::interval) AT TIME ZONE 'UTC'
)
SELECT f.at, f.schedule, s.task, f.reason, f.count AS times, f.last_for, s.missed, s.overlap
  FROM found f JOIN jobtrail.schedules s ON s.name = f.schedule
 WHERE :'task' = '' OR s.task = :'task'
 ORDER BY f.at DESC, f.schedule, f.reason
 LIMIT :'limit'::bigint;
