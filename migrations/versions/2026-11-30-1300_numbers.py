"""Numbers that are kept and not counted: the jobs that ended in each minute, and totals by task. The lag of each node.

Both tables are derived from the feed, by whatever process comes to it first: each transition counts once. They begin
with the newest mark, so what happened before is in neither.
"""

from alembic import op

revision = "202611301300"
down_revision = "202611301200"
branch_labels = None
depends_on = None

MINUTES = """
CREATE TABLE jobtrail.ended_minutes (
    minute timestamptz NOT NULL,
    task text NOT NULL,
    status text NOT NULL,
    n bigint NOT NULL,
    CONSTRAINT pk_ended_minutes PRIMARY KEY (minute, task, status),
    CONSTRAINT ck_ended_minutes_status CHECK (status IN ('succeeded', 'failed', 'cancelled')),
    CONSTRAINT ck_ended_minutes_n CHECK (n > 0)
)
"""

TOTALS = """
CREATE TABLE jobtrail.totals (
    task text NOT NULL,
    kind text NOT NULL,
    n bigint NOT NULL,
    CONSTRAINT pk_totals PRIMARY KEY (task, kind),
    CONSTRAINT ck_totals_kind CHECK (
        kind IN ('submitted', 'succeeded', 'failed', 'cancelled', 'lost', 'rescued', 'purged')),
    CONSTRAINT ck_totals_n CHECK (n > 0)
)
"""

CURSOR = "INSERT INTO jobtrail.feed_cursors (name, no) SELECT 'minutes', max(no) FROM jobtrail.feed_marks"

LAG = "ALTER TABLE jobtrail.nodes ADD COLUMN loop_lag double precision NOT NULL DEFAULT 0"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in (MINUTES, TOTALS, CURSOR, LAG):
        op.execute(statement)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER TABLE jobtrail.nodes DROP COLUMN loop_lag")
    op.execute("DELETE FROM jobtrail.feed_cursors WHERE name = 'minutes'")
    op.execute("DROP TABLE jobtrail.totals")
    op.execute("DROP TABLE jobtrail.ended_minutes")
