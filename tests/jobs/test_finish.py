"""An end is offered until the database says whose attempt it was; what it can never hold becomes a failure."""

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest

from jobtrail import JobContext, task
from jobtrail.db import migrate, scratch
from jobtrail.db.engine import open_database
from jobtrail.db.group_commit import recorded
from jobtrail.jobs.claim import claim_next
from jobtrail.jobs.finish import OutcomeRecord, OutcomeRecorder, Recorded
from jobtrail.jobs.query import read
from jobtrail.jobs.services import Services
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from support import world
from support.world import Place


async def running(place: Place) -> tuple[OutcomeRecord, OutcomeRecorder]:
    job = await world.submitted(world.services_at(place), "noop")
    node = uuid4()
    lease = timedelta(seconds=60)
    await claim_next(place.database, node=node, lease=lease, tasks=["noop"], queues=(), free=1, salt="")
    return OutcomeRecord(job.id, 1, Status.SUCCEEDED, "succeeded", result="1"), OutcomeRecorder(place.database, node)


async def test_a_locked_row_is_waited_for_however_long(place: Place) -> None:
    ending, endings = await running(place)
    transaction = place.psql.transaction()
    await transaction.start()
    await place.psql.execute("UPDATE jobtrail.jobs SET tags = '{mine}'")
    finishing = asyncio.create_task(endings.finish(ending))
    done, _ = await asyncio.wait({finishing}, timeout=4.5)  # longer than both lock timeouts
    assert not done
    await transaction.commit()
    assert await finishing is Recorded.YES
    job = await read(world.services_at(place), ending.id)
    assert (job.status, job.result, job.tags) == (Status.SUCCEEDED, 1, ["mine"])


async def test_a_cancelled_runner_waits_until_its_end_is_written(place: Place) -> None:
    ending, endings = await running(place)
    waiting = asyncio.create_task(recorded(endings.finish(ending)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await read(world.services_at(place), ending.id)).status is Status.SUCCEEDED


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


async def test_what_latin1_cannot_hold_becomes_a_failure_that_it_can(latin: Place) -> None:
    services = Services(latin.database, Catalog.from_modules([sys.modules[__name__]]))
    async with world.node_at(services, latin):
        named = {name: await world.submitted(services, name) for name in ("returns_it", "raises_it", "reports_it")}
        ended = {name: await world.ended(services, job.id) for name, job in named.items()}
    assert {name: job.status for name, job in ended.items()} == {
        "returns_it": Status.FAILED,
        "raises_it": Status.FAILED,
        "reports_it": Status.SUCCEEDED,
    }
    result, raised = ended["returns_it"].error or {}, ended["raises_it"].error or {}
    assert result["type"] == "result-not-storable"
    assert "LATIN1" in result["message"]
    assert (raised["type"], raised["message"]) == ("ValueError", r"\u65e5\u672c\u8a9e")
    assert (ended["reports_it"].result, ended["reports_it"].progress) == ("done", None)
