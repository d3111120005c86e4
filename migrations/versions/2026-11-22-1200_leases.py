"""For how long a node's leases are believed, and since when it has been heard of without a gap: who may rescue others.

A node of the release before writes neither; the defaults let it go on, and its rows are judged by what they say.
"""

from alembic import op

revision = "202611221200"
down_revision = "202611220900"
branch_labels = None
depends_on = None

ADDED = """
ALTER TABLE jobtrail.nodes
    ADD COLUMN lease interval NOT NULL DEFAULT '30 seconds',
    ADD COLUMN steady_since timestamptz NOT NULL DEFAULT clock_timestamp()
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(ADDED)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE jobtrail.nodes DROP COLUMN lease, DROP COLUMN steady_since")
