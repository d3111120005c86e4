-- How much was done in each hour? Hours in UTC, whole ones but for the current one; an hour without work is there too.
-- since: how far back
\if :{?since} \else \set since '24 hours' \endif
-- task: only this task; empty for all
\if :{?task} \else \set task '' \endif
-- limit: rows at most, the latest first
\if :{?limit} \else \set limit '100' \endif

WITH hours AS (
    -- downwards, so that the limit is reached before a long time has been gone through
    SELECT generate_series(date_trunc('hour', statement_timestamp(), 'UTC'),
                           date_trunc('hour', statement_timestamp() AT TIME ZONE 'UTC' - :'since'::interval)
                               AT TIME ZONE 'UTC',
                           interval '-1 hour') AS hour
     LIMIT :'limit'::bigint
), moves AS (
    SELECT date_trunc('hour', t.at, 'UTC') AS hour,
           count(*) FILTER (WHERE t.from_status IS NULL) AS submitted,
           count(*) FILTER (WHERE t.to_status = 'running') AS started,
           count(*) FILTER (WHERE t.to_status = 'succeeded') AS succeeded,
           count(*) FILTER (WHERE t.to_status = 'failed') AS failed,
           count(*) FILTER (WHERE t.to_status = 'cancelled') AS cancelled
      FROM jobtrail.transitions t
     WHERE t.at >= (SELECT min(hour) FROM hours)
       -- the planner cannot guess the line above, but this one
       AND t.at >= (statement_timestamp() AT TIME ZONE 'UTC' - :'since'::interval) AT TIME ZONE 'UTC'
                   - interval '1 hour'
       AND (:'task' = '' OR t.task = :'task')
     GROUP BY 1
)
SELECT hour, coalesce(submitted, 0) AS submitted, coalesce(started, 0) AS started,
       coalesce(succeeded, 0) AS succeeded, coalesce(failed, 0) AS failed, coalesce(cancelled, 0) AS cancelled
  FROM hours LEFT JOIN moves USING (hour)
 ORDER BY hour DESC;
