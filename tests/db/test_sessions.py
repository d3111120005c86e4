"""What our sessions are, whatever the database, the role or the URL say."""

from functools import partial

import pytest
from sqlalchemy import text

from jobtrail.db import migrate
from jobtrail.db.engine import connect_once, connected, open_database, open_single
from jobtrail.db.url import normalize
from jobtrail.jobs.services import Services
from jobtrail.status import Status
from support import world
from support.world import Place

SHOW = text("SHOW transaction_isolation")


@pytest.mark.parametrize("above", ["repeatable read", "serializable"])
async def test_a_database_that_is_above_it_by_default(place: Place, above: str) -> None:
    name = await place.value("SELECT current_database()")
    await place.psql.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{above}'")
    url = place.url.sqlalchemy
    database, single, once = open_database(url), open_single(url), connect_once(url)
    try:
        found = []
        for engine in (database.grouped, database.engine, database.jobs, single, once):
            async with connected(engine, 10) as connection:
                found.append((await connection.execute(SHOW)).scalar_one())
        assert found == ["read committed"] * 5
        await migrate.migrate(url)
        services = Services(database, world.services_at(place).catalog)
        async with world.node_at(services, place, connect=partial(open_single, url)):
            job = await world.submitted(services, "tell", turns=3)
            assert (await world.ended(services, job.id)).status is Status.SUCCEEDED
    finally:
        for engine in (single, once):
            await engine.dispose()
        await database.dispose()
        await place.psql.execute(f"ALTER DATABASE {name} RESET default_transaction_isolation")


@pytest.mark.parametrize(("query", "name"), [("", "jobtrail"), ("&application_name=orders", "orders")])
async def test_the_name_of_the_url_stands(place: Place, query: str, name: str) -> None:
    url = normalize(place.url.libpq + query).sqlalchemy
    database = open_database(url)
    async with database.autocommit() as connection:
        assert (await connection.execute(text("SHOW application_name"))).scalar_one() == name
    await database.dispose()
