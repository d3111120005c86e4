"""Jobs run on a host's own engine, whatever the host made of it, and the host finds it as it was."""

import asyncio
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from jobtrail import JobContext, task
from jobtrail.db.host_engine import lend_single
from jobtrail.jobs.services import Services
from jobtrail.ops.nodes import read_nodes
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from support import world
from support.lent import ENGINES, OWN, lent
from support.until import until
from support.world import Place

NAMES = (*OWN, "transaction_isolation")

SETTINGS = text("SELECT " + ", ".join(f"current_setting('{name}') AS {name}" for name in NAMES))

LARGE = 10**60 + 1

GATE = asyncio.Event()


@task
async def look(context: JobContext, value: Any) -> Any:
    context.progress(1, note=str(value))
    session = await context.session()
    return [value, dict((await session.execute(SETTINGS)).one()._mapping)]


@task
async def wait(n: int) -> int:
    await GATE.wait()
    return n


async def settings_of(engine: AsyncEngine) -> dict[str, str]:
    async with engine.connect() as connection:
        return dict((await connection.execute(SETTINGS)).one()._mapping)


@pytest.mark.parametrize("kind", ENGINES)
async def test_any_host_s_engine(place: Place, kind: str) -> None:
    async with lent(place, kind) as (engine, database):
        before = await settings_of(engine)
        services = Services(database, Catalog.of([look, wait]))
        async with world.node_at(services, place, connect=partial(lend_single, engine)):
            jobs = [await world.submitted(services, "look", value={"n": LARGE}) for _ in range(3)]
            ended = [await world.ended(services, job.id) for job in jobs]
            [node] = await read_nodes(services)
        assert [job.args for job in ended] == [{"value": {"n": LARGE}}] * 3
        found = [(job.status, job.result[0], job.result[1]) for job in ended]
        ours = {**OWN, "lock_timeout": "3s", "transaction_isolation": "read committed"}
        assert found == [(Status.SUCCEEDED, {"n": LARGE}, ours)] * 3
        assert ended[0].progress["note"] == str({"n": LARGE})
        assert node.slots["loop"] == 100
        assert [await settings_of(engine) for _ in range(3)] == [before] * 3
        await database.dispose()
        assert await settings_of(engine) == before


async def test_no_connection_is_held_while_jobs_run(place: Place) -> None:
    async with lent(place) as (engine, database):
        pool: Any = engine.sync_engine.pool
        services = Services(database, Catalog.of([look, wait]))
        async with world.node_at(services, place, connect=partial(lend_single, engine)) as node:
            jobs = [await world.submitted(services, "wait", n=n) for n in range(20)]

            async def all_run() -> bool:
                return len(node.worker.held()) == 20 and pool.checkedout() == 0

            await until(all_run)
            async with engine.connect(), engine.connect():  # jobs are stored and end though the host has them all
                GATE.set()
                jobs.append(await world.submitted(services, "wait", n=20))
                ended = [await world.ended(services, job.id) for job in jobs]
                assert pool.checkedout() == 2
            GATE.clear()
        assert [job.result for job in ended] == list(range(21))


async def test_whoever_locks_the_node_s_own_row_costs_no_job_its_lease(place: Place) -> None:
    """Though on a lent engine statements share a transaction."""
    query = "SELECT max(lease_until) FROM jobtrail.jobs"
    async with lent(place) as (engine, database):
        services = Services(database, Catalog.of([look, wait]))
        async with world.node_at(services, place, connect=partial(lend_single, engine)) as node:
            job = await world.submitted(services, "wait", n=1)
            await world.reached(services, job.id, Status.RUNNING)

            async def is_listed() -> bool:
                return bool(await place.value("SELECT count(*) FROM jobtrail.nodes WHERE id = $1", node.id))

            await until(is_listed)
            async with place.psql.transaction():
                await place.psql.execute("SELECT FROM jobtrail.nodes FOR UPDATE")
                before = await place.value(query)

                async def is_renewed() -> bool:
                    return bool(await place.value(query) > before)

                await until(is_renewed)
            GATE.set()
            assert (await world.ended(services, job.id)).status is Status.SUCCEEDED
            GATE.clear()
