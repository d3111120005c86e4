"""Our connections: what their sessions are whatever the database says, and what their errors mean and quote."""

import asyncio
import time
import traceback
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from jobtrail.db import migrate
from jobtrail.db.engine import connect_once, connected, open_database, open_single
from jobtrail.db.errors import unavailable
from jobtrail.db.host_engine import lend_single
from jobtrail.db.url import normalize
from jobtrail.errors import UnavailableError
from jobtrail.jobs.services import Services
from jobtrail.status import Status
from support import world
from support.lent import lent
from support.world import Place


async def value_of(engine: AsyncEngine, query: str) -> Any:
    async with connected(engine, 10) as connection:
        return (await connection.execute(text(query))).scalar_one()


@pytest.mark.parametrize("above", ["repeatable read", "serializable"])
async def test_a_database_whose_isolation_is_higher_by_default(place: Place, above: str) -> None:
    name = await place.value("SELECT current_database()")
    await place.psql.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{above}'")
    url = place.url.sqlalchemy
    database, single, once = open_database(url), open_single(url), connect_once(url)
    try:
        engines = (database.grouped, database.engine, database.jobs, single, once)
        assert {await value_of(each, "SHOW transaction_isolation") for each in engines} == {"read committed"}
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
    database = open_database(normalize(place.url.libpq + query).sqlalchemy)
    assert await value_of(database.grouped, "SHOW application_name") == name
    await database.dispose()


async def test_every_statement_of_ours_has_a_limit_and_those_of_tasks_have_none(place: Place) -> None:
    database = place.database
    limit = "SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'"
    found = [await value_of(each, limit) for each in (database.grouped, database.engine, database.jobs)]
    assert found == [10_000, 10_000, 0]


async def test_no_statement_of_ours_is_compiled(place: Place) -> None:
    database = place.database
    await place.psql.execute(f"ALTER DATABASE {await place.value('SELECT current_database()')} SET jit = on")
    pools = (database.grouped, database.engine, database.jobs)
    assert [await value_of(each, "SHOW jit") for each in pools] == ["off", "off", "on"]


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("40P01", "conflict with a concurrent transaction"),  # a deadlock
        ("40001", "conflict with a concurrent transaction"),
        ("55P03", "did not answer in time"),  # a lock
        ("57P01", "did not answer in time"),  # it shuts down
        ("57014", "did not answer in time"),  # the statement timeout
        ("53300", "away or out of room"),  # it has too many clients
        ("53100", "away or out of room"),  # its disk is full
        ("25006", "read-only"),
        ("23505", None),
        ("42P01", None),
    ],
)
async def test_what_passes_by_itself_is_worth_another_try(place: Place, state: str, told: str | None) -> None:
    failing = text(f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$")
    async with place.database.sessions() as session:
        with pytest.raises(UnavailableError if told else DBAPIError, match=told), unavailable():
            await session.execute(failing)


async def test_a_connection_that_ends_as_it_is_taken_over(place: Place) -> None:
    """The driver's own error comes through then, without SQLAlchemy's around it."""
    database = open_database(place.url.sqlalchemy)

    def cut(dialect: Any, _record: object, args: Any, options: Any) -> Any:
        made = dialect.connect(*args, **options)
        made.driver_connection.terminate()
        return made

    for engine in (database.grouped, database.engine):
        await value_of(engine, "SELECT 1")  # the first of an engine is another matter
        await engine.dispose()
        event.listen(engine.sync_engine, "do_connect", cut)
    with pytest.raises(UnavailableError, match="away or out of room"), unavailable():
        async with database.autocommit():
            raise AssertionError("it is not connected")
    with pytest.raises(UnavailableError, match="away or out of room"), unavailable():
        async with database.transaction() as session:
            await session.execute(text("SELECT 1"))
    await database.dispose()


ARGS = {"args": '{"password": "hunter2"}'}
NO_PRIORITY = "INSERT INTO jobtrail.jobs (task, priority, args) VALUES ('noop', 10, CAST(:args AS jsonb))"
NO_TABLE = "INSERT INTO jobtrail.none (args) VALUES (:args)"


@pytest.mark.parametrize(("statement", "quoting"), [(NO_TABLE, {"host"}), (NO_PRIORITY, {"host", "jobs", "lent jobs"})])
async def test_no_error_quotes_arguments_or_rows(place: Place, statement: str, quoting: set[str]) -> None:
    """But those of a host's own engine, and of a constraint in job sessions, where the statements are the task's."""
    single = open_single(place.url.sqlalchemy)
    async with lent(place) as (host, database):
        lent_single = lend_single(host)
        engines = {
            "grouped": place.database.grouped,
            "transactions": place.database.engine,
            "jobs": place.database.jobs,
            "single": single,
            "lent grouped": database.grouped,
            "lent transactions": database.engine,
            "lent jobs": database.jobs,
            "lent single": lent_single,
            "host": host,
        }
        said = {name: await _told(engine, statement) for name, engine in engines.items()}
        await lent_single.dispose()
    await single.dispose()
    assert {name for name, each in said.items() if "hunter2" in each} == quoting
    assert all("INSERT INTO jobtrail." in each for each in said.values())


async def _told(engine: AsyncEngine, statement: str) -> str:
    """All that a log would say."""
    with pytest.raises(DBAPIError) as failed:
        async with connected(engine, 10) as connection:
            await connection.execute(text(statement), ARGS)
    return str(failed.value) + "".join(traceback.format_exception(failed.value))


async def test_a_limit_that_strikes_as_a_connection_is_given_back_breaks_it_for_nobody(place: Place) -> None:
    database = open_database(place.url.sqlalchemy)
    try:
        assert await value_of(database.grouped, "SELECT 1") == 1
        pool = database.grouped.sync_engine.pool
        event.listen(pool, "checkin", lambda *_: time.sleep(1.1), once=True)
        async with connected(database.grouped, 1) as connection:
            await connection.execute(text("SELECT 1"))
        await asyncio.sleep(0)
        assert await value_of(database.grouped, "SELECT 2") == 2
    finally:
        await database.dispose()
