"""Pending jobs that the plain claim may not take, and pending jobs that change.

A job that waits for something else than its time is parked: `run_at` is null, which no claim takes, and its time stands
in `due_at`. What it waits for is `limit_keys`, the limits that count it, or `waits`, other jobs that must succeed
first. A trigger parks it, and undoes that when it waits for nothing more, so that a retry, a rescue or the end of an
attempt need not know of it, those of the release before included.

A change of a pending job is a move pending → pending, with who made it and why, where `seq` is counted up with it. A
column that somebody sets in psql without counting is no move, as before.
"""

from alembic import op

revision = "202611290900"
down_revision = "202611290830"
branch_labels = None
depends_on = None

COLUMNS = """
ALTER TABLE jobtrail.jobs ADD COLUMN due_at timestamptz, ADD COLUMN limit_keys text[],
    ADD COLUMN waits boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT ck_jobs_due CHECK (due_at BETWEEN '0001-01-02 00:00Z' AND '9999-12-30 00:00Z'),
    ADD CONSTRAINT ck_jobs_limit_keys CHECK (
        cardinality(limit_keys) BETWEEN 1 AND 21 AND array_position(limit_keys, NULL) IS NULL
        AND octet_length(limit_keys::text) <= 8000)
"""

PARK = """
CREATE FUNCTION jobtrail.park() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.limit_keys IS NOT NULL OR NEW.waits THEN
        NEW.due_at := NEW.run_at;
        NEW.run_at := NULL;
    ELSE
        NEW.run_at := NEW.due_at;
        NEW.due_at := NULL;
    END IF;
    RETURN NEW;
END $$
"""

# by its name it comes after guard_move, which sets the run_at of a move that was typed
PARKS = """
CREATE TRIGGER park BEFORE INSERT OR UPDATE ON jobtrail.jobs FOR EACH ROW
  WHEN (NEW.status = 'pending' AND CASE WHEN NEW.limit_keys IS NOT NULL OR NEW.waits THEN NEW.run_at IS NOT NULL
        ELSE NEW.run_at IS NULL AND NEW.due_at IS NOT NULL END)
  EXECUTE FUNCTION jobtrail.park()
"""

