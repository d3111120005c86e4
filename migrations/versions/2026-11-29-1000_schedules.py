"""Schedules: what they say, what nodes declare of them, and which due times were skipped.

An edit, from wherever it comes, gets an edition of its own from a sequence, so that a schedule which was deleted and
made anew in one transaction is another one. A `next_at` of '-infinity' is planned by the next tick of a node, from
the time of the edit on; 'infinity' is never. Of jobs, only those of schedules are in the new indexes. The table of jobs
is locked for about a second for each million of them.
"""

from alembic import op

revision = "202611291000"
down_revision = "202611290900"
branch_labels = None
depends_on = None

EDITIONS = "CREATE SEQUENCE jobtrail.schedule_editions"

SCHEDULES = """
CREATE TABLE jobtrail.schedules (
    name text NOT NULL,
    task text NOT NULL,
    args jsonb NOT NULL DEFAULT '{}',
    cron text,
    every interval,
    zone text NOT NULL DEFAULT 'UTC',
    missed text NOT NULL DEFAULT 'once',
    overlap text NOT NULL DEFAULT 'skip',
    jitter interval NOT NULL DEFAULT '0',
    starts_at timestamptz,
    ends_at timestamptz,
    queue text,
    priority smallint,
    tags text[] NOT NULL DEFAULT '{}',
    pause_after integer,
    next_at timestamptz NOT NULL DEFAULT '-infinity',
    edition bigint NOT NULL,
    edited_at timestamptz NOT NULL,
    edited_by text NOT NULL,
    resumed_at timestamptz,
    paused_at timestamptz,
    paused_by text,
    pause_reason text,
    disabled_at timestamptz,
    declared text,
    override_at timestamptz,
    override_by text,
    CONSTRAINT pk_schedules PRIMARY KEY (name),
    CONSTRAINT ck_schedules_texts CHECK (
        length(name) BETWEEN 1 AND 200 AND length(task) BETWEEN 1 AND 200 AND length(cron) <= 200
        AND length(zone) <= 100 AND length(queue) BETWEEN 1 AND 100 AND length(edited_by) BETWEEN 1 AND 255
        AND length(pause_reason) <= 1000),
    CONSTRAINT ck_schedules_args CHECK (jsonb_typeof(args) = 'object'),
    CONSTRAINT ck_schedules_times CHECK (
        starts_at BETWEEN '0001-01-02 00:00Z' AND '9999-12-30 00:00Z'
        AND ends_at BETWEEN '0001-01-02 00:00Z' AND '9999-12-30 00:00Z' AND ends_at > starts_at
        -- what no driver can read would end every tick that meets it
        AND (next_at IN ('-infinity', 'infinity') OR next_at BETWEEN '0001-01-02 00:00Z' AND '9999-12-30 00:00Z')),
    CONSTRAINT ck_schedules_when CHECK ((cron IS NULL) <> (every IS NULL)),
    CONSTRAINT ck_schedules_durations CHECK (
        every BETWEEN interval '1 second' AND interval '3650 days'
        AND jitter BETWEEN interval '0' AND interval '1 day'),
    CONSTRAINT ck_schedules_missed CHECK (missed IN ('once', 'skip', 'all')),
    CONSTRAINT ck_schedules_overlap CHECK (
        overlap IN ('skip', 'queue', 'allow') AND NOT (missed = 'all' AND overlap = 'skip')),
    CONSTRAINT ck_schedules_priority CHECK (priority BETWEEN 0 AND 9),
    CONSTRAINT ck_schedules_tags CHECK (
        cardinality(tags) <= 20 AND array_position(tags, NULL) IS NULL AND octet_length(tags::text) <= 8000),
    CONSTRAINT ck_schedules_pause CHECK (pause_after >= 1 AND (paused_at IS NULL) = (paused_by IS NULL))
) WITH (fillfactor = 70, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0.1)
"""

# What a tick asks each second. What was never planned comes first.
DUE = """
CREATE INDEX ix_schedules_due ON jobtrail.schedules (next_at) WHERE paused_at IS NULL AND disabled_at IS NULL
"""

SKIPS = """
CREATE TABLE jobtrail.schedule_skips (
    schedule text NOT NULL,
    reason text NOT NULL,
    count bigint NOT NULL,
    last_for timestamptz NOT NULL,
    last_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT pk_schedule_skips PRIMARY KEY (schedule, reason)
)
"""

DECLARATIONS = """
CREATE TABLE jobtrail.declarations (
    name text NOT NULL,
    hash text NOT NULL,
    spec jsonb NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT pk_declarations PRIMARY KEY (name, hash)
)
"""

SAID = "task, args, cron, every, zone, missed, overlap, jitter, starts_at, ends_at, queue, priority, tags, pause_after"


def row(of: str) -> str:
    return "(" + ", ".join(f"{of}.{column}" for column in SAID.split(", ")) + ")"


CHANGED = f"{row('NEW')} IS DISTINCT FROM {row('OLD')}"

