"""What a database can never hold of an outcome becomes a failure that it can: here one in LATIN1, made by hand."""

import sys
from collections.abc import AsyncIterator

import asyncpg
import pytest

from jobtrail import JobContext, task
from jobtrail.db import migrate, scratch
from jobtrail.db.engine import open_database
from jobtrail.jobs.services import Services
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from support import world
from support.world import Place


@task
async def returns_it() -> str:
    return "日本語"


@task
async def raises_it() -> None:
    raise ValueError("日本語")


@task
async def reports_it(context: JobContext) -> str:
    context.progress(1, note="日本語")
    return "done"


@pytest.fixture
async def latin(place: Place) -> AsyncIterator[Place]:
    name = "jobtrail_test_latin"
    await place.psql.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    await place.psql.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    url = scratch.beside(place.url, name)
    await migrate.migrate(url.sqlalchemy)
    database, psql = open_database(url.sqlalchemy), await asyncpg.connect(url.libpq)
    try:
        yield Place(url, database, psql, place.scratch)
    finally:
        await psql.close()
        await database.dispose()
        await place.psql.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_it_becomes_a_failure_that_can_be_stored(latin: Place) -> None:
    services = Services(latin.database, Catalog.from_modules([sys.modules[__name__]]))
    async with world.node_at(services, latin):
        named = {name: await world.submitted(services, name) for name in ("returns_it", "raises_it", "reports_it")}
        ended = {name: await world.ended(services, job.id) for name, job in named.items()}
    assert {name: job.status for name, job in ended.items()} == {
        "returns_it": Status.FAILED,
        "raises_it": Status.FAILED,
        "reports_it": Status.SUCCEEDED,
    }
    result, raised = ended["returns_it"].error, ended["raises_it"].error
    assert result
    assert result["type"] == "result-not-storable"
    assert "LATIN1" in result["message"]
    assert raised
    assert (raised["type"], raised["message"]) == ("ValueError", r"\u65e5\u672c\u8a9e")
    assert (ended["reports_it"].result, ended["reports_it"].progress) == ("done", None)