GUARD_MOVE = """
CREATE OR REPLACE FUNCTION jobtrail.guard_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.id <> OLD.id THEN
        RAISE EXCEPTION 'jobtrail: the id of job % cannot change', OLD.id USING ERRCODE = 'check_violation';
    END IF;
    IF NOT (CASE OLD.status
        WHEN 'pending' THEN NEW.status IN ('running', 'cancelled') {change}
        WHEN 'running' THEN NEW.status IN ('succeeded', 'failed', 'cancelled', 'pending')
        WHEN 'failed' THEN NEW.status = 'pending'
        WHEN 'cancelled' THEN NEW.status = 'pending'
        ELSE false END)
    THEN
        RAISE EXCEPTION 'jobtrail: job % cannot move from % to %', OLD.id, OLD.status, NEW.status
            USING ERRCODE = 'check_violation', HINT = CASE
                WHEN OLD.status = 'succeeded' THEN 'What succeeded stays; submit a new job to do the same again.'
                WHEN NEW.status = OLD.status THEN 'The status stays the same here, and so do seq and attempt.'
                WHEN OLD.status IN ('failed', 'cancelled')
                THEN format('It has ended; to run it again SET status = %L.', 'pending')
                WHEN OLD.status = 'running'
                THEN format('It runs; to stop it SET status = %L, to run it anew %L.', 'cancelled', 'pending')
                ELSE format('It has not run; to keep it from running SET status = %L.', 'cancelled') END;
    END IF;
    IF NEW.attempt <> OLD.attempt + (NEW.status = 'running')::int THEN
        RAISE EXCEPTION 'jobtrail: the attempt of job % rises by one with each start, and only then', OLD.id
            USING ERRCODE = 'check_violation', HINT = CASE WHEN NEW.status = 'running'
                THEN 'Only a node starts a job; SET run_at = now() makes one that waits due at once.'
                ELSE 'Leave attempt as it is.' END;
    END IF;
    IF NEW.seq = OLD.seq THEN
        -- every statement of the service counts seq up itself: this move came from outside
        NEW.seq := OLD.seq + 1;
        NEW.moved_by := session_user;
        NEW.move_reason := 'sql';
        IF OLD.status = 'running' AND NEW.lease_until = OLD.lease_until THEN
            NEW.lease_until := NULL;
        END IF;
        IF NEW.status IN ('succeeded', 'failed', 'cancelled') THEN
            NEW.finished_at := coalesce(NEW.finished_at, statement_timestamp());
            NEW.expires_at := coalesce(NEW.expires_at, NEW.finished_at + make_interval(secs =>
                extract(epoch FROM CASE NEW.status WHEN 'succeeded' THEN NEW.ttl ELSE NEW.ttl_failed END)));
        END IF;
        IF NEW.status = 'failed' THEN
            NEW.error := coalesce(NEW.error, jsonb_build_object('type', 'by-hand', 'traceback', NULL,
                'attempt', NEW.attempt, 'message', 'ended in SQL by ' || session_user));
        ELSIF NEW.status = 'cancelled' THEN
            NEW.cancel_requested_at := coalesce(NEW.cancel_requested_at, statement_timestamp());
            NEW.cancel_requested_by := coalesce(NEW.cancel_requested_by, session_user);
        ELSIF NEW.status = 'pending' THEN
            -- as a retry by hand, or as a node gives an attempt back
            NEW.max_attempts := greatest(NEW.max_attempts, NEW.attempt + 1);
            IF NEW.run_at IS NOT DISTINCT FROM OLD.run_at THEN NEW.run_at := statement_timestamp(); END IF;
            IF NEW.node_id = OLD.node_id THEN NEW.node_id := NULL; END IF;
            IF NEW.started_at = OLD.started_at THEN NEW.started_at := NULL; END IF;
            IF NEW.finished_at = OLD.finished_at THEN NEW.finished_at := NULL; END IF;
            IF NEW.expires_at = OLD.expires_at THEN NEW.expires_at := NULL; END IF;
            IF NEW.error = OLD.error THEN NEW.error := NULL; END IF;
            IF NEW.progress = OLD.progress THEN NEW.progress := NULL; END IF;
            IF NEW.cancel_requested_at = OLD.cancel_requested_at THEN NEW.cancel_requested_at := NULL; END IF;
            IF NEW.cancel_requested_by = OLD.cancel_requested_by THEN NEW.cancel_requested_by := NULL; END IF;
            IF NEW.cancel_reason = OLD.cancel_reason THEN NEW.cancel_reason := NULL; END IF;
        END IF;
    ELSIF NEW.seq <> OLD.seq + 1 THEN
        RAISE EXCEPTION 'jobtrail: seq of job % rises by one with each move', OLD.id
            USING ERRCODE = 'check_violation', HINT = 'Leave seq as it is: it is counted up for you.';
    END IF;
    RETURN NEW;
END $$
"""

CHANGE = "OR (NEW.status = 'pending' AND NEW.seq = OLD.seq + 1)"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in (COLUMNS, PARK, PARKS, _guard(CHANGE)):
        op.execute(statement)


def downgrade() -> None:
    """What is parked may start at once: the release before knows no limits."""
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP TRIGGER park ON jobtrail.jobs")
    op.execute("UPDATE jobtrail.jobs SET run_at = due_at WHERE run_at IS NULL AND due_at IS NOT NULL")
    op.execute("DROP FUNCTION jobtrail.park()")
    op.execute("ALTER TABLE jobtrail.jobs DROP COLUMN due_at, DROP COLUMN limit_keys, DROP COLUMN waits")
    op.execute(_guard(""))


def _guard(change: str) -> str:
    return GUARD_MOVE.replace(" {change}", f" {change}" if change else "")
