"""Keys that a developer gives to a job: of the whole app, whoever asks. Those that clients send stay in the row.

A table of its own, so that nothing is locked or read for long however many jobs there are. Nodes of the release before
do not look at it; a purge by one of them takes the keys along too, since a trigger does.
"""

from alembic import op

revision = "202611290300"
down_revision = "202611221200"
branch_labels = None
depends_on = None

APP_KEYS = """
CREATE TABLE jobtrail.app_keys (
    key text NOT NULL,
    job_id uuid NOT NULL,
    request_hash bytea NOT NULL,
    CONSTRAINT pk_app_keys PRIMARY KEY (key),
    CONSTRAINT uq_app_keys_job_id UNIQUE (job_id),
    CONSTRAINT ck_app_keys_texts CHECK (length(key) BETWEEN 1 AND 255)
)
"""

DROP_KEYS = """
CREATE FUNCTION jobtrail.drop_app_keys() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM jobtrail.app_keys k USING old_rows o WHERE k.job_id = o.id;
    RETURN NULL;
END $$
"""

DROP_KEYS_TRIGGER = """
CREATE TRIGGER drop_app_keys AFTER DELETE ON jobtrail.jobs REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION jobtrail.drop_app_keys()
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for statement in (APP_KEYS, DROP_KEYS, DROP_KEYS_TRIGGER):
        op.execute(statement)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("DROP TRIGGER drop_app_keys ON jobtrail.jobs")
    op.execute("DROP FUNCTION jobtrail.drop_app_keys()")
    op.execute("DROP TABLE jobtrail.app_keys")
