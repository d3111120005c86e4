"""Unique keys: at most one unfinished job of a key; or, replaceable, one that waits and takes the newest arguments.

Runs of a replaceable key do not overlap: its jobs have the limit key `unique:KEY`, which lets one run. A job that has
begun is never the one that waits, so an attempt that failed goes back beside its follow-up, and goes first: a claim
passes by what has not begun while one of its key waits to run again.
"""

from alembic import op

revision = "202611291400"
down_revision = "202611291310"
branch_labels = None
depends_on = None

COLUMNS = """
ALTER TABLE jobtrail.jobs ADD COLUMN unique_key text, ADD COLUMN replaceable boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT ck_jobs_unique_key CHECK (length(unique_key) BETWEEN 1 AND 200),
    ADD CONSTRAINT ck_jobs_replaceable CHECK (NOT replaceable OR unique_key IS NOT NULL)
"""

# The status as an expression: what asks for it in these words can be answered by no index of all that is pending.
INDEXES = (
    """CREATE UNIQUE INDEX uq_jobs_unique ON jobtrail.jobs (unique_key)
        WHERE unique_key IS NOT NULL AND NOT replaceable AND status || '' IN ('pending', 'running')""",
    """CREATE UNIQUE INDEX uq_jobs_replaceable ON jobtrail.jobs (unique_key)
        WHERE replaceable AND status || '' = 'pending' AND attempt = 0""",
    """CREATE INDEX ix_jobs_again ON jobtrail.jobs (unique_key)
        WHERE replaceable AND status || '' = 'pending' AND attempt > 0""",
)

