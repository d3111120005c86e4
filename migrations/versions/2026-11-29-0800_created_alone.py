"""The index of the lists without the id, which lists sort for themselves among jobs of the same moment.

With it the index could stand in for the primary key, by reading all of it: which one PostgreSQL takes was a matter of
cost, and in a small table of chance, but a plan lasts while the table grows. It is also less than half as large.
"""

from alembic import op

revision = "202611290800"
down_revision = "202611290700"
branch_labels = None
depends_on = None

INDEX = "CREATE INDEX ix_jobs_created ON jobtrail.jobs ({columns})"


def upgrade() -> None:
    _replace("created_at")


def downgrade() -> None:
    _replace("created_at, id")


def _replace(columns: str) -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP INDEX jobtrail.ix_jobs_created")
    op.execute(INDEX.format(columns=columns))
