"""Jobs, their history, the nodes, and the triggers that guard them.

The statements are plain SQL because the promise is made of them: what an auditor reads here is what runs.
"""

from alembic import op

revision = "202611220300"
down_revision = None
branch_labels = None
depends_on = None

JOBS = """
CREATE TABLE jobtrail.jobs (
    id uuid NOT NULL,
    task text NOT NULL,
    queue text NOT NULL DEFAULT 'default',
    args jsonb NOT NULL DEFAULT '{}',
    status text NOT NULL DEFAULT 'pending',
    result jsonb,
    error jsonb,
    trace_id text NOT NULL DEFAULT replace(gen_random_uuid()::text, '-', ''),
    priority smallint NOT NULL DEFAULT 5,
    tags text[] NOT NULL DEFAULT '{}',
    attempt integer NOT NULL DEFAULT 0,
    max_attempts integer NOT NULL DEFAULT 1,
    timeout interval,
    run_at timestamptz DEFAULT clock_timestamp(),
    progress jsonb,
    idempotency_key text,
    request_hash bytea,
    created_by text NOT NULL DEFAULT session_user,
    node_id uuid,
    lease_until timestamptz,
    cancel_requested_at timestamptz,
    cancel_requested_by text,
    cancel_reason text,
    seq integer NOT NULL DEFAULT 1,
    moved_by text NOT NULL DEFAULT session_user,
    move_reason text DEFAULT 'sql',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz,
    ttl interval DEFAULT '7 days',
    ttl_failed interval DEFAULT '30 days',
    expires_at timestamptz,
    CONSTRAINT pk_jobs PRIMARY KEY (id),
    CONSTRAINT ck_jobs_status CHECK (status IN ('pending', 'running', 'succeeded', 'failed', 'cancelled')),
    CONSTRAINT ck_jobs_texts CHECK (
        length(task) BETWEEN 1 AND 200 AND length(queue) BETWEEN 1 AND 100 AND length(created_by) BETWEEN 1 AND 255
        AND length(idempotency_key) BETWEEN 1 AND 255 AND length(trace_id) = 32),
    CONSTRAINT ck_jobs_tags CHECK (
        cardinality(tags) <= 20 AND array_position(tags, NULL) IS NULL AND octet_length(tags::text) <= 8000),
    CONSTRAINT ck_jobs_args CHECK (jsonb_typeof(args) = 'object'),
    CONSTRAINT ck_jobs_priority CHECK (priority BETWEEN 0 AND 9),
    CONSTRAINT ck_jobs_attempts CHECK (attempt BETWEEN 0 AND max_attempts AND max_attempts >= 1),
    -- what no driver can read would end every claim and every list that meets it
    CONSTRAINT ck_jobs_durations CHECK (
        timeout > interval '0' AND timeout <= interval '30 days'
        AND ttl BETWEEN interval '0' AND interval '3650 days'
        AND ttl_failed BETWEEN interval '0' AND interval '3650 days'),
    CONSTRAINT ck_jobs_times CHECK (run_at BETWEEN '0001-01-02 00:00Z' AND '9999-12-30 00:00Z'),
    CONSTRAINT ck_jobs_key CHECK ((idempotency_key IS NULL) = (request_hash IS NULL)),
    CONSTRAINT ck_jobs_pending CHECK (status <> 'pending' OR (
        node_id IS NULL AND started_at IS NULL AND cancel_requested_at IS NULL)),
    CONSTRAINT ck_jobs_running CHECK (
        (status = 'running') = (lease_until IS NOT NULL)
        AND (status <> 'running' OR (node_id IS NOT NULL AND started_at IS NOT NULL AND attempt >= 1))),
    CONSTRAINT ck_jobs_finished CHECK (
        (status IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)
        AND (status NOT IN ('succeeded', 'failed') OR attempt >= 1)),
    CONSTRAINT ck_jobs_expiry CHECK (
        (expires_at IS NOT NULL) = (CASE status WHEN 'succeeded' THEN ttl IS NOT NULL
            WHEN 'failed' THEN ttl_failed IS NOT NULL WHEN 'cancelled' THEN ttl_failed IS NOT NULL ELSE false END)),
    CONSTRAINT ck_jobs_error CHECK (CASE status WHEN 'failed' THEN error IS NOT NULL
        WHEN 'succeeded' THEN error IS NULL WHEN 'running' THEN error IS NULL ELSE true END),
    CONSTRAINT ck_jobs_result CHECK (result IS NULL OR status = 'succeeded'),
    CONSTRAINT ck_jobs_cancel CHECK (
        (cancel_requested_at IS NULL) = (cancel_requested_by IS NULL)
        AND (cancel_reason IS NULL OR cancel_requested_at IS NOT NULL)
        AND (status <> 'cancelled' OR cancel_requested_at IS NOT NULL))
) WITH (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0
)
"""

