-- Which batches are not done, and what do they wait for? Those of which no job is left unfinished are done within seconds
-- by any living node.
-- created_by: only those of this caller; empty for all
\if :{?created_by} \else \set created_by '' \endif
-- limit: rows at most, the oldest first
\if :{?limit} \else \set limit '100' \endif

SELECT b.id AS batch_id, b.created_by, b.created_at, b.total, n.pending, n.waiting, n.running, n.failed, n.cancelled,
       round((b.total - n.pending - n.running)::numeric / b.total, 3)::float8 AS progress,
       b.on_done ->> 'task' AS on_done_task
  FROM (SELECT * FROM jobtrail.batches
         WHERE done_at IS NULL AND (:'created_by' = '' OR created_by = :'created_by')
         ORDER BY id LIMIT :'limit'::bigint) b
 CROSS JOIN LATERAL (
       SELECT count(*) FILTER (WHERE status = 'pending') AS pending,
              count(*) FILTER (WHERE status = 'pending' AND waits) AS waiting,
              count(*) FILTER (WHERE status = 'running') AS running,
              count(*) FILTER (WHERE status = 'failed') AS failed,
              count(*) FILTER (WHERE status = 'cancelled') AS cancelled
         FROM jobtrail.jobs j WHERE j.batch_id = b.id) n
 ORDER BY b.id;
