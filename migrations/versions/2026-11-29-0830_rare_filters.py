"""Indexes for lists and audits that ask for what is rare in a table of millions.

Those of a task, queue or submitter hold what has ended, so a job enters each once instead of with every move. The lists
of the pending and of those which ended badly are filtered within their indexes. The others hold few rows: cancels, lost
attempts, and purged jobs of traces from outside. The jobs are locked for ten to twenty-five seconds for each million of
them.
"""

from alembic import op

revision = "202611290830"
down_revision = "202611290800"
branch_labels = None
depends_on = None

FIELDS = ("task", "queue", "created_by")
OF_FIELD = """
CREATE INDEX ix_jobs_{field} ON jobtrail.jobs ({field}, created_at) WHERE status IN ('succeeded', 'failed', 'cancelled')
"""
ENDED_BADLY = """
CREATE INDEX ix_jobs_ended_badly ON jobtrail.jobs ({columns}) WHERE status IN ('failed', 'cancelled')
"""
# Of all that has ended, so that the first page after a million pending ones need not pass them by.
ENDED = """
CREATE INDEX ix_jobs_ended ON jobtrail.jobs (created_at) WHERE status IN ('succeeded', 'failed', 'cancelled')
"""
# The priority is never less; it keeps the index from standing in for that of the claim, which says nothing like it.
PENDING = """
CREATE INDEX ix_jobs_pending ON jobtrail.jobs (created_at, task, queue, created_by)
 WHERE status = 'pending' AND priority >= 0
"""
OF_CANCELS = """
CREATE INDEX ix_jobs_cancel ON jobtrail.jobs (cancel_requested_at) WHERE cancel_requested_at IS NOT NULL
"""
OF_HISTORY = (
    """CREATE INDEX ix_transitions_trace ON jobtrail.transitions (trace_id)
        WHERE to_status = 'purged' AND trace_id <> replace(job_id::text, '-', '')""",
    "CREATE INDEX ix_transitions_cancelled ON jobtrail.transitions (at) WHERE to_status = 'cancelled'",
    """CREATE INDEX ix_transitions_lost ON jobtrail.transitions (at)
        WHERE from_status = 'running' AND error ->> 'type' = 'lost'""",
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP INDEX jobtrail.ix_jobs_ended_badly")
    op.execute(ENDED_BADLY.format(columns="created_at, id, status, task, queue, created_by"))
    for field in FIELDS:
        op.execute(OF_FIELD.format(field=field))
    for statement in (ENDED, PENDING, OF_CANCELS, *OF_HISTORY):
        op.execute(statement)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for name in ("lost", "cancelled", "trace"):
        op.execute(f"DROP INDEX jobtrail.ix_transitions_{name}")
    for name in ("cancel", "pending", "ended", "ended_badly", *FIELDS):
        op.execute(f"DROP INDEX jobtrail.ix_jobs_{name}")
    op.execute(ENDED_BADLY.format(columns="created_at, id, status"))