# The same as before, but for {first}: what may not begin yet is no reason to look at its lane either.
CLAIM = """
CREATE OR REPLACE FUNCTION jobtrail.claim_limited(
    by_node uuid, lease interval, tasks text[], queues text[], free int, declared jsonb, start text[], hints uuid[]
) RETURNS TABLE (
    id uuid, attempt int, task text, args text, trace_id text, max_attempts int, timeout interval, created_by text,
    given_back int, cursor_text text, priority smallint, due_at timestamptz)
LANGUAGE plpgsql SET lock_timeout = '500ms' SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET jit = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    lanes text[]; wanted text[]; held text[]; chosen uuid[] := '{}'; blocked bigint[] := '{}';
    overrides jsonb; running jsonb; terms jsonb; number numeric; spent numeric; per numeric; room_at timestamptz;
    taken jsonb := '{}'; pers jsonb := '{}'; cost numeric; wake interval; fits boolean;
    after text[]; taken_from text[]; candidate record; each record;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'jobtrail: limited jobs are claimed in READ COMMITTED, not in %',
            upper(current_setting('transaction_isolation'));
    END IF;
    tasks := ARRAY(SELECT unnest(tasks) EXCEPT SELECT name FROM jobtrail.pauses WHERE kind = 'task');

    WITH RECURSIVE ahead AS (
        (SELECT limit_keys AS lane FROM jobtrail.jobs
          WHERE status = 'pending' AND limit_keys IS NOT NULL AND limit_keys > start ORDER BY limit_keys LIMIT 1)
        UNION ALL
        SELECT n.lane FROM ahead a CROSS JOIN LATERAL (
            SELECT limit_keys AS lane FROM jobtrail.jobs
             WHERE status = 'pending' AND limit_keys IS NOT NULL AND limit_keys > a.lane ORDER BY limit_keys LIMIT 1) n
    ), around AS (
        (SELECT limit_keys AS lane FROM jobtrail.jobs
          WHERE status = 'pending' AND limit_keys IS NOT NULL AND limit_keys <= start ORDER BY limit_keys LIMIT 1)
        UNION ALL
        SELECT n.lane FROM around a CROSS JOIN LATERAL (
            SELECT limit_keys AS lane FROM jobtrail.jobs
             WHERE status = 'pending' AND limit_keys IS NOT NULL AND limit_keys > a.lane AND limit_keys <= start
             ORDER BY limit_keys LIMIT 1) n
    ), seen AS MATERIALIZED (
        SELECT lane, row_number() OVER () AS place
          FROM (SELECT lane FROM ahead UNION ALL SELECT lane FROM around LIMIT 300) window_of_lanes
    ), asked AS (
        SELECT lane, place FROM seen
        UNION ALL
        SELECT DISTINCT ON (limit_keys) limit_keys, 301 FROM jobtrail.jobs
         WHERE id = ANY(hints) AND limit_keys IS NOT NULL AND limit_keys NOT IN (SELECT lane FROM seen)
    ), counts AS (
        SELECT k AS key, count(*) AS number, max((t ->> 'number')::numeric) AS said, max(t ->> 'template') AS template
          FROM jobtrail.jobs j CROSS JOIN LATERAL ROWS FROM (
               unnest(j.limit_keys), jsonb_array_elements(j.limit_terms)) AS u(k, t)
         WHERE j.status = 'running' AND j.limit_keys IS NOT NULL AND k IS NOT NULL AND t ->> 'per' IS NULL
         GROUP BY k
    ), full_keys AS MATERIALIZED (
        SELECT c.key FROM counts c
         WHERE c.number + 1 > coalesce((SELECT l.override FROM jobtrail.limits l WHERE l.key = c.key),
                                    (declared -> c.template ->> 'number')::numeric, c.said, 1)
        UNION ALL
        SELECT l.key FROM jobtrail.limits l WHERE l.override IS NOT NULL AND l.override = 0
    ), open_lanes AS (
        SELECT a.lane, a.place FROM asked a
         WHERE NOT EXISTS (SELECT FROM unnest(a.lane) AS k WHERE k IN (SELECT key FROM full_keys))
           AND EXISTS (
               SELECT FROM generate_series(9, 0, -1) AS p CROSS JOIN LATERAL (
                   SELECT FROM jobtrail.jobs j
                    WHERE j.status = 'pending' AND j.limit_keys IS NOT NULL AND j.limit_keys = a.lane
                      AND j.priority = p::smallint AND j.due_at <= statement_timestamp() AND NOT j.waits
                      AND j.task = ANY(tasks) AND (queues = '{}' OR j.queue = ANY(queues))
                      AND NOT EXISTS (
                          SELECT FROM jobtrail.pauses x WHERE x.kind = 'queue' AND x.name = j.queue) {first}
                    LIMIT 1) due)
         LIMIT 100
    )
    SELECT (SELECT array_agg(lane::text ORDER BY place) FROM open_lanes),
           (SELECT lane FROM seen ORDER BY place DESC LIMIT 1)
      INTO lanes, after;
    IF cardinality(lanes) = 100 THEN
        after := lanes[100]::text[];
    END IF;

    IF lanes IS NOT NULL THEN
        wanted := ARRAY(SELECT DISTINCT k FROM unnest(lanes) AS l, unnest(l::text[]) AS k ORDER BY k);
        BEGIN
            INSERT INTO jobtrail.limits (key)
            SELECT k FROM unnest(wanted) AS k WHERE NOT EXISTS (SELECT FROM jobtrail.limits l WHERE l.key = k)
             ORDER BY k ON CONFLICT DO NOTHING;
        EXCEPTION WHEN lock_not_available THEN
            NULL;  -- somebody's open transaction makes one of them: the lanes of the others go on
        END;
        BEGIN
            SELECT array_agg(l.key), jsonb_object_agg(l.key, l.override) INTO held, overrides
              FROM (SELECT key, override FROM jobtrail.limits
                     WHERE key = ANY(wanted) ORDER BY key FOR NO KEY UPDATE) l;
        EXCEPTION WHEN lock_not_available THEN
            SELECT array_agg(l.key), jsonb_object_agg(l.key, l.override) INTO held, overrides
              FROM (SELECT key, override FROM jobtrail.limits
                     WHERE key = ANY(wanted) ORDER BY key FOR NO KEY UPDATE SKIP LOCKED) l;
        END;

        SELECT coalesce(jsonb_object_agg(k, c), '{}') INTO running FROM (
            SELECT k, count(*) AS c FROM jobtrail.jobs j CROSS JOIN LATERAL unnest(j.limit_keys) AS k
             WHERE j.status = 'running' AND j.limit_keys IS NOT NULL AND k = ANY(held)
             GROUP BY k) counted_keys;

        FOR candidate IN
            SELECT l.place, l.lane::text[] AS keys, d.id, d.limit_terms
              FROM unnest(lanes) WITH ORDINALITY AS l(lane, place)
             CROSS JOIN LATERAL (
                SELECT row_number() OVER () AS turn, j.id, j.limit_terms
                  FROM generate_series(9, 0, -1) AS p CROSS JOIN LATERAL (
                       SELECT j.id, j.limit_terms FROM jobtrail.jobs j
                        WHERE j.status = 'pending' AND j.limit_keys IS NOT NULL AND j.limit_keys = l.lane::text[]
                          AND j.priority = p::smallint AND j.due_at <= statement_timestamp() AND NOT j.waits
                          AND j.task = ANY(tasks) AND (queues = '{}' OR j.queue = ANY(queues))
                          AND NOT EXISTS (
                              SELECT FROM jobtrail.pauses x WHERE x.kind = 'queue' AND x.name = j.queue) {first}
                        ORDER BY j.due_at, j.id LIMIT free) j
                 LIMIT least(free, 1 + 2 * free / cardinality(lanes))) d
             WHERE l.lane::text[] <@ held
             ORDER BY d.turn, l.place
        LOOP
            EXIT WHEN cardinality(chosen) >= free;
            CONTINUE WHEN candidate.place = ANY(blocked);
            fits := true;
            FOR each IN SELECT * FROM ROWS FROM (
                unnest(candidate.keys), jsonb_array_elements(candidate.limit_terms)) AS u(key, term)
                WHERE key IS NOT NULL
            LOOP
                terms := coalesce(each.term || coalesce(declared -> (each.term ->> 'template'), '{}'), '{}');
                number := coalesce((overrides ->> each.key)::numeric, (terms ->> 'number')::numeric, 1);
                per := (terms ->> 'per')::numeric;
                IF per IS NULL THEN
                    fits := fits AND coalesce((running ->> each.key)::numeric, 0) + 1 <= number;
                ELSE
                    cost := coalesce((terms ->> 'cost')::numeric, 1);
                    SELECT coalesce(sum(s.cost), 0) + coalesce((taken ->> each.key)::numeric, 0), min(s.slice)
                      INTO spent, room_at FROM jobtrail.rate_spent s
                     WHERE s.key = each.key
                       AND s.slice >= jobtrail.slice_of(clock_timestamp(), per) - per * 1.001 * interval '1 second';
                    -- what costs more than the number, as it is now, runs alone
                    IF number = 0 OR spent > 0 AND spent + cost > number THEN
                        fits := false;
                        wake := least(wake, room_at + per * 1.01 * interval '1 second' - clock_timestamp());
                    END IF;
                END IF;
            END LOOP;
            IF NOT fits THEN
                blocked := blocked || candidate.place;
                CONTINUE;
            END IF;
            -- cancelled or changed meanwhile, or just being changed
            PERFORM FROM jobtrail.jobs j
              WHERE j.id = candidate.id AND j.status = 'pending' AND j.limit_keys = candidate.keys
                AND j.due_at <= statement_timestamp()
                FOR NO KEY UPDATE SKIP LOCKED;
            CONTINUE WHEN NOT FOUND;
            chosen := chosen || candidate.id;
            taken_from := candidate.keys;
            FOR each IN SELECT * FROM ROWS FROM (
                unnest(candidate.keys), jsonb_array_elements(candidate.limit_terms)) AS u(key, term)
                WHERE key IS NOT NULL
            LOOP
                terms := coalesce(each.term || coalesce(declared -> (each.term ->> 'template'), '{}'), '{}');
                per := (terms ->> 'per')::numeric;
                IF per IS NULL THEN
                    running := running || jsonb_build_object(
                        each.key, coalesce((running ->> each.key)::bigint, 0) + 1);
                ELSE
                    taken := taken || jsonb_build_object(each.key, coalesce((taken ->> each.key)::numeric, 0)
                             + coalesce((terms ->> 'cost')::numeric, 1));
                    pers := pers || jsonb_build_object(each.key, per);
                END IF;
            END LOOP;
        END LOOP;
    END IF;

    IF chosen <> '{}' THEN
        RETURN QUERY
        UPDATE jobtrail.jobs j
           SET status = 'running', attempt = j.attempt + 1, seq = j.seq + 1, moved_by = 'node',
               move_reason = 'claimed', node_id = by_node, lease_until = clock_timestamp() + lease,
               started_at = clock_timestamp(), error = NULL, progress = NULL,
               max_attempts = greatest(j.max_attempts, j.attempt + 1)
         WHERE j.id = ANY(chosen) AND j.status || '' = 'pending'
        RETURNING j.id, j.attempt, j.task, CAST(j.args AS text), j.trace_id, j.max_attempts, j.timeout, j.created_by,
                  j.given_back, CAST(j.cursor AS text), j.priority, j.due_at;
        INSERT INTO jobtrail.rate_spent AS s (key, slice, cost, until)
        SELECT k, jobtrail.slice_of(clock_timestamp(), (pers ->> k)::numeric), c::numeric,
               clock_timestamp() + (pers ->> k)::numeric * 1.01 * interval '1 second'
          FROM jsonb_each_text(taken) AS u(k, c) ORDER BY k
            ON CONFLICT (key, slice) DO UPDATE SET cost = s.cost + excluded.cost;
    END IF;
    RETURN QUERY SELECT NULL::uuid, NULL::int, NULL::text, to_jsonb(coalesce(taken_from, after, '{}'))::text,
                        NULL::text, NULL::int, wake, NULL::text, NULL::int, NULL::text, NULL::smallint,
                        NULL::timestamptz;
END $$
"""

FIRST = """AND NOT (j.replaceable AND j.attempt = 0 AND EXISTS (
                              SELECT FROM jobtrail.jobs b WHERE b.unique_key = j.unique_key
                                 AND b.replaceable AND b.status || '' = 'pending' AND b.attempt > 0))"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in (COLUMNS, *INDEXES, CLAIM.replace("{first}", FIRST)):
        op.execute(statement)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(CLAIM.replace(" {first}", ""))
    op.execute("DROP INDEX jobtrail.uq_jobs_unique, jobtrail.uq_jobs_replaceable, jobtrail.ix_jobs_again")
    op.execute("ALTER TABLE jobtrail.jobs DROP COLUMN unique_key, DROP COLUMN replaceable")
