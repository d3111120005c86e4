"""What one transaction did with very many jobs is one mark: its deliveries are made a page at a time."""

import gc
import tracemalloc
from dataclasses import replace

import pytest

from jobtrail.db.engine import open_database
from jobtrail.db.url import normalize
from jobtrail.events.delivery import TASK, advance
from jobtrail.events.feed import mark
from jobtrail.jobs.services import Services
from jobtrail.ops.webhooks import put
from support.receiver import services_that_deliver
from support.rows import passed
from support.world import Place

URL = "http://127.0.0.1:9/"

BORN = "INSERT INTO jobtrail.jobs (id, task) SELECT gen_random_uuid(), $1 FROM generate_series(1, $2::int)"

ONCE = """
SELECT count(*), count(DISTINCT (args #>> '{event,data,job_id}')) FROM jobtrail.jobs WHERE tags = '{webhook:ops}'
"""


@pytest.fixture
async def services(place: Place) -> Services:
    services = services_that_deliver(place)
    await passed(place)
    await put(services, "ops", URL, by="ann", statuses=["pending"])
    return services


async def made_of(place: Place, services: Services, number: int) -> int:
    """The most bytes that were in memory for the deliveries of so many moves of one transaction."""
    await place.psql.execute(BORN, "noop", number)
    await mark(services.database)
    gc.collect()
    tracemalloc.start()
    try:
        await advance(services)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def test_memory_does_not_grow_with_the_moves_of_a_transaction(place: Place, services: Services) -> None:
    few = await made_of(place, services, 2_000)
    many = await made_of(place, services, 20_000)
    assert tuple(await place.psql.fetchrow(ONCE)) == (22_000, 22_000)
    assert many < 1.5 * few


async def test_what_fails_midway_is_made_once(place: Place, services: Services) -> None:
    """Neither the deliveries that were stored before the failure nor the place of the cursor stay."""
    await place.psql.execute(BORN, "noop", 2_500)
    last = await place.value("SELECT job_id FROM jobtrail.transitions ORDER BY job_id DESC LIMIT 1")
    check = f"CHECK (task <> '{TASK}' OR args #>> '{{event,data,job_id}}' <> '{last}') NOT VALID"
    await place.psql.execute(f"ALTER TABLE jobtrail.jobs ADD CONSTRAINT for_a_while {check}")
    await mark(services.database)
    try:
        with pytest.raises(Exception, match="for_a_while"):
            await advance(services)
    finally:
        await place.psql.execute("ALTER TABLE jobtrail.jobs DROP CONSTRAINT for_a_while")
    assert tuple(await place.psql.fetchrow(ONCE)) == (0, 0)
    await advance(services)
    assert tuple(await place.psql.fetchrow(ONCE)) == (2_500, 2_500)


async def test_behind_a_pooler_too(place: Place, services: Services) -> None:
    """There each statement has no name, and replaces the one before, whose rows are still being read."""
    url = place.url.libpq
    pooled = normalize(f"{url}{'&' if '?' in url else '?'}pgbouncer=true")
    database = open_database(pooled.sqlalchemy)
    await place.psql.execute(BORN, "noop", 2_500)
    await mark(services.database)
    try:
        await advance(replace(services, database=database))
    finally:
        await database.dispose()
    assert tuple(await place.psql.fetchrow(ONCE)) == (2_500, 2_500)


async def test_deliveries_are_counted_as_accepted(place: Place, services: Services) -> None:
    await place.psql.execute(BORN, "noop", 1_200)
    await mark(services.database)
    await advance(services)
    await advance(services)
    assert services.meters.tasks[TASK].accepted == 1_200
