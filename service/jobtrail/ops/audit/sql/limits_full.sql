-- Which limits are full, how many jobs wait behind them, and for how long? Those that an override of 0 pauses, too.
-- The numbers are those with which the jobs were submitted; a deploy may have changed them since.
-- key: only this key; empty for all
\if :{?key} \else \set key '' \endif
-- limit: rows at most, those with the longest wait first
\if :{?limit} \else \set limit '100' \endif

WITH RECURSIVE lanes AS (
    (SELECT limit_keys AS lane, limit_terms AS terms FROM jobtrail.jobs
      WHERE status = 'pending' AND limit_keys IS NOT NULL ORDER BY limit_keys LIMIT 1)
    UNION ALL
    SELECT n.lane, n.terms FROM lanes l CROSS JOIN LATERAL (
        SELECT limit_keys AS lane, limit_terms AS terms FROM jobtrail.jobs
         WHERE status = 'pending' AND limit_keys IS NOT NULL AND limit_keys > l.lane ORDER BY limit_keys LIMIT 1) n
), waiting AS (
    SELECT u.key, max((u.term ->> 'number')::numeric) AS number, max((u.term ->> 'per')::numeric) AS per,
           min((u.term ->> 'cost')::numeric) AS cost, least(sum(w.jobs), 1000) AS jobs, min(w.oldest) AS oldest
      FROM lanes l
     CROSS JOIN LATERAL (
           SELECT count(*) AS jobs, min(due_at) AS oldest FROM (
               SELECT due_at FROM jobtrail.jobs
                WHERE status = 'pending' AND limit_keys IS NOT NULL AND limit_keys = l.lane AND NOT waits
                  AND due_at <= statement_timestamp()
                LIMIT 1000) due) w
     CROSS JOIN LATERAL ROWS FROM (unnest(l.lane), jsonb_array_elements(l.terms)) AS u(key, term)
     WHERE w.jobs > 0 AND u.key IS NOT NULL
     GROUP BY u.key
), running AS MATERIALIZED (
    SELECT key, count(*) AS jobs FROM jobtrail.jobs CROSS JOIN LATERAL unnest(limit_keys) AS key
     WHERE status = 'running' AND limit_keys IS NOT NULL GROUP BY key
), judged AS (
    SELECT w.key, CASE WHEN w.per IS NULL THEN 'limit' ELSE 'rate' END AS kind,
           coalesce(l.override, w.number, 1) AS number, l.override, coalesce(r.jobs, 0) AS running, s.spent,
           w.jobs AS waiting, w.oldest, w.cost
      FROM waiting w LEFT JOIN running r ON r.key = w.key LEFT JOIN jobtrail.limits l ON l.key = w.key
      LEFT JOIN LATERAL (
           SELECT coalesce(sum(cost), 0) AS spent FROM jobtrail.rate_spent
            WHERE key = w.key AND slice >= statement_timestamp() - w.per * 1.01 * interval '1 second') s
           ON w.per IS NOT NULL
)
SELECT key, kind, number, override, running, spent, waiting, oldest AS waiting_since,
       round(extract(epoch FROM statement_timestamp() - oldest), 3)::float8 AS seconds
  FROM judged
 WHERE (:'key' = '' OR key = :'key')
   AND CASE WHEN kind = 'limit' THEN running + 1 > number ELSE number = 0 OR spent + cost > number END
 ORDER BY oldest, key
 LIMIT :'limit'::bigint;
