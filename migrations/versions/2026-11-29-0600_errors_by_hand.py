"""An error that was typed in psql is an object like any other, as every reader of it expects."""

from alembic import op

revision = "202611290600"
down_revision = "202611290500"
branch_labels = None
depends_on = None

SHAPE_ERROR = """
CREATE OR REPLACE FUNCTION jobtrail.shape_error() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF jsonb_typeof(NEW.error) <> 'object' THEN
        NEW.error := jsonb_build_object('message', NEW.error #>> '{}');
    END IF;
    NEW.error := jsonb_build_object('type', 'by-hand', 'message', 'ended in SQL by ' || session_user,
        'traceback', NULL, 'attempt', NEW.attempt) || jsonb_strip_nulls(NEW.error);
    RETURN NEW;
END $$
"""

# Its name comes after that of guard_move, which fills in an error that was left out.
TRIGGER = """
CREATE OR REPLACE TRIGGER shape_error BEFORE UPDATE OF error ON jobtrail.jobs FOR EACH ROW
  WHEN (jsonb_typeof(NEW.error) <> 'object' OR NOT NEW.error ? 'type')
  EXECUTE FUNCTION jobtrail.shape_error()
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute(SHAPE_ERROR)
    op.execute(TRIGGER)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP TRIGGER shape_error ON jobtrail.jobs")
    op.execute("DROP FUNCTION jobtrail.shape_error()")
