"""`max_pending`: a submit is refused while its queue or a limit key has as many pending jobs as it may have."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jobtrail import Limit, Rate, task
from jobtrail.db.engine import BY_INDEX, open_database
from jobtrail.errors import BacklogFullError, DeclarationError, OverloadedError
from jobtrail.jobs import max_pending
from jobtrail.jobs.amend import amend
from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.services import Services
from jobtrail.jobs.submit import submit, submit_batch
from jobtrail.ops import batches
from jobtrail.ops.due import fire_due
from jobtrail.records import Job
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from jobtrail.task.submission import Amendment, Submission
from support.rows import born, moved
from support.schedules import down_for, planned
from support.statements import statements
from support.until import until
from support.world import Place


@task
async def noop(n: int = 0) -> int:
    return n


@task(limits=[Limit("tenant:{tenant}", 2, max_pending=3), Limit("every tenant", 5)])
async def synced(tenant: str) -> str:
    return tenant


@task(limits=[Rate("calls", 10, per=60, max_pending=2), Limit("tenant:{tenant}", 2)])
async def called(tenant: str) -> str:
    return tenant


CATALOG = Catalog.of([noop, synced, called])
FILL = """
INSERT INTO jobtrail.jobs (id, task, priority, limit_keys)
SELECT gen_random_uuid(), 'noop', n % 2, CASE WHEN n % 3 = 0 THEN ARRAY['all', 'tenant:' || n % 7] END
  FROM generate_series(1, 60000) n