# Every index is written again at each move of a job, so each has to say whose question it answers.
INDEXES = (
    # the claim: one probe per queue and priority, in the order of the claim
    "CREATE INDEX ix_jobs_claim ON jobtrail.jobs (queue, priority, run_at, id) WHERE status = 'pending'",
    # what a node holds (heartbeat, cancel requests) and what rescue sweeps; lease_until stays out of every
    # index so that a renewal is a heap-only update
    "CREATE INDEX ix_jobs_running ON jobtrail.jobs (node_id) WHERE status = 'running'",
    "CREATE INDEX ix_jobs_expiry ON jobtrail.jobs (expires_at) WHERE expires_at IS NOT NULL",
    # lists, newest first; the second for the rare ones that people look for
    "CREATE INDEX ix_jobs_created ON jobtrail.jobs (created_at, id)",
    "CREATE INDEX ix_jobs_ended_badly ON jobtrail.jobs (created_at, id) WHERE status IN ('failed', 'cancelled')",
    "CREATE INDEX ix_jobs_tags ON jobtrail.jobs USING gin (tags) WHERE tags <> '{}'",
    # only traces that came from outside: a job's own trace id is its id, and that has an index
    "CREATE INDEX ix_jobs_trace ON jobtrail.jobs (trace_id) WHERE trace_id <> replace(id::text, '-', '')",
    "CREATE UNIQUE INDEX uq_jobs_key ON jobtrail.jobs (created_by, idempotency_key) WHERE idempotency_key IS NOT NULL",
)

TRANSITIONS = """
CREATE TABLE jobtrail.transitions (
    job_id uuid NOT NULL,
    seq integer NOT NULL,
    attempt integer NOT NULL,
    from_status text,
    to_status text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL,
    node_id uuid,
    reason text,
    error jsonb,
    trace_id text NOT NULL,
    task text NOT NULL,
    xact xid8 NOT NULL DEFAULT pg_current_xact_id(),
    CONSTRAINT pk_transitions PRIMARY KEY (job_id, seq)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05)
"""

# Retention asks which jobs were purged long ago: one entry per life of a job.
PURGED_INDEX = "CREATE INDEX ix_transitions_purged ON jobtrail.transitions (at) WHERE to_status = 'purged'"

# An auditor asks for the last hours. Rows come in the order of time, so a few kilobytes serve millions of them.
AT_INDEX = "CREATE INDEX ix_transitions_at ON jobtrail.transitions USING brin (at)"

NODES = """
CREATE TABLE jobtrail.nodes (
    id uuid NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    version text NOT NULL,
    queues text[] NOT NULL,
    tasks text[] NOT NULL,
    slots jsonb NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT pk_nodes PRIMARY KEY (id)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = 0)
"""

REFUSE = """
CREATE FUNCTION jobtrail.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'jobtrail: % on jobtrail.% is refused: %', TG_OP, TG_TABLE_NAME, TG_ARGV[0]
        USING ERRCODE = 'check_violation';
END $$
"""

GUARD_MOVE = """
CREATE FUNCTION jobtrail.guard_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.id <> OLD.id THEN
        RAISE EXCEPTION 'jobtrail: the id of job % cannot change', OLD.id USING ERRCODE = 'check_violation';
    END IF;
    IF NOT (CASE OLD.status
        WHEN 'pending' THEN NEW.status IN ('running', 'cancelled')
        WHEN 'running' THEN NEW.status IN ('succeeded', 'failed', 'cancelled', 'pending')
        WHEN 'failed' THEN NEW.status = 'pending'
        WHEN 'cancelled' THEN NEW.status = 'pending'
        ELSE false END)
    THEN
        RAISE EXCEPTION 'jobtrail: job % cannot move from % to %', OLD.id, OLD.status, NEW.status
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.attempt <> OLD.attempt + (NEW.status = 'running')::int THEN
        RAISE EXCEPTION 'jobtrail: the attempt of job % rises by one with each start, and only then', OLD.id
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.seq = OLD.seq THEN
        -- every statement of the service counts seq up itself: this move came from outside
        NEW.seq := OLD.seq + 1;
        NEW.moved_by := session_user;
        NEW.move_reason := 'sql';
    ELSIF NEW.seq <> OLD.seq + 1 THEN
        RAISE EXCEPTION 'jobtrail: seq of job % rises by one with each move', OLD.id USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$
"""

# SECURITY DEFINER: the role of the service needs no right to write the history, only the right to move jobs.
RECORD_BIRTHS = """
CREATE FUNCTION jobtrail.record_births() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO jobtrail.transitions (
        job_id, seq, attempt, from_status, to_status, actor, node_id, reason, trace_id, task)
    SELECT n.id, n.seq, n.attempt, NULL, n.status, n.moved_by, n.node_id, n.move_reason, n.trace_id, n.task
      FROM new_rows n;
    RETURN NULL;
END $$
"""

