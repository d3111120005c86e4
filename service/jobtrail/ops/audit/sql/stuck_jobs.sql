-- Which unfinished jobs do not get on, and why? A running job whose node stopped renewing, one that runs for long, a
-- pending one that is paused, one that nobody alive can run, one that waits for long.
-- longer_than: running or overdue for longer than this is long
\if :{?longer_than} \else \set longer_than '5 minutes' \endif
-- silent: a node that was not heard of for this long, nor within its lease, is not alive
\if :{?silent} \else \set silent '1 minute' \endif
-- task: only this task; empty for all
\if :{?task} \else \set task '' \endif
-- limit: rows at most, those that are stuck longest first
\if :{?limit} \else \set limit '100' \endif

WITH known AS MATERIALIZED (
    -- what the living can run: a node that names no queue serves all of them
    SELECT task, bool_or(n.queues = '{}') AS everywhere, array_agg(queue) AS queues
      FROM jobtrail.nodes n CROSS JOIN unnest(n.tasks) AS task LEFT JOIN unnest(n.queues) AS queue ON true
     WHERE n.heartbeat_at >= (statement_timestamp() AT TIME ZONE 'UTC' - :'silent'::interval) AT TIME ZONE 'UTC'
        OR n.heartbeat_at >= (statement_timestamp() AT TIME ZONE 'UTC' - n.lease) AT TIME ZONE 'UTC'
     GROUP BY task
), candidates AS (
    SELECT j.id, j.task, j.started_at AS since,
           CASE WHEN j.lease_until < statement_timestamp() THEN 'its lease ran out: the node does not renew it'
                WHEN j.started_at
                     < (statement_timestamp() AT TIME ZONE 'UTC' - :'longer_than'::interval) AT TIME ZONE 'UTC'
                    THEN 'it runs for long'
           END AS why
      FROM jobtrail.jobs j
     WHERE j.status = 'running'
    UNION ALL
    SELECT j.id, j.task, greatest(j.run_at, j.due_at, j.created_at),
           CASE WHEN q.name IS NOT NULL THEN concat('its queue is paused by ', q.paused_by, ': ' || q.reason)
                WHEN t.name IS NOT NULL THEN concat('its task is paused by ', t.paused_by, ': ' || t.reason)
                WHEN k.task IS NULL THEN 'no living node knows its task and has a place for it'
                WHEN NOT k.everywhere AND (j.queue = ANY(k.queues)) IS NOT TRUE
                    THEN 'no living node that knows its task serves its queue'
                WHEN greatest(j.run_at, j.due_at, j.created_at)
                     < (statement_timestamp() AT TIME ZONE 'UTC' - :'longer_than'::interval) AT TIME ZONE 'UTC'
                    THEN CASE WHEN j.limit_keys IS NULL THEN 'it waits for a slot for long'
                              ELSE 'it waits for its limits for long: see limits_full' END
           END
      FROM jobtrail.jobs j LEFT JOIN known k ON k.task = j.task
      LEFT JOIN jobtrail.pauses q ON q.kind = 'queue' AND q.name = j.queue
      LEFT JOIN jobtrail.pauses t ON t.kind = 'task' AND t.name = j.task
     WHERE j.status = 'pending' AND NOT j.waits AND coalesce(j.run_at, j.due_at) <= statement_timestamp()
), stuck AS (
    SELECT id, since, why
      FROM candidates
     WHERE why IS NOT NULL AND (:'task' = '' OR task = :'task')
     ORDER BY since, id
     LIMIT :'limit'::bigint
)
SELECT j.id AS job_id, j.task, j.queue, j.status, s.why, s.since,
       round(extract(epoch FROM statement_timestamp() - s.since), 3)::float8 AS seconds,
       j.attempt, j.lease_until, j.node_id, n.host, n.heartbeat_at, j.cancel_requested_at, j.created_by
  FROM stuck s JOIN jobtrail.jobs j ON j.id = s.id LEFT JOIN jobtrail.nodes n ON n.id = j.node_id
 ORDER BY s.since, j.id;
