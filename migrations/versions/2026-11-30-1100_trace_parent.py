"""The span that a job was submitted under, so that its attempts go on in the trace of the request.

A claim of limited jobs gives it too, with the queue and the time since the submit: as its last columns, which a node of
the release before passes over.
"""

from alembic import context, op

revision = "202611301100"
down_revision = "202611301000"
branch_labels = None
depends_on = None

COLUMN = """
ALTER TABLE jobtrail.jobs ADD COLUMN trace_parent text,
    ADD CONSTRAINT ck_jobs_trace_parent CHECK (
        trace_parent IS NULL
        OR trace_parent ~ '^([0-9a-f]{32}-)?[0-9a-f]{16}-[0-9a-f]{2}$' AND trace_id ~ '^[0-9a-f]{32}$')
"""

DROP = "DROP FUNCTION jobtrail.claim_limited(uuid, interval, text[], text[], int, jsonb, text[], uuid[])"

# What a function returns changes only where it is made anew: as it is since the unique keys, but for these places.
UNIQUE_KEYS = "202611291400"
PLACES = (
    ("due_at timestamptz)", "due_at timestamptz, queue text, trace_parent text, age interval)"),
    (
        "j.priority, j.due_at;",
        """j.priority, j.due_at, j.queue, j.trace_parent,
                  CASE WHEN j.trace_parent IS NOT NULL THEN clock_timestamp() - j.created_at END;""",
    ),
    ("NULL::timestamptz;\nEND $$", "NULL::timestamptz, NULL::text, NULL::text, NULL::interval;\nEND $$"),
)


def claim() -> str:
    before = context.script.get_revision(UNIQUE_KEYS).module
    return before.CLAIM.replace("{first}", before.FIRST)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(COLUMN)
    text = claim()
    for old, new in PLACES:
        if text.count(old) != 1:
            raise AssertionError(old)
        text = text.replace(old, new)
    op.execute(DROP)
    op.execute(text)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(DROP)
    op.execute(claim())
    op.execute("ALTER TABLE jobtrail.jobs DROP COLUMN trace_parent")
