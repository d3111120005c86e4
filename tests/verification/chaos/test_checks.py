"""The questions find what they ask for: each wrong is put into the rows once, as nobody but the tables' owner could."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest

from chaos.checks import ask_all
from chaos.client import Ledger, Promise
from chaos.world import EFFECTS, World
from jobtrail.db.embedded import EmbeddedPostgres
from jobtrail.status import Status
from support import rows
from support.world import Place

pytestmark = pytest.mark.verify


@dataclass
class Run:
    """A job that succeeded, as it should, with an effect of each kind."""

    world: World
    place: Place
    job: UUID

    async def sql(self, statement: str, *args: Any) -> None:
        """`$1` is the job; the guards look away."""
        await self.place.psql.execute("SET LOCAL session_replication_role = replica")
        await self.place.psql.execute(statement, self.job, *args)
        await self.place.psql.execute("SET LOCAL session_replication_role = origin")

    async def wrong(self) -> set[str]:
        return {each.what for each in await ask_all(self.world) if each.must is not None and each.value != each.must}


@pytest.fixture
async def run(place: Place, postgres: EmbeddedPostgres, tmp_path: Path) -> AsyncIterator[Run]:
    transaction = place.psql.transaction()
    await transaction.start()
    await place.psql.execute(EFFECTS)
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        world = World(tmp_path, postgres, Random(1), ledger, None, _connection=place.psql)  # noqa: S311 - see World
        run = Run(world, place, await rows.in_status(place, Status.SUCCEEDED, tags=["once"], args='{"n": 1}'))
        for effects in ("inside", "outside"):
            await place.psql.execute(f"INSERT INTO {effects} VALUES ($1, 1)", run.job)
        ledger.acknowledge(Promise(run.job, 1))
        await run.sql("""UPDATE jobtrail.jobs SET result = '{"attempt": 1}', task = 'write_inside' WHERE id = $1""")
        node = await place.value("SELECT node_id FROM jobtrail.jobs")
        (tmp_path / "a.log").write_text(json.dumps({"message": "node started", "node_id": str(node)}) + "\n")
        yield run
    await transaction.rollback()


async def test_nothing_is_wrong_with_a_job_that_went_well(run: Run) -> None:
    assert await run.wrong() == set()


IN_SQL = {
    "UPDATE jobtrail.jobs SET result = '{\"attempt\": 2}' WHERE id = $1": "stale outcomes recorded",
    "UPDATE inside SET attempt = 2 WHERE job = $1": "stale outcomes recorded",
    "UPDATE jobtrail.transitions SET node_id = job_id WHERE job_id = $1 AND seq = 3": "stale outcomes recorded",
    "INSERT INTO outside VALUES ($1, 2)": "started twice with max_attempts = 1",
    "INSERT INTO inside VALUES ($1, 1)": "effects inside doubled",
    "DELETE FROM inside WHERE job = $1": "effects inside without success, or success without them",
    "UPDATE jobtrail.transitions SET seq = 4 WHERE job_id = $1 AND seq = 3": "histories with a gap",
    "UPDATE jobtrail.transitions SET from_status = 'failed' WHERE job_id = $1 AND seq = 2": "illegal moves",
    "UPDATE jobtrail.transitions SET attempt = 2 WHERE job_id = $1 AND seq = 2": "illegal moves",
    "UPDATE jobtrail.transitions SET to_status = 'cancelled' WHERE job_id = $1 AND seq = 2": "lives with two ends",
    "DELETE FROM jobtrail.transitions WHERE job_id = $1 AND seq = 3": "histories that end other than their row",
    "DELETE FROM jobtrail.jobs WHERE id = $1": "histories that end other than their row",
    "DELETE FROM jobtrail.transitions WHERE job_id = $1": "histories that end other than their row",
    "UPDATE jobtrail.transitions SET node_id = job_id WHERE job_id = $1": "moves by processes of somebody else",
}


@pytest.mark.parametrize(("statement", "wrong"), IN_SQL.items())
async def test_what_was_changed_in_sql_is_found(run: Run, statement: str, wrong: str) -> None:
    await run.sql(statement)
    assert wrong in await run.wrong()


async def lost(run: Run) -> None:
    await run.sql("DELETE FROM jobtrail.jobs WHERE id = $1")
    await run.sql("DELETE FROM jobtrail.transitions WHERE job_id = $1")


async def unfinished(run: Run) -> None:
    await rows.born(run.place)


async def stored_twice(run: Run) -> None:
    await rows.in_status(run.place, Status.CANCELLED, args='{"n": 1}')


async def refused(run: Run) -> None:
    run.world.ledger.refuse(1)


async def answered_wrongly(run: Run) -> None:
    run.world.ledger.wrong["status 500"] += 1


async def without_effect(run: Run) -> None:
    await run.sql("UPDATE jobtrail.jobs SET task = 'write_outside' WHERE id = $1")
    await run.sql("DELETE FROM outside WHERE job = $1")


async def begun_twice(run: Run) -> None:
    job = await rows.in_status(run.place, Status.FAILED, tags=["once"])
    for status in (Status.PENDING, Status.RUNNING):
        await rows.moved(run.place, job, status)


async def refused_without_a_rescue(run: Run) -> None:
    said = {"message": f"stale: attempt 1 of job {run.job} ended as failed, but the row is succeeded at attempt 1"}
    (run.world.folder / "b.log").write_text(json.dumps(said) + "\n")


OTHERS = {
    lost: "acknowledged and lost",
    unfinished: "not terminal",
    stored_twice: "requests stored twice",
    refused: "refused and stored all the same",
    answered_wrongly: "submits that were not answered as they must be",
    without_effect: "successes without their effect outside",
    refused_without_a_rescue: "attempts ended by others than a rescue",
    begun_twice: "started twice with max_attempts = 1",
}


@pytest.mark.parametrize(("happens", "wrong"), OTHERS.items())
async def test_what_happened_is_found(run: Run, happens: Callable[[Run], Awaitable[None]], wrong: str) -> None:
    await happens(run)
    assert wrong in await run.wrong()
