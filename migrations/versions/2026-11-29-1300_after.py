"""Jobs that come after others: `after` names the jobs that must succeed before this one may start.

An edge is a parent that a child still waits for. The table itself makes them, of a new row and of one that goes back to
pending by hand, whoever wrote it: so psql and nodes of the release before start nothing too early. What ends is looked
at by nodes of this release, which delete the edges.
"""

from alembic import op

revision = "202611291300"
down_revision = "202611291200"
branch_labels = None
depends_on = None

COLUMN = """
ALTER TABLE jobtrail.jobs ADD COLUMN after uuid[],
    ADD CONSTRAINT ck_jobs_after CHECK (
        cardinality(after) BETWEEN 1 AND 1000 AND array_position(after, NULL) IS NULL AND id <> ALL(after))
"""

# no foreign keys: a parent may be purged, and is then judged by its history
EDGES = """
CREATE TABLE jobtrail.edges (
    child uuid NOT NULL,
    parent uuid NOT NULL,
    CONSTRAINT pk_edges PRIMARY KEY (child, parent)
)
"""

EDGES_BY_PARENT = "CREATE INDEX ix_edges_parent ON jobtrail.edges (parent, child)"

# by index, whatever the tables were like when the plan was made
OUTCOME_OF = """
CREATE FUNCTION jobtrail.outcome_of(job uuid) RETURNS text LANGUAGE sql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
    SELECT coalesce(
        (SELECT status FROM jobtrail.jobs WHERE id = job),
        (SELECT from_status FROM jobtrail.transitions
          WHERE job_id = job AND to_status = 'purged' ORDER BY seq DESC LIMIT 1),
        'unknown')
$$
"""

FOLLOW = """
CREATE FUNCTION jobtrail.follow() RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    INSERT INTO jobtrail.edges (child, parent)
    SELECT NEW.id, parent FROM unnest(NEW.after) AS parent WHERE jobtrail.outcome_of(parent) <> 'succeeded'
    ON CONFLICT DO NOTHING;
    NEW.waits := EXISTS (SELECT FROM jobtrail.edges WHERE child = NEW.id);
    RETURN NEW;
END $$
"""

# by their names they come before `park`, which looks at `waits`
FOLLOWS = (
    """CREATE TRIGGER follow_at_birth BEFORE INSERT ON jobtrail.jobs FOR EACH ROW
       WHEN (NEW.after IS NOT NULL) EXECUTE FUNCTION jobtrail.follow()""",
    """CREATE TRIGGER follow_again BEFORE UPDATE ON jobtrail.jobs FOR EACH ROW
       WHEN (NEW.after IS NOT NULL AND NEW.status = 'pending' AND OLD.status IN ('failed', 'cancelled'))
       EXECUTE FUNCTION jobtrail.follow()""",
)


CANCEL = """
UPDATE jobtrail.jobs SET status = 'cancelled', cancel_reason = 'downgrade' WHERE status = 'pending' AND waits
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in (COLUMN, EDGES, EDGES_BY_PARENT, OUTCOME_OF, FOLLOW, *FOLLOWS):
        op.execute(statement)


def downgrade() -> None:
    """What waits for others is cancelled, since the release before would start it at once."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(CANCEL)
    op.execute("UPDATE jobtrail.jobs SET waits = false WHERE waits")
    op.execute("DROP TRIGGER follow_again ON jobtrail.jobs")
    op.execute("DROP TRIGGER follow_at_birth ON jobtrail.jobs")
    op.execute("DROP FUNCTION jobtrail.follow()")
    op.execute("DROP FUNCTION jobtrail.outcome_of(uuid)")
    op.execute("DROP TABLE jobtrail.edges")
    op.execute("ALTER TABLE jobtrail.jobs DROP COLUMN after")
