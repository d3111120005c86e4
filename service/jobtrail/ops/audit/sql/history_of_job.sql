-- What happened to a job, move by move? Its history answers also when its row was purged.
-- id: the job
\if :{?id} \else \set id '' \endif
-- limit: rows at most, the earliest moves
\if :{?limit} \else \set limit '100' \endif

SELECT t.seq, t.at,
       round(extract(epoch FROM t.at - lag(t.at) OVER (ORDER BY t.seq)), 3)::float8 AS seconds_since_last,
       t.from_status, t.to_status, t.attempt, t.actor, t.reason, t.node_id,
       t.error ->> 'type' AS error_type, t.error ->> 'message' AS error_message, t.task, t.trace_id
  FROM jobtrail.transitions t
 WHERE t.job_id = :'id'::uuid
 ORDER BY t.seq
 LIMIT :'limit'::bigint;
