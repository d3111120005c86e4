"""The place where the next attempt of a job goes on, and how many attempts were given back and do not count.

Neither is in an index, so that a checkpoint is a heap-only update. Both are added without rewriting the table.
"""

from alembic import op

revision = "202611291100"
down_revision = "202611291000"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE jobtrail.jobs ADD COLUMN cursor jsonb, ADD COLUMN given_back integer NOT NULL DEFAULT 0")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE jobtrail.jobs DROP COLUMN cursor, DROP COLUMN given_back")
