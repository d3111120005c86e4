"""The feed: numbered snapshots of the database, between which each committed transition lies exactly once.

A transition has the id of its transaction, which says when that began to write and not when it committed: in an order
by these ids something may come late. A mark is a snapshot with a number: the transitions of mark n are those that its
snapshot sees and the one of mark n - 1 does not. `tag` tells marks of one number apart, should the database be restored
and go on from an older one. Transaction ids begin anew in another cluster, so nothing from before `since` is in a mark.
A cursor says up to which mark something was derived from the feed.

The history is locked for about a second for each million of its rows, for writing.
"""

from alembic import op

revision = "202611301000"
down_revision = "202611291400"
branch_labels = None
depends_on = None

MARKS = """
CREATE TABLE jobtrail.feed_marks (
    no bigint NOT NULL,
    tag text NOT NULL DEFAULT left(md5(gen_random_uuid()::text), 8),
    snapshot pg_snapshot NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    since timestamptz NOT NULL,
    system text NOT NULL,
    CONSTRAINT pk_feed_marks PRIMARY KEY (no)
)
"""

FIRST = """
INSERT INTO jobtrail.feed_marks (no, snapshot, since, system)
SELECT 1, pg_current_snapshot(), '-infinity', system_identifier::text FROM pg_control_system()
"""

CURSORS = """
CREATE TABLE jobtrail.feed_cursors (
    name text NOT NULL,
    no bigint NOT NULL,
    CONSTRAINT pk_feed_cursors PRIMARY KEY (name)
)
"""

OF_TRANSACTION = "CREATE INDEX ix_transitions_xact ON jobtrail.transitions (xact)"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    # the index first: its lock lets no transaction be under way that has written a transition
    for statement in (OF_TRANSACTION, MARKS, CURSORS, FIRST):
        op.execute(statement)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP TABLE jobtrail.feed_cursors")
    op.execute("DROP TABLE jobtrail.feed_marks")
    op.execute("DROP INDEX jobtrail.ix_transitions_xact")
