"""The error of a statement that failed: it is logged with its text and traceback, and args may be secrets."""

import traceback
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from jobtrail.db.engine import connected, open_single
from jobtrail.db.host_engine import lend_single
from support.lent import lent
from support.world import Place

ARGS = {"args": '{"password": "hunter2"}'}

NO_PRIORITY = text("INSERT INTO jobtrail.jobs (task, priority, args) VALUES ('noop', 10, CAST(:args AS jsonb))")
NO_TABLE = text("INSERT INTO jobtrail.none (args) VALUES (:args)")


@pytest.fixture
async def engines(place: Place) -> AsyncIterator[dict[str, AsyncEngine]]:
    """Ours, and those that work as a host's does; and the host's own."""
    single = open_single(place.url.sqlalchemy)
    async with lent(place) as (host, database):
        lent_single = lend_single(host)
        yield {
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
        await lent_single.dispose()
    await single.dispose()


async def told(engine: AsyncEngine, statement: str) -> str:
    """All that a log would say."""
    with pytest.raises(DBAPIError) as failed:
        async with connected(engine, 10) as connection:
            await connection.execute(NO_TABLE if statement == "no table" else NO_PRIORITY, ARGS)
    return str(failed.value) + "".join(traceback.format_exception(failed.value))


async def test_no_error_quotes_an_argument(engines: dict[str, AsyncEngine]) -> None:
    quoting = {name for name, engine in engines.items() if "hunter2" in await told(engine, "no table")}
    assert quoting == {"host"}


async def test_no_error_of_a_constraint_quotes_the_row(engines: dict[str, AsyncEngine]) -> None:
    """In job sessions it does: the statements there are the task's own."""
    said = {name: await told(engine, "no priority") for name, engine in engines.items()}
    assert {name for name, each in said.items() if "hunter2" in each} == {"host", "jobs", "lent jobs"}
    assert all("violates" in each and "INSERT INTO jobtrail.jobs" in each for each in said.values())
