-- What is derived from the history and is behind it: the deliveries of webhooks, the numbers (minutes) of stats? Seconds
-- are usual where little moves, minutes are not. What stands still keeps the marks of the feed that it has yet to pass, and the history that is in them.
-- limit: rows at most, those that are furthest behind first
\if :{?limit} \else \set limit '100' \endif

SELECT c.name, c.no AS passed, newest.no AS newest, ahead.at AS behind_since,
       round(extract(epoch FROM statement_timestamp() - ahead.at), 3)::float8 AS seconds
  FROM jobtrail.feed_cursors c
 CROSS JOIN (SELECT max(no) AS no FROM jobtrail.feed_marks) newest
 CROSS JOIN LATERAL (SELECT at FROM jobtrail.feed_marks m WHERE m.no > c.no ORDER BY m.no LIMIT 1) ahead
 ORDER BY ahead.at, c.name
 LIMIT :'limit'::bigint;
