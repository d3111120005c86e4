"""In which module each task of a node is written: two apps in one schema would run each other's tasks of one name.

A node of the release before writes none, and nothing is said of it.
"""

from alembic import op

revision = "202611290500"
down_revision = "202611290400"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE jobtrail.nodes ADD COLUMN modules jsonb")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE jobtrail.nodes DROP COLUMN modules")
