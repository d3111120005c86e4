"""Rows that are too much for the database's time limit together go all the same, in smaller batches."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import event

from jobtrail.db.embedded import EmbeddedPostgres
from jobtrail.errors import UnavailableError
from jobtrail.jobs.bulk import Action, bulk
from jobtrail.jobs.purge import purge
from jobtrail.jobs.query import Filter
from jobtrail.status import Status
from support import world
from support.rows import in_status, passed
from support.until import until
from support.world import Place, migrated

SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep(0.003); RETURN coalesce(NEW, OLD); END $$;
CREATE TRIGGER slow_update BEFORE UPDATE ON jobtrail.jobs FOR EACH ROW EXECUTE FUNCTION slow();
CREATE TRIGGER slow_purge BEFORE DELETE ON jobtrail.jobs FOR EACH ROW EXECUTE FUNCTION slow();
CREATE TRIGGER slow_history BEFORE DELETE ON jobtrail.transitions FOR EACH ROW EXECUTE FUNCTION slow();
"""

JOBS = "INSERT INTO jobtrail.jobs (id, task) SELECT gen_random_uuid(), 'noop' FROM generate_series(1, 60)"
EXPIRE = "UPDATE jobtrail.jobs SET expires_at = now() - interval '1 s'"
AGE = "UPDATE jobtrail.transitions SET at = at - interval '91 days'"
MOVES = """
INSERT INTO jobtrail.transitions (job_id, seq, attempt, from_status, to_status, actor, reason, trace_id, task)
SELECT gen_random_uuid(), n, 1, 'running', CASE n WHEN 60 THEN 'purged' ELSE 'pending' END, 'x', 'y', repeat('0', 32),
       'a'
  FROM generate_series(1, 60) AS n
"""


@pytest.fixture
async def slow(postgres: EmbeddedPostgres) -> AsyncIterator[Place]:
    """3 ms for each row, and 100 ms for each statement."""
    async with migrated(postgres) as place:
        await place.psql.execute(JOBS)

        @event.listens_for(place.database.engine.sync_engine, "begin")
        def hurry(connection: object) -> None:
            connection.exec_driver_sql("SET LOCAL statement_timeout = '100ms'")  # type: ignore[attr-defined]

        yield place


async def by_force(place: Place, *statements: str) -> None:
    async with place.psql.transaction():
        await place.psql.execute("SET LOCAL session_replication_role = replica")
        for statement in statements:
            await place.psql.execute(statement)


async def test_jobs_their_history_and_bulk_moves_are_done_in_parts(slow: Place) -> None:
    services = world.services_at(slow)
    await slow.psql.execute(SLOW)
    done = await bulk(services, Action.CANCEL, Filter(task=("noop",)), by="ann")
    assert (done.changed, done.remaining) == (60, 0)
    await by_force(slow, EXPIRE)
    assert (await purge(slow.database, by="ann", history_ttl=None)).jobs == 60
    await by_force(slow, MOVES.replace("gen_random_uuid()", "'00000000-0000-0000-0000-000000000001'::uuid"), AGE)
    await passed(slow)
    gone = await purge(slow.database, by="ann", history_ttl=timedelta(days=90))
    assert gone.transitions == 60 * 3 + 60
    assert await slow.value("SELECT count(*) FROM jobtrail.transitions") == 0


async def test_history_that_is_cut_short_is_found_again(slow: Place) -> None:
    """One job of many moves; its last one, which tells that it was purged, stays until the others are gone."""
    await by_force(slow, MOVES.replace("gen_random_uuid()", "'00000000-0000-0000-0000-000000000001'::uuid"), AGE)
    await passed(slow)
    await slow.psql.execute(
        "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF OLD.seq = 58 THEN PERFORM pg_sleep(1); END IF; RETURN OLD; END $$"
    )
    await slow.psql.execute(
        "CREATE TRIGGER stop BEFORE DELETE ON jobtrail.transitions FOR EACH ROW EXECUTE FUNCTION stop()"
    )
    with pytest.raises(UnavailableError):
        await purge(slow.database, by="ann", history_ttl=timedelta(days=90))
    left = [row["seq"] for row in await slow.rows("SELECT seq FROM jobtrail.transitions WHERE attempt = 1 ORDER BY 1")]
    assert left == [58, 59, 60]
    await slow.psql.execute("DROP TRIGGER stop ON jobtrail.transitions")
    assert (await purge(slow.database, by="ann", history_ttl=timedelta(days=90))).transitions == 3


REFUSE = """
CREATE OR REPLACE FUNCTION pg_temp.no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
CREATE TRIGGER no BEFORE DELETE ON jobtrail.jobs FOR EACH ROW EXECUTE FUNCTION pg_temp.no();
"""

NODE = """
INSERT INTO jobtrail.nodes (id, host, pid, version, queues, tasks, slots, heartbeat_at)
VALUES (gen_random_uuid(), 'h', 1, 'v', '{}', '{}', '{}', now() - interval '2 hours')
"""


async def test_a_part_that_fails_keeps_no_other_from_going(place: Place) -> None:
    await in_status(place, Status.SUCCEEDED)
    await by_force(place, EXPIRE, MOVES, AGE)
    await passed(place)
    await place.psql.execute(NODE + ";" + REFUSE)
    try:
        async with world.node_at(world.services_at(place), place):

            async def others() -> bool:
                query = """SELECT NOT EXISTS (SELECT FROM jobtrail.nodes WHERE host = 'h')
                              AND NOT EXISTS (SELECT FROM jobtrail.transitions WHERE to_status = 'purged')"""
                return bool(await place.value(query))

            await until(others)
        assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 1
    finally:
        await place.psql.execute("DROP TRIGGER no ON jobtrail.jobs")