"""

NOOP = Submission(task="noop")
MAIL = Submission(task="noop", queue="mail")


@pytest.fixture
def services(place: Place) -> Services:
    return Services(place.database, CATALOG, max_pending={"default": 3, "mail": 1})


async def stored(services: Services, name: str = "noop", queue: str | None = None, **args: Any) -> Job:
    return (await submit(services, Submission(task=name, args=args, queue=queue), by="ann"))[0]


async def soon(act: Callable[[], Awaitable[object]]) -> None:
    """It is refused at first, and not any more once the count is a second old."""

    async def has_room() -> bool:
        try:
            await act()
        except BacklogFullError:
            return False
        return True

    await until(has_room)


def forget(services: Services) -> None:
    """As if a second had passed."""
    for counts in services.pending.values():
        counts._at -= 2


async def test_beyond_the_number_a_submit_is_refused_and_stores_nothing(place: Place, services: Services) -> None:
    for _ in range(3):
        await stored(services)
        forget(services)
    with pytest.raises(OverloadedError, match="the queue 'default' has no room: at most 3 pending") as refused:
        await stored(services)
    assert isinstance(refused.value, BacklogFullError)
    assert refused.value.retry_after == 1
    await stored(services, queue="any")
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 4


async def test_what_other_processes_store_counts(place: Place, services: Services) -> None:
    other = Services(open_database(place.url.sqlalchemy), CATALOG)
    for _ in range(3):
        await stored(other)
    with pytest.raises(BacklogFullError):
        await stored(services)
    await other.database.dispose()


async def test_jobs_that_are_not_due_count_and_running_ones_do_not(place: Place, services: Services) -> None:
    ids = [await born(place, run_at=await place.value("SELECT now() + interval '1 day'")) for _ in range(3)]
    with pytest.raises(BacklogFullError):
        await stored(services)
    await moved(place, ids[0], Status.RUNNING)
    await soon(lambda: stored(services))


async def test_room_is_seen_within_a_second(place: Place, services: Services) -> None:
    """That of a cancel, of a claim, and of a bulk move in SQL."""
    ids = [await born(place) for _ in range(3)]
    with pytest.raises(BacklogFullError):
        await stored(services)
    await cancel(services, ids[0], by="ann")
    await soon(lambda: stored(services))
    forget(services)
    with pytest.raises(BacklogFullError):
        await stored(services)
    await place.psql.execute("UPDATE jobtrail.jobs SET status = 'cancelled' WHERE status = 'pending'")
    await soon(lambda: stored(services))


async def test_a_burst_shares_one_count(place: Place, services: Services) -> None:
    """It may pass the number; what comes a second later does not."""
    with statements(place) as sent:
        await asyncio.gather(*(stored(services) for _ in range(50)))
    assert sum("LIMIT q.most" in each for each in sent) == 1
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 50
    forget(services)
    with pytest.raises(BacklogFullError):
        await stored(services)


async def test_a_key_counts_in_every_lane_that_has_it(place: Place, services: Services) -> None:
    await stored(services, "synced", "any", tenant="a")
    for _ in range(2):
        await stored(services, "called", "any", tenant="a")
    forget(services)
    with pytest.raises(BacklogFullError, match="the limit 'tenant:a' has no room: at most 3 pending"):
        await stored(services, "synced", "any", tenant="a")
    with pytest.raises(BacklogFullError, match="the limit 'calls' has no room: at most 2 pending"):
        await stored(services, "called", "any", tenant="b")
    await stored(services, "synced", "any", tenant="b")
    assert json.loads(await place.value("SELECT limit_terms FROM jobtrail.jobs LIMIT 1"))[0].keys() == {
        "template", "number",
    }  # fmt: skip


async def test_several_jobs_are_judged_together(place: Place, services: Services) -> None:
    await submit_batch(services, [NOOP] * 5, by="ann")  # where nothing is, more go than may be there
    await place.psql.execute("UPDATE jobtrail.jobs SET status = 'cancelled'")
    for queue in ("default", "mail"):
        await stored(services, queue=queue)
    forget(services)
    for act in (submit_batch, batches.submit_batch):
        for many in ([NOOP] * 3, [NOOP, MAIL]):
            with pytest.raises(BacklogFullError):
                await act(services, many, by="ann")
    assert await place.value("SELECT count(*) FROM jobtrail.batches") == 0
    await submit_batch(services, [NOOP] * 2, by="ann")


async def test_a_repeat_with_a_known_key_is_answered(place: Place, services: Services) -> None:
    first, _ = await submit(services, NOOP, by="ann", key="k")
    for _ in range(2):
        await stored(services)
    forget(services)
    again, was_there = await submit(services, NOOP, by="ann", key="k")
    assert (again.id, was_there) == (first.id, True)
    with pytest.raises(BacklogFullError):
        await submit(services, NOOP, by="ann", key="other")
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 3


@pytest.mark.parametrize("on_duplicate", ["keep", "replace"])
async def test_a_job_with_a_unique_key_that_is_taken_is_answered(
    place: Place, services: Services, on_duplicate: Any
) -> None:
    one = Submission(task="noop", unique_key="one", on_duplicate=on_duplicate)
    first, _ = await submit(services, one, by="ann")
    for _ in range(2):
        await stored(services)
    forget(services)
    again, was_there = await submit(services, one, by="ann")
    assert (again.id, was_there) == (first.id, True)
    with pytest.raises(BacklogFullError):
        await submit(services, Submission(task="noop", unique_key="two", on_duplicate=on_duplicate), by="ann")
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 3


async def test_what_is_no_submit_is_not_judged(place: Place, services: Services) -> None:
    """Jobs of a schedule; a job that moves on."""
    ids = [await born(place) for _ in range(4)]
    await planned(services)
    await down_for(place, 0)
    assert len((await fire_due(services, ["noop"])).fired) == 1
    await amend(services, ids[0], Amendment(priority=9), by="ann")


async def test_a_count_that_fails_refuses_nothing(place: Place, services: Services) -> None:
    """The submit itself waits for the database, as ever."""
    counts = services.pending["queue"]

    async def has_failed() -> bool:
        return counts._at > 0

    await place.psql.execute("BEGIN; LOCK TABLE jobtrail.jobs IN ACCESS EXCLUSIVE MODE")
    try:
        waiting = [asyncio.create_task(stored(services)) for _ in range(5)]
        await until(has_failed)
    finally:
        await place.psql.execute("ROLLBACK")
    assert len({(await each).id for each in waiting}) == 5


async def test_while_nothing_is_declared_nothing_is_counted(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    services = Services(place.database, Catalog.of([noop]))

    async def never(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("jobtrail.jobs.submit.count_pending", never)
    await stored(services)


@pytest.mark.parametrize("number", [0, -1, 1.5, True, "3", 1_000_001])
@pytest.mark.parametrize("kind", [Limit, Rate])
def test_a_number_that_is_none_is_refused_at_declaration(kind: Any, number: object) -> None:
    with pytest.raises(DeclarationError, match=r"max_pending=.*: write a whole number from 1 to 1000000"):
        kind("k", 3, max_pending=number)


@pytest.mark.parametrize(
    ("statement", "asked", "index"),
    [
        (max_pending._OF_QUEUES, {"queues": ["default", "mail"], "most": [1000, 200_000]}, "ix_jobs_claim"),
        (max_pending._OF_KEYS, {"most": 1000}, "ix_jobs_lanes"),
    ],
)
async def test_a_count_reads_its_index_and_no_further_than_the_number(
    place: Place, statement: Any, asked: dict[str, Any], index: str
) -> None:
    """Among many jobs that have ended, as the statistics say it."""
    await place.psql.execute(FILL)
    await place.psql.execute("UPDATE jobtrail.jobs SET status = 'cancelled' WHERE priority = 1")
    await place.psql.execute("ANALYZE jobtrail.jobs")
    async with place.psql.transaction():
        for name, value in BY_INDEX.items():
            await place.psql.execute(f"SET LOCAL {name} = {value}")
        explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.of('jobtrail')}"
        plan = await place.psql.fetchval(explain, *statement.arguments(asked))
    assert "Seq Scan" not in plan
    assert index in plan


async def test_keys_are_counted_right_however_many_lanes_there_are(place: Place, services: Services) -> None:
    """Lanes of one job and of thousands, and lanes that share a key."""
    await place.psql.execute(FILL)
    await place.psql.execute(
        """INSERT INTO jobtrail.jobs (id, task, limit_keys)
           SELECT gen_random_uuid(), 'noop', ARRAY['tenant:' || n % 9, 'user:' || n] FROM generate_series(1, 700) n"""
    )
    found = await max_pending._of_keys(services)
    keys = "SELECT key, count(*) AS jobs FROM jobtrail.jobs, unnest(limit_keys) AS key GROUP BY key"
    true = {row["key"]: row["jobs"] for row in await place.rows(keys)}
    assert len(true) == 1 + 9 + 700
    # no further in a lane than the largest number that a task says
    assert {key: min(number, 3) for key, number in found.items()} == {
        key: min(number, 3) for key, number in true.items()
    }
