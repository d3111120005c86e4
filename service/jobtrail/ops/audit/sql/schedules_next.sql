-- Which schedules are due next? Paused, disabled and ended ones are not among them; a time in the past is found by the
-- next tick of a node that knows the task.
-- within: due within this much from now
\if :{?within} \else \set within '24 hours' \endif
-- task: only this task; empty for all
\if :{?task} \else \set task '' \endif
-- limit: rows at most, those that are due first
\if :{?limit} \else \set limit '100' \endif

SELECT CASE WHEN isfinite(s.next_at) THEN s.next_at END AS due_at, s.name, s.task, s.cron,
       round(extract(epoch FROM s.every), 3)::float8 AS every_seconds, s.zone, s.missed, s.overlap,
       CASE WHEN s.declared IS NULL THEN 'hand' ELSE 'code' END AS made_by, s.edited_by, s.override_by
  FROM jobtrail.schedules s
 WHERE s.paused_at IS NULL AND s.disabled_at IS NULL
   AND s.next_at <= (statement_timestamp() AT TIME ZONE 'UTC' + :'within'::interval) AT TIME ZONE 'UTC'
   AND (:'task' = '' OR s.task = :'task')
 ORDER BY s.next_at, s.name
 LIMIT :'limit'::bigint;
