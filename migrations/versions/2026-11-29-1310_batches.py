"""Batches: jobs that were submitted together, counted together, with a job that is submitted once all have ended.

The counts are kept with `done_at`, since jobs are purged.
"""

from alembic import op

revision = "202611291310"
down_revision = "202611291300"
branch_labels = None
depends_on = None

COLUMN = "ALTER TABLE jobtrail.jobs ADD COLUMN batch_id uuid"

BY_BATCH = "CREATE INDEX ix_jobs_batch ON jobtrail.jobs (batch_id, status) WHERE batch_id IS NOT NULL"

BATCHES = """
CREATE TABLE jobtrail.batches (
    id uuid NOT NULL,
    total integer NOT NULL,
    on_done jsonb,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    done_at timestamptz,
    succeeded integer,
    failed integer,
    cancelled integer,
    CONSTRAINT pk_batches PRIMARY KEY (id),
    CONSTRAINT ck_batches_total CHECK (total > 0),
    CONSTRAINT ck_batches_texts CHECK (length(created_by) BETWEEN 1 AND 255),
    CONSTRAINT ck_batches_on_done CHECK (jsonb_typeof(on_done) = 'object' AND on_done ? 'id'),
    CONSTRAINT ck_batches_done CHECK ((done_at IS NULL) = (num_nonnulls(succeeded, failed, cancelled) = 0)
        AND (done_at IS NULL OR num_nulls(succeeded, failed, cancelled) = 0))
)
"""

OPEN = "CREATE INDEX ix_batches_open ON jobtrail.batches (id) WHERE done_at IS NULL"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in (COLUMN, BY_BATCH, BATCHES, OPEN):
        op.execute(statement)


def downgrade() -> None:
    """What a batch was to submit at its end is forgotten; its jobs stay."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP TABLE jobtrail.batches")
    op.execute("ALTER TABLE jobtrail.jobs DROP COLUMN batch_id")
