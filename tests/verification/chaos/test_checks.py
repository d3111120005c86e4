"""The questions find what they ask for: each wrong is put into the rows once, as nobody but the tables' owner could."""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest

from chaos.checks import Answer, ask_all
from chaos.client import Ledger, Promise
from chaos.scenario import Figure
from chaos.scenarios import chains, checkpoints, limits, webhooks
from chaos.world import EFFECTS, World
from jobtrail.db.embedded import EmbeddedPostgres
from jobtrail.events.post import signatures
from jobtrail.ids import new_job_id
from jobtrail.outbound import new_secret
from jobtrail.status import Status
from support import rows
from support.receiver import Got, Receiver
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
        return _wrong(await ask_all(self.world))


def _wrong(answers: Sequence[Answer | Figure]) -> set[str]:
    return {each.what for each in answers if each.must is not None and each.value != each.must}


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


async def at_once(run: Run, **keys: int) -> None:
    """So many jobs of each tenant run at the same time, and end."""
    jobs = [
        await rows.in_status(run.place, Status.RUNNING, limit_keys=["all tenants", f"tenant:{key[-1]}"])
        for key, number in keys.items()
        for _ in range(number)
    ]
    for job in jobs:
        await rows.moved(run.place, job, Status.SUCCEEDED)


LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)

KEYS = [
    ({"t0": 3, "t1": 3}, set()),
    ({"t0": 3, "t1": 4}, {"more at once than the limit"}),
    ({"t0": 2, "t1": 3}, {"limits not reached", "limits not reached again"}),
]


@pytest.mark.parametrize(("keys", "wrong"), KEYS)
async def test_what_ran_at_once_is_found(run: Run, keys: dict[str, int], wrong: set[str]) -> None:
    await at_once(run, **keys)
    assert _wrong(await limits.peaks(run.world, LONG_AGO)) == wrong


async def test_a_key_that_was_free_only_before_the_kills_is_found(run: Run) -> None:
    await at_once(run, t0=3, t1=3)
    over = await run.place.value("SELECT clock_timestamp()")
    await at_once(run, t0=2, t1=3)
    assert _wrong(await limits.peaks(run.world, over)) == {"limits not reached again"}


SPENDS = [
    ([(at / 10, 150) for at in range(60)], set()),
    ([*((at / 10, 150) for at in range(60)), (3.0, 1)], {"more in a window than the number"}),
    ([(at / 10, 140) for at in range(60)], {"used less than it must be"}),
]


@pytest.mark.parametrize(("starts", "wrong"), SPENDS)
async def test_what_began_in_a_window_is_found(run: Run, starts: list[tuple[float, int]], wrong: set[str]) -> None:
    """150 each tenth of a second are 3,000 in two seconds, but for the one that begins as the window ends."""
    for at, cost in starts:
        job = await rows.in_status(run.place, Status.RUNNING, limit_keys=["a minute"], args=json.dumps({"cost": cost}))
        await replace(run, job=job).sql(
            "UPDATE jobtrail.transitions SET at = $2 WHERE job_id = $1", LONG_AGO + timedelta(seconds=at)
        )
    assert _wrong(await limits.spent(run.world, limits.Window(1, 1, 1, per=1.999))) == wrong


async def family(run: Run) -> Run:
    """Two jobs, which are a batch, one that comes after them, and one that the batch brought."""
    batch = new_job_id()
    parents = [
        await rows.in_status(run.place, Status.SUCCEEDED, batch_id=batch, args=json.dumps({"n": n})) for n in (11, 12)
    ]
    child = await rows.in_status(run.place, Status.SUCCEEDED, after=parents)
    last = await rows.in_status(run.place, Status.SUCCEEDED, args='{"n": 13}')
    on_done = json.dumps({"id": str(last), "args": {"n": 13}})
    await run.place.psql.execute(BATCH, batch, on_done)
    return replace(run, job=child)


BATCH = """
INSERT INTO jobtrail.batches (id, total, on_done, created_by, done_at, succeeded, failed, cancelled)
VALUES ($1, 2, $2, 'ann', clock_timestamp(), 2, 0, 0)
"""

TOLD = """
INSERT INTO jobtrail.transitions (job_id, seq, attempt, from_status, to_status, actor, reason, trace_id, task)
SELECT $1, n, 0, 'pending', 'pending', 'a job', 'after: all succeeded', '', '' FROM generate_series(11, 12) n
"""

NOT_ENDED = "node_id = NULL, started_at = NULL, finished_at = NULL, expires_at = NULL, result = NULL"

OF_FAMILY = {
    "SELECT 1 WHERE $1::uuid IS NULL": None,
    f"UPDATE jobtrail.jobs SET status = 'pending', {NOT_ENDED} WHERE id = $1": "children forgotten",
    """UPDATE jobtrail.jobs SET status = 'cancelled', result = NULL, cancel_requested_at = now(),
        cancel_requested_by = 'me' WHERE id = $1""": "children that ended other than their parents say",
    """UPDATE jobtrail.jobs p SET status = 'failed', result = NULL, error = '{}' FROM jobtrail.jobs c
        WHERE c.id = $1 AND p.id = c.after[1]""": "children that ended other than their parents say",
    TOLD: "children released twice",
    "UPDATE jobtrail.transitions SET at = '2020-01-01Z' WHERE job_id = $1":
        "children that began before their parents ended",
    """INSERT INTO jobtrail.jobs (id, task, args)
       SELECT gen_random_uuid(), 'nap', '{"n": 13}' WHERE $1::uuid IS NOT NULL""":
        "batches whose on_done was not submitted once",
    "DELETE FROM jobtrail.jobs WHERE args ->> 'n' = '13' AND id <> $1": "batches whose on_done was not submitted once",
    """UPDATE jobtrail.batches SET done_at = NULL, succeeded = NULL, failed = NULL, cancelled = NULL
        WHERE id <> $1""": "batches whose on_done was not submitted once",
    "UPDATE jobtrail.jobs SET created_at = '2020-01-01Z' WHERE args ->> 'n' = '13' AND id <> $1":
        "on_done submitted too soon",
    "UPDATE jobtrail.batches SET succeeded = 1, failed = 1 WHERE id <> $1": "batches that count other than their jobs",
}  # fmt: skip


