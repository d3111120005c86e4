"""Webhooks, and the URL that is told how a job ended.

A webhook counts what commits after it. Of the first mark of the feed after `after_mark` that is what its snapshot,
`since`, did not see; of later ones it is all. By the snapshot alone nothing would count after a restore, which begins
with small transaction ids again.
"""

from alembic import op

revision = "202611301200"
down_revision = "202611301100"
branch_labels = None
depends_on = None

COLUMN = """
ALTER TABLE jobtrail.jobs ADD COLUMN callback_url text,
    ADD CONSTRAINT ck_jobs_callback_url CHECK (length(callback_url) BETWEEN 1 AND 2000)
"""

# Whether there are any is asked with each mark of the feed.
BY_CALLBACK = "CREATE INDEX ix_jobs_callback ON jobtrail.jobs (id) WHERE callback_url IS NOT NULL"

WEBHOOKS = """
CREATE TABLE jobtrail.webhooks (
    name text NOT NULL,
    url text NOT NULL,
    tasks text[] NOT NULL DEFAULT '{}',
    statuses text[] NOT NULL DEFAULT '{succeeded,failed,cancelled}',
    secrets text[] NOT NULL DEFAULT ARRAY['whsec_' || encode(sha256(convert_to(
        gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')), 'base64')],
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by text NOT NULL DEFAULT session_user,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_by text NOT NULL DEFAULT session_user,
    rotated_at timestamptz,
    after_mark bigint NOT NULL,
    since text NOT NULL DEFAULT pg_current_snapshot()::text,
    CONSTRAINT pk_webhooks PRIMARY KEY (name),
    CONSTRAINT ck_webhooks_name CHECK (name ~ '^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,49}$'),
    CONSTRAINT ck_webhooks_url CHECK (length(url) BETWEEN 1 AND 2000),
    CONSTRAINT ck_webhooks_statuses CHECK (statuses <> '{}' AND array_position(statuses, NULL) IS NULL
        AND statuses <@ '{pending,running,succeeded,failed,cancelled}'),
    CONSTRAINT ck_webhooks_tasks CHECK (array_position(tasks, NULL) IS NULL),
    CONSTRAINT ck_webhooks_secrets CHECK (cardinality(secrets) BETWEEN 1 AND 2
        AND array_position(secrets, NULL) IS NULL),
    CONSTRAINT ck_webhooks_texts CHECK (length(created_by) BETWEEN 1 AND 255 AND length(changed_by) BETWEEN 1 AND 255),
    CONSTRAINT ck_webhooks_since CHECK (since::pg_snapshot IS NOT NULL)
)
"""

STAMP = """
CREATE FUNCTION jobtrail.stamp_webhook() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.after_mark := coalesce((SELECT max(no) FROM jobtrail.feed_marks), 0);
    RETURN NEW;
END $$
"""

BEGIN_TO_COUNT = """
CREATE TRIGGER stamp_new BEFORE INSERT ON jobtrail.webhooks FOR EACH ROW EXECUTE FUNCTION jobtrail.stamp_webhook()
"""

CURSOR = """
INSERT INTO jobtrail.feed_cursors (name, no) SELECT 'webhooks', coalesce(max(no), 0) FROM jobtrail.feed_marks
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in (COLUMN, BY_CALLBACK, WEBHOOKS, STAMP, BEGIN_TO_COUNT, CURSOR):
        op.execute(statement)


def downgrade() -> None:
    """Deliveries that are jobs already stay pending; no node of the revision before knows their task."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DELETE FROM jobtrail.feed_cursors WHERE name = 'webhooks'")
    op.execute("DROP TABLE jobtrail.webhooks")
    op.execute("DROP FUNCTION jobtrail.stamp_webhook()")
    op.execute("ALTER TABLE jobtrail.jobs DROP COLUMN callback_url")