RECORD_MOVES = """
CREATE FUNCTION jobtrail.record_moves() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO jobtrail.transitions (
        job_id, seq, attempt, from_status, to_status, actor, node_id, reason, error, trace_id, task)
    SELECT n.id, n.seq, n.attempt, o.status, n.status, n.moved_by, coalesce(n.node_id, o.node_id), n.move_reason,
           CASE WHEN o.status = 'running' THEN n.error END, n.trace_id, n.task
      FROM new_rows n JOIN old_rows o USING (id) WHERE n.seq <> o.seq;
    RETURN NULL;
END $$
"""

RECORD_PURGES = """
CREATE FUNCTION jobtrail.record_purges() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO jobtrail.transitions (
        job_id, seq, attempt, from_status, to_status, actor, node_id, reason, trace_id, task)
    SELECT o.id, o.seq + 1, o.attempt, o.status, 'purged',
           coalesce(nullif(current_setting('jobtrail.actor', true), ''), session_user), o.node_id, 'expired',
           o.trace_id, o.task
      FROM old_rows o;
    RETURN NULL;
END $$
"""

GUARD_HISTORY = """
CREATE FUNCTION jobtrail.guard_history() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM jobtrail.jobs WHERE id = OLD.job_id) THEN
        RAISE EXCEPTION 'jobtrail: the history of job % stays as long as its row', OLD.job_id
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN OLD;
END $$
"""

TRIGGERS = (
    """CREATE TRIGGER guard_birth BEFORE INSERT ON jobtrail.jobs FOR EACH ROW
       WHEN (NEW.status <> 'pending' OR NEW.attempt <> 0 OR NEW.seq <> 1)
       EXECUTE FUNCTION jobtrail.refuse('a job is born pending, with attempt 0 and seq 1')""",
    """CREATE TRIGGER guard_move BEFORE UPDATE ON jobtrail.jobs FOR EACH ROW
       WHEN ((OLD.id, OLD.status, OLD.seq, OLD.attempt) IS DISTINCT FROM (NEW.id, NEW.status, NEW.seq, NEW.attempt))
       EXECUTE FUNCTION jobtrail.guard_move()""",
    """CREATE TRIGGER guard_purge BEFORE DELETE ON jobtrail.jobs FOR EACH ROW
       WHEN (OLD.expires_at IS NULL OR OLD.expires_at > clock_timestamp())
       EXECUTE FUNCTION jobtrail.refuse('only a finished job whose expires_at has passed may go')""",
    """CREATE TRIGGER guard_truncate BEFORE TRUNCATE ON jobtrail.jobs FOR EACH STATEMENT
       EXECUTE FUNCTION jobtrail.refuse('expired rows are purged, one by one')""",
    """CREATE TRIGGER record_births AFTER INSERT ON jobtrail.jobs REFERENCING NEW TABLE AS new_rows
       FOR EACH STATEMENT EXECUTE FUNCTION jobtrail.record_births()""",
    """CREATE TRIGGER record_moves AFTER UPDATE ON jobtrail.jobs
       REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
       FOR EACH STATEMENT EXECUTE FUNCTION jobtrail.record_moves()""",
    """CREATE TRIGGER record_purges AFTER DELETE ON jobtrail.jobs REFERENCING OLD TABLE AS old_rows
       FOR EACH STATEMENT EXECUTE FUNCTION jobtrail.record_purges()""",
    """CREATE TRIGGER append_only_insert BEFORE INSERT ON jobtrail.transitions FOR EACH STATEMENT
       WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION jobtrail.refuse('the database writes the history itself')""",
    """CREATE TRIGGER append_only_update BEFORE UPDATE ON jobtrail.transitions FOR EACH ROW
       EXECUTE FUNCTION jobtrail.refuse('the history is append-only')""",
    """CREATE TRIGGER append_only_delete BEFORE DELETE ON jobtrail.transitions FOR EACH ROW
       EXECUTE FUNCTION jobtrail.guard_history()""",
    """CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON jobtrail.transitions FOR EACH STATEMENT
       EXECUTE FUNCTION jobtrail.refuse('the history is append-only')""",
)

FUNCTIONS = (REFUSE, GUARD_MOVE, RECORD_BIRTHS, RECORD_MOVES, RECORD_PURGES, GUARD_HISTORY)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in (JOBS, *INDEXES, TRANSITIONS, PURGED_INDEX, AT_INDEX, NODES, *FUNCTIONS, *TRIGGERS):
        op.execute(statement)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table in ("nodes", "transitions", "jobs"):
        op.execute(f"DROP TABLE jobtrail.{table}")
    for function in (
        "guard_history",
        "record_purges",
        "record_moves",
        "record_births",
        "guard_move",
        "refuse",
    ):
        op.execute(f"DROP FUNCTION jobtrail.{function}()")