@pytest.mark.parametrize(("statement", "wrong"), OF_FAMILY.items())
async def test_what_became_of_a_family_is_found(run: Run, statement: str, wrong: str | None) -> None:
    await (await family(run)).sql(statement)
    found = _wrong(await chains.followed(run.world))
    assert wrong in found if wrong else not found


async def climbed(run: Run) -> Run:
    """A job of three steps, whose first node was killed in the second."""
    job = await rows.born(run.place, "climb", args='{"n": 2, "steps": 3}', max_attempts=checkpoints.ATTEMPTS)
    for status in (Status.RUNNING, Status.PENDING, Status.RUNNING, Status.SUCCEEDED):
        await rows.moved(run.place, job, status)
    climbed = replace(run, job=job)
    await climbed.sql("UPDATE jobtrail.transitions SET reason = 'rescued' WHERE job_id = $1 AND seq = 3")
    for attempt, step in ((1, 0), (1, 1), (2, 1), (2, 2)):
        await climbed.sql("INSERT INTO steps VALUES ($1, $2, $3)", attempt, step)
    return climbed


OF_CLIMB = {
    "SELECT 1 WHERE $1::uuid IS NULL": None,
    "INSERT INTO steps VALUES ($1, 2, 0)": "steps before a checkpoint that were repeated",
    "INSERT INTO steps VALUES ($1, 2, 2)": "steps twice in an attempt",
    "DELETE FROM steps WHERE job = $1 AND step = 2": "steps left out",
    "UPDATE jobtrail.jobs SET max_attempts = max_attempts + 1 WHERE id = $1": "attempts spent by anything but kills",
    "UPDATE jobtrail.transitions SET reason = 'lost' WHERE job_id = $1 AND reason = 'rescued'":
        "attempts spent by anything but kills",
    "UPDATE jobtrail.jobs SET status = 'failed', result = NULL, error = '{}' WHERE id = $1":
        "long jobs that did not succeed",
}  # fmt: skip


@pytest.mark.parametrize(("statement", "wrong"), OF_CLIMB.items())
async def test_what_became_of_a_long_job_is_found(run: Run, statement: str, wrong: str | None) -> None:
    await (await climbed(run)).sql(statement)
    assert _wrong(await checkpoints.climbed(run.world)) == ({wrong} if wrong else set())


DELIVERY = json.dumps(
    {"event": {"data": {"job_id": str(UUID(int=7)), "seq": 3}}, "webhook": "naps", "host": "127.0.0.1"}
)

OF_DELIVERY = {
    "SELECT 1 WHERE $1::uuid IS NULL": None,
    "DELETE FROM jobtrail.jobs WHERE id = $1": "ends without their delivery",
    """UPDATE jobtrail.jobs SET args = jsonb_set(args, '{webhook}', '"others"') WHERE id = $1""":
        "deliveries of nothing that was asked for",
    """INSERT INTO jobtrail.jobs (id, task, args) SELECT gen_random_uuid(), task, args FROM jobtrail.jobs
        WHERE id = $1""": "deliveries of one end made twice",
    "UPDATE jobtrail.jobs SET id = gen_random_uuid() WHERE id = $1": "deliveries that never came",
    f"UPDATE jobtrail.jobs SET status = 'pending', {NOT_ENDED} WHERE id = $1": "deliveries that did not succeed",
}  # fmt: skip


@pytest.mark.parametrize(("statement", "wrong"), OF_DELIVERY.items())
async def test_what_became_of_a_delivery_is_found(run: Run, statement: str, wrong: str | None) -> None:
    nap = await rows.born(run.place, "nap")
    for status in (Status.RUNNING, Status.SUCCEEDED):
        await rows.moved(run.place, nap, status)
    args = DELIVERY.replace(str(UUID(int=7)), str(nap))
    job = await rows.born(run.place, "jobtrail.webhook", args=args)
    for status in (Status.RUNNING, Status.SUCCEEDED):
        await rows.moved(run.place, job, status)
    await run.place.psql.execute(webhooks.WANTED)
    await replace(run, job=job).sql(statement)
    now, secret = int(time.time()), new_secret()
    signed = {"webhook-signature": signatures([secret], str(job), now, b"{}")}
    receiver = Receiver(got=[Got({"webhook-id": str(job), "webhook-timestamp": str(now), **signed}, b"{}")])
    found = _wrong(await webhooks.told(run.world, receiver, [secret]))
    assert wrong in found if wrong else not found
    assert "requests whose signature the library refuses" in _wrong(
        await webhooks.told(run.world, receiver, [new_secret()])
    )
