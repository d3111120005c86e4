"""The plans of the triggers that join what a statement changed to another table.

A trigger's statement without parameters is planned once for a connection, when it first moves or removes jobs. If that
was one job, a nested loop would serve all that come later, five hundred at a time; and while a table is small, a scan
of the whole of it would.
"""

from alembic import op

revision = "202611290700"
down_revision = "202611290600"
branch_labels = None
depends_on = None

JOIN_BY_HASH = "ALTER FUNCTION jobtrail.record_moves() SET enable_nestloop = off"

# In this shape only the index of the jobs' ids is left.
DROP = """
CREATE OR REPLACE FUNCTION jobtrail.drop_{what}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    DELETE FROM jobtrail.{table} WHERE job_id = ANY(ARRAY(SELECT id FROM old_rows));
    RETURN NULL;
END $$
"""

BEFORE = """
CREATE OR REPLACE FUNCTION jobtrail.drop_{what}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM jobtrail.{table} {alias} USING old_rows o WHERE {alias}.job_id = o.id;
    RETURN NULL;
END $$
"""

DROPS = (("logs", "log_lines", "l"), ("app_keys", "app_keys", "k"))


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(JOIN_BY_HASH)
    for what, table, _ in DROPS:
        op.execute(DROP.format(what=what, table=table))


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("ALTER FUNCTION jobtrail.record_moves() RESET enable_nestloop")
    for what, table, alias in DROPS:
        op.execute(BEFORE.format(what=what, table=table, alias=alias))