# A declaration has a hash of its own. Any other edit of a declared schedule is an operator's, and stays.
# What is tried again by hand is beside the next one; several of one schedule may be at once.
ALLOW = """
CREATE FUNCTION jobtrail.allow_overlap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.exclusive := NULL;
    RETURN NEW;
END $$
"""

ALLOWS = """
CREATE TRIGGER allow_overlap BEFORE UPDATE OF status ON jobtrail.jobs FOR EACH ROW
  WHEN (NEW.exclusive AND NEW.status = 'pending' AND OLD.status IN ('failed', 'cancelled'))
  EXECUTE FUNCTION jobtrail.allow_overlap()
"""

STAMP = f"""
CREATE FUNCTION jobtrail.stamp_schedule() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    actor text := coalesce(nullif(current_setting('jobtrail.actor', true), ''), session_user);
    is_declared boolean := NEW.declared IS NOT NULL;
BEGIN
    IF NEW.paused_at IS NULL THEN
        NEW.paused_by := NULL;
        NEW.pause_reason := NULL;
    ELSE
        NEW.paused_by := coalesce(NEW.paused_by, actor);
    END IF;
    IF TG_OP = 'UPDATE' THEN
        IF OLD.paused_at IS NOT NULL AND NEW.paused_at IS NULL THEN
            NEW.resumed_at := clock_timestamp();
            NEW.next_at := '-infinity';
        END IF;
        IF NOT ({CHANGED}) THEN
            RETURN NEW;
        END IF;
        is_declared := NEW.declared IS DISTINCT FROM OLD.declared;
        IF NEW.declared IS NOT NULL AND NOT is_declared THEN
            NEW.override_at := clock_timestamp();
            NEW.override_by := actor;
        END IF;
    END IF;
    NEW.edition := nextval('jobtrail.schedule_editions');
    NEW.edited_at := clock_timestamp();
    NEW.edited_by := CASE WHEN is_declared THEN 'code' ELSE actor END;
    NEW.next_at := '-infinity';
    RETURN NEW;
END $$
"""

FORGET = """
CREATE FUNCTION jobtrail.forget_skips() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM jobtrail.schedule_skips WHERE schedule = OLD.name;
    RETURN NULL;
END $$
"""

TRIGGERS = (
    """CREATE TRIGGER stamp_new BEFORE INSERT ON jobtrail.schedules FOR EACH ROW
       EXECUTE FUNCTION jobtrail.stamp_schedule()""",
    f"""CREATE TRIGGER stamp_edit BEFORE UPDATE ON jobtrail.schedules FOR EACH ROW
       WHEN (NEW.paused_at IS DISTINCT FROM OLD.paused_at OR {CHANGED})
       EXECUTE FUNCTION jobtrail.stamp_schedule()""",
    """CREATE TRIGGER forget_skips AFTER DELETE ON jobtrail.schedules FOR EACH ROW
       EXECUTE FUNCTION jobtrail.forget_skips()""",
)

JOBS = """
ALTER TABLE jobtrail.jobs ADD COLUMN schedule text, ADD COLUMN scheduled_for timestamptz, ADD COLUMN exclusive boolean,
    ADD CONSTRAINT ck_jobs_schedule CHECK (
        length(schedule) BETWEEN 1 AND 200 AND scheduled_for BETWEEN '0001-01-02 00:00Z' AND '9999-12-30 00:00Z')
"""

INDEXES = (
    # the last jobs of a schedule
    "CREATE INDEX ix_jobs_schedule ON jobtrail.jobs (schedule, created_at) WHERE schedule IS NOT NULL",
    # a due time that meets an unfinished job is skipped, whoever else submits one at the same moment
    """CREATE UNIQUE INDEX uq_jobs_overlap ON jobtrail.jobs (schedule)
        WHERE exclusive AND status IN ('pending', 'running')""",
)

NODES = "ALTER TABLE jobtrail.nodes ADD COLUMN declares jsonb"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in (
        EDITIONS,
        SCHEDULES,
        DUE,
        SKIPS,
        DECLARATIONS,
        STAMP,
        FORGET,
        *TRIGGERS,
        JOBS,
        *INDEXES,
        NODES,
        ALLOW,
        ALLOWS,
    ):
        op.execute(statement)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE jobtrail.nodes DROP COLUMN declares")
    op.execute("DROP TRIGGER allow_overlap ON jobtrail.jobs")
    op.execute("DROP FUNCTION jobtrail.allow_overlap()")
    op.execute("DROP INDEX jobtrail.uq_jobs_overlap, jobtrail.ix_jobs_schedule")
    op.execute("ALTER TABLE jobtrail.jobs DROP COLUMN schedule, DROP COLUMN scheduled_for, DROP COLUMN exclusive")
    for table in ("declarations", "schedule_skips", "schedules"):
        op.execute(f"DROP TABLE jobtrail.{table}")
    for function in ("forget_skips", "stamp_schedule"):
        op.execute(f"DROP FUNCTION jobtrail.{function}()")
    op.execute("DROP SEQUENCE jobtrail.schedule_editions")
