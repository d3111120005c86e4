"""Access keys.

Of a key's text only a hash is kept. A row outlives its key, as evidence of who could do what and since when.
"""

from alembic import op

revision = "202611220900"
down_revision = "202611220600"
branch_labels = None
depends_on = None

KEYS = """
CREATE TABLE jobtrail.keys (
    id uuid NOT NULL,
    name text NOT NULL,
    prefix text NOT NULL,
    hash bytea NOT NULL,
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by text NOT NULL DEFAULT session_user,
    expires_at timestamptz,
    revoked_at timestamptz,
    revoked_by text,
    last_used_at timestamptz,
    CONSTRAINT pk_keys PRIMARY KEY (id),
    CONSTRAINT uq_keys_prefix UNIQUE (prefix),
    CONSTRAINT ck_keys_texts CHECK (
        length(name) BETWEEN 1 AND 100 AND prefix ~ '^[a-z2-7]{12}$' AND length(created_by) BETWEEN 1 AND 255
        AND length(revoked_by) BETWEEN 1 AND 255),
    CONSTRAINT ck_keys_hash CHECK (octet_length(hash) = 32),
    CONSTRAINT ck_keys_scopes CHECK (
        cardinality(scopes) BETWEEN 1 AND 3 AND array_ndims(scopes) = 1
        AND scopes <@ ARRAY['read', 'submit', 'operate']),
    -- what no driver can read would end every list that meets it
    CONSTRAINT ck_keys_times CHECK (expires_at BETWEEN '0001-01-02 00:00Z' AND '9999-12-30 00:00Z'),
    CONSTRAINT ck_keys_revoked CHECK ((revoked_at IS NULL) = (revoked_by IS NULL))
)
"""

TRIGGERS = (
    """CREATE TRIGGER guard_key BEFORE UPDATE ON jobtrail.keys FOR EACH ROW
       WHEN ((OLD.id, OLD.name, OLD.prefix, OLD.hash, OLD.scopes, OLD.created_at, OLD.created_by)
             IS DISTINCT FROM (NEW.id, NEW.name, NEW.prefix, NEW.hash, NEW.scopes, NEW.created_at, NEW.created_by)
             OR OLD.expires_at < coalesce(NEW.expires_at, 'infinity')
             OR OLD.revoked_at IS NOT NULL
             AND (OLD.revoked_at, OLD.revoked_by) IS DISTINCT FROM (NEW.revoked_at, NEW.revoked_by))
       EXECUTE FUNCTION jobtrail.refuse('a key stays what it is, ends no later than was said, stays revoked')""",
    """CREATE TRIGGER guard_key_delete BEFORE DELETE ON jobtrail.keys FOR EACH ROW
       EXECUTE FUNCTION jobtrail.refuse('a key is revoked, and its row stays')""",
    """CREATE TRIGGER guard_key_truncate BEFORE TRUNCATE ON jobtrail.keys FOR EACH STATEMENT
       EXECUTE FUNCTION jobtrail.refuse('a key is revoked, and its row stays')""",
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in (KEYS, *TRIGGERS):
        op.execute(statement)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP TABLE jobtrail.keys")
