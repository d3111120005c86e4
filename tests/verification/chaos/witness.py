"""Triggers of the suite's own, which note what the service itself may forget: what a row was when it was purged or
rescued. They take the word of nobody but the row.
"""

from chaos.scenario import Figure
from chaos.world import World

WATCH = """
CREATE TABLE copies (id uuid PRIMARY KEY, status text, expires_at timestamptz);
CREATE TABLE rescues (job uuid, node uuid, lease_until timestamptz, at timestamptz);

CREATE FUNCTION copy_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO copies VALUES (NEW.id, NEW.status, NEW.expires_at)
        ON CONFLICT (id) DO UPDATE SET status = NEW.status, expires_at = NEW.expires_at;
    RETURN NULL;
END $$;
CREATE TRIGGER copy_birth AFTER INSERT ON jobtrail.jobs FOR EACH ROW EXECUTE FUNCTION copy_row();
CREATE TRIGGER copy_row AFTER UPDATE ON jobtrail.jobs FOR EACH ROW
    WHEN ((OLD.status, OLD.expires_at) IS DISTINCT FROM (NEW.status, NEW.expires_at)) EXECUTE FUNCTION copy_row();

CREATE FUNCTION note_rescue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO rescues VALUES (OLD.id, OLD.node_id, OLD.lease_until, clock_timestamp());
    RETURN NULL;
END $$;
CREATE TRIGGER note_rescue AFTER UPDATE ON jobtrail.jobs FOR EACH ROW
    WHEN (OLD.status = 'running' AND NEW.status <> 'running' AND NEW.move_reason = 'rescued')
    EXECUTE FUNCTION note_rescue();
"""

PURGED = "SELECT count(*) FROM jobtrail.transitions WHERE to_status = 'purged'"

WRONG = """
SELECT count(*) FROM jobtrail.transitions t LEFT JOIN copies c ON c.id = t.job_id
 WHERE t.to_status = 'purged' AND (c.id IS NULL OR c.status NOT IN ('succeeded', 'failed', 'cancelled')
       OR c.expires_at IS NULL OR c.expires_at > t.at)
"""

GONE_UNTOLD = """
SELECT count(*) FROM copies c WHERE NOT EXISTS (SELECT FROM jobtrail.jobs j WHERE j.id = c.id)
   AND NOT EXISTS (SELECT FROM jobtrail.transitions t WHERE t.job_id = c.id AND t.to_status = 'purged')
"""

RESCUES = "SELECT count(*) FROM rescues"
EARLY = "SELECT count(*) FROM rescues WHERE lease_until IS NULL OR lease_until > at"


async def watch(world: World) -> None:
    await world.execute(WATCH)


async def purges(world: World) -> list[Figure]:
    return [
        Figure("wrong deletes", await world.value(WRONG), 0),
        Figure("rows gone without a word", await world.value(GONE_UNTOLD), 0),
        Figure("purged", await world.value(PURGED)),
    ]


async def rescues(world: World) -> list[Figure]:
    return [
        Figure("rescued before the lease was over", await world.value(EARLY), 0),
        Figure("rescued", await world.value(RESCUES)),
    ]
