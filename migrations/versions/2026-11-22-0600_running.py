"""What a running job says, what may not run for now, and what a node could not end.

The lines of a job's log have no foreign key: its check for each line would cost more than the line. They go with their
row all the same, whoever purges it, by a trigger of the statement.
"""

from alembic import op

revision = "202611220600"
down_revision = "202611220300"
branch_labels = None
depends_on = None

LOG_LINES = """
CREATE TABLE jobtrail.log_lines (
    job_id uuid NOT NULL,
    attempt integer NOT NULL,
    number integer NOT NULL,
    at timestamptz NOT NULL,
    level text NOT NULL,
    logger text NOT NULL,
    message text NOT NULL,
    CONSTRAINT pk_log_lines PRIMARY KEY (job_id, attempt, number),
    CONSTRAINT ck_log_lines_texts CHECK (
        length(level) <= 50 AND length(logger) <= 200 AND octet_length(message) <= 65536)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05)
"""

PAUSES = """
CREATE TABLE jobtrail.pauses (
    kind text NOT NULL,
    name text NOT NULL,
    paused_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    paused_by text NOT NULL DEFAULT session_user,
    reason text,
    CONSTRAINT pk_pauses PRIMARY KEY (kind, name),
    CONSTRAINT ck_pauses_kind CHECK (kind IN ('queue', 'task')),
    CONSTRAINT ck_pauses_texts CHECK (
        length(name) BETWEEN 1 AND 200 AND length(paused_by) BETWEEN 1 AND 255 AND length(reason) <= 1000)
)
"""

NODE_COUNTS = """
ALTER TABLE jobtrail.nodes
    ADD COLUMN left_behind integer NOT NULL DEFAULT 0,
    ADD COLUMN stale_ends integer NOT NULL DEFAULT 0
"""

DROP_LOGS = """
CREATE FUNCTION jobtrail.drop_logs() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM jobtrail.log_lines l USING old_rows o WHERE l.job_id = o.id;
    RETURN NULL;
END $$
"""

DROP_LOGS_TRIGGER = """
CREATE TRIGGER drop_logs AFTER DELETE ON jobtrail.jobs REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION jobtrail.drop_logs()
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in (LOG_LINES, PAUSES, NODE_COUNTS, DROP_LOGS, DROP_LOGS_TRIGGER):
        op.execute(statement)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP TRIGGER drop_logs ON jobtrail.jobs")
    op.execute("DROP FUNCTION jobtrail.drop_logs()")
    op.execute("ALTER TABLE jobtrail.nodes DROP COLUMN left_behind, DROP COLUMN stale_ends")
    op.execute("DROP TABLE jobtrail.pauses")
    op.execute("DROP TABLE jobtrail.log_lines")
