"""Backfills: which due times become jobs, that these are one batch, and that nothing is skipped for them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest

from jobtrail import task
from jobtrail.errors import InvalidInputError, ScheduleNotFoundError, UnknownTaskError
from jobtrail.jobs.claim import claim_limited
from jobtrail.jobs.services import Services
from jobtrail.ops import batches, schedules
from jobtrail.ops.backfill import backfill
from jobtrail.ranges import FIRST_TIME, LAST_TIME, MAX_BATCHED
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from jobtrail.task.schedule import Backfill, ScheduleSpec
from support.limited import PEAK, limited
from support.rows import moved
from support.schedules import TASKS, down_for, jobs_of, planned, put, skips_of, tick
from support.until import until
from support.world import Place, node_at

PARIS = ZoneInfo("Europe/Paris")
DAILY = {"cron": "0 7 * * *", "zone": "Europe/Paris"}
MARCH = datetime(2025, 3, 1, tzinfo=UTC)


def at(day: int, hour: int = 0, *, month: int = 3, fold: int = 0) -> datetime:
    return datetime(2025, month, day, hour, tzinfo=PARIS, fold=fold)


def written(times: Any) -> list[str]:
    return [f"{each:%dT%H:%MZ}" for each in times]


async def filled(services: Services, since: datetime, until: datetime, name: str = "often", **said: Any) -> Backfill:
    return await backfill(services, name, since, until, by="ann", **said)


@pytest.mark.parametrize(
    ("cron", "since", "until", "expected"),
    [
        # 02:30 is left out on the 30th of March, and there twice on the 26th of October
        ("30 2 * * *", at(29), at(1, month=4), ["29T01:30Z", "30T01:00Z", "31T00:30Z"]),
        ("30 2 * * *", at(25, month=10), at(28, month=10), ["25T00:30Z", "26T00:30Z", "27T01:30Z"]),
        ("30 2 * * *", at(26, 2, month=10, fold=1), at(28, month=10), ["27T01:30Z"]),
        ("*/30 2 * * *", at(29, 12), at(31, 12), ["31T00:00Z", "31T00:30Z"]),
        ("*/30 2 * * *", at(26, month=10), at(27, month=10), ["26T00:00Z", "26T00:30Z", "26T01:00Z", "26T01:30Z"]),
        ("0 7 * * *", at(29, 7), at(31, 7), ["29T06:00Z", "30T05:00Z"]),
    ],
)
async def test_due_times_where_a_clock_changes(
    place: Place, services: Services, cron: str, since: datetime, until: datetime, expected: list[str]
) -> None:
    """`since` is the first moment that counts, `until` the first that does not."""
    await put(services, cron=cron, zone="Europe/Paris")
    told = await filled(services, since, until, dry_run=True)
    assert (written(told.times), told.count) == (expected, len(expected))
    assert await jobs_of(place) == []
    assert await place.value("SELECT count(*) FROM jobtrail.batches") == 0
    done = await filled(services, since, until)
    assert [job["scheduled_for"] for job in await jobs_of(place)] == list(done.times) == list(told.times)


async def test_the_jobs_are_those_of_the_schedule_and_one_batch(place: Place, services: Services) -> None:
    said = {"args": {"n": 5}, "queue": "mail", "priority": 7, "tags": ["early"], "jitter": 600}
    before = await planned(services, **DAILY, **said)
    found = await filled(services, at(1), at(4))
    assert (found.schedule, found.dry_run, found.count) == ("often", False, 3)
    made = await jobs_of(place)
    assert [(job["task"], json.loads(job["args"]), job["queue"], job["priority"], job["tags"]) for job in made] == [
        ("noop", {"n": 5}, "mail", 7, ["early"])
    ] * 3
    assert {job["created_by"] for job in made} == {"ann"}
    assert [(job["exclusive"], job["limit_keys"]) for job in made] == [(None, ["schedule:often"])] * 3
    assert {job["due_at"] - job["created_at"] for job in made} == {timedelta(0)}, "no jitter"
    moves = await place.rows("SELECT DISTINCT actor, reason FROM jobtrail.transitions")
    assert moves == [{"actor": "ann", "reason": "backfill"}]
    after = (await schedules.read_schedule(services, "often")).schedule
    assert after == before
    assert found.batch_id is not None
    batch = await batches.read(services, found.batch_id)
    assert (batch.total, batch.pending, batch.created_by, batch.on_done) == (3, 3, "ann", None)
    for job in made:
        for step in (Status.RUNNING, Status.SUCCEEDED):
            await moved(place, job["id"], step)
    await batches.finish_all(services)
    batch = await batches.read(services, found.batch_id)
    assert (batch.succeeded, batch.done_at is not None) == (3, True)


async def test_a_due_time_that_has_a_job_gets_another(place: Place, services: Services) -> None:
    await put(services, **DAILY)
    await filled(services, at(1), at(4))
    await filled(services, at(2), at(3))
    assert written(job["scheduled_for"] for job in await jobs_of(place)) == [
        "01T06:00Z", "02T06:00Z", "02T06:00Z", "03T06:00Z",
    ]  # fmt: skip


@pytest.mark.parametrize("overlap", ["skip", "queue", "allow"])
async def test_nothing_is_skipped_for_it_nor_is_it_for_anything(place: Place, services: Services, overlap: str) -> None:
    """A job of the schedule is unfinished, three are made up for, and then the schedule is due."""
    await planned(services, overlap=overlap, starts_at=MARCH)
    before = (await schedules.run(services, "often", by="ann")).id
    await filled(services, MARCH, MARCH + timedelta(hours=3))
    await moved(place, before, Status.CANCELLED)
    await down_for(place, 0)
    assert len(await tick(services)) == 1
    assert await skips_of(place) == {}
    assert len(await jobs_of(place)) == 5


async def test_they_run_one_after_the_other_oldest_first_over_all_nodes(place: Place, services: Services) -> None:
    await put(services, **DAILY)
    found = await filled(services, at(1), at(13))
    assert found.batch_id is not None
    async with node_at(services, place), node_at(services, place):

        async def is_done() -> bool:
            return (await batches.read(services, found.batch_id)).done_at is not None  # type: ignore[arg-type]

        await until(is_done)
    made = await jobs_of(place)
    starts = [job["started_at"] for job in made]
    assert starts == sorted(starts)
    assert (len(made), await place.value(PEAK, "schedule:often")) == (12, 1)


async def test_with_allow_they_run_at_once(place: Place, services: Services) -> None:
    await put(services, overlap="allow", **DAILY)
    await filled(services, at(1), at(4))
    assert [(job["limit_keys"], job["run_at"] is not None) for job in await jobs_of(place)] == [(None, True)] * 3


async def test_with_queue_the_next_one_waits_behind_them(place: Place, services: Services) -> None:
    await planned(services, overlap="queue", starts_at=MARCH)
    await filled(services, MARCH, MARCH + timedelta(hours=2))
    await down_for(place, 0)
    (last,) = await tick(services)
    order = []
    for _ in range(3):
        (claimed,) = await _claimed(services)
        assert await _claimed(services) == []
        await moved(place, claimed, Status.SUCCEEDED)
        order.append(claimed)
    assert order[-1] == last.id


async def _claimed(services: Services) -> list[UUID]:
    found = await claim_limited(
        services.database, node=uuid4(), lease=timedelta(seconds=30), tasks=TASKS, queues=[], free=10, declared="{}",
        start=(), hints=[],
    )  # fmt: skip
    return [each.id for each in found.jobs]


async def test_the_limits_of_the_task_hold_too(place: Place) -> None:
    services = Services(place.database, Catalog([limited]))
    spec = ScheduleSpec(task="limited", args={"tenant": 7}, **DAILY)  # type: ignore[arg-type]
    await schedules.put(services, "often", spec, by="ann")
    await filled(services, at(1), at(2))
    (job,) = await jobs_of(place)
    assert job["limit_keys"] == ["every tenant", "tenant:7", "schedule:often"]


@pytest.mark.parametrize("columns", ["paused_at = now()", "disabled_at = now()"])
async def test_a_schedule_that_makes_no_jobs_can_be_backfilled(place: Place, services: Services, columns: str) -> None:
    await put(services, **DAILY)
    await place.psql.execute(f"UPDATE jobtrail.schedules SET {columns}")
    assert (await filled(services, at(1), at(4))).count == 3
    assert len(await jobs_of(place)) == 3


async def test_every_counts_from_starts_at_else_from_the_edit(services: Services) -> None:
    await put(services, every=3600, starts_at=MARCH + timedelta(minutes=5))
    found = await filled(services, MARCH, MARCH + timedelta(hours=3))
    assert written(found.times) == ["01T00:05Z", "01T01:05Z", "01T02:05Z"]
    edited = (await put(services, every=3600)).edited_at
    with pytest.raises(InvalidInputError) as refused:
        await filled(services, MARCH, MARCH + timedelta(hours=3))
    assert f"the next one is {edited + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}" in str(refused.value)


async def test_as_many_as_a_batch_has_and_no_more(place: Place, services: Services) -> None:
    """In several statements; the order is one."""
    await put(services, every=60, starts_at=MARCH)
    end = MARCH + timedelta(minutes=MAX_BATCHED)
    with pytest.raises(InvalidInputError) as refused:
        await filled(services, MARCH, end + timedelta(days=90))
    assert f"write {end:%Y-%m-%dT%H:%M:%SZ}, and go on from there" in str(refused.value)
    assert await jobs_of(place) == []
    found = await filled(services, MARCH, end)
    assert (found.count, len(found.times)) == (MAX_BATCHED, 100)
    wrong = """SELECT count(*) FROM (
        SELECT row_number() OVER (ORDER BY due_at, id) AS turn, row_number() OVER (ORDER BY scheduled_for) AS place
          FROM jobtrail.jobs) orders WHERE turn <> place"""
    assert await place.value(wrong) == 0
    assert found.batch_id is not None
    assert (await batches.read(services, found.batch_id)).pending == MAX_BATCHED


async def test_all_or_nothing_is_stored(place: Place, services: Services) -> None:
    await put(services, every=60, starts_at=MARCH)
    check = "scheduled_for <> '2025-03-01 20:00Z'"
    await place.psql.execute(f"ALTER TABLE jobtrail.jobs ADD CONSTRAINT ck_mine CHECK ({check})")
    try:
        with pytest.raises(Exception, match="ck_mine"):
            await filled(services, MARCH, MARCH + timedelta(days=1))
    finally:
        await place.psql.execute("ALTER TABLE jobtrail.jobs DROP CONSTRAINT ck_mine")
    assert await jobs_of(place) == []
    assert await place.value("SELECT count(*) FROM jobtrail.batches") == 0


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("since", "until", "told"),
    [
        (at(1), at(1), "/until: this is not after from"),
        (at(2), at(1), "/until: this is not after from"),
        (at(1, 8), at(2, 6), "/until: the schedule has no due time from `from` until then: the next one is 2025-03-02"),
        (at(1), LAST_TIME, "/until: due times to come become jobs by themselves: write a time up to now, "),
        (FIRST_TIME, at(1), "/until: there are more than 10000 due times from `from` until then"),
        (datetime.min.replace(tzinfo=UTC), at(1), "/until: there are more than 10000 due times"),
    ],
)
async def test_a_time_that_cannot_be_made_up_for_is_refused(
    place: Place, services: Services, since: datetime, until: datetime, told: str, *, dry_run: bool
) -> None:
    await put(services, **DAILY)
    with pytest.raises(InvalidInputError) as refused:
        await filled(services, since, until, dry_run=dry_run)
    assert str(refused.value).startswith(told)
    assert await jobs_of(place) == []


@pytest.mark.parametrize("dry_run", [True, False])
async def test_what_could_not_run_is_refused(place: Place, services: Services, *, dry_run: bool) -> None:
    with pytest.raises(ScheduleNotFoundError):
        await filled(services, at(1), at(4), dry_run=dry_run)
    await put(services, **DAILY)
    for columns, error in (("args = '{\"m\": 1}'", InvalidInputError), ("task = 'gone'", UnknownTaskError)):
        await place.psql.execute(f"UPDATE jobtrail.schedules SET {columns}")
        with pytest.raises(error):
            await filled(services, at(1), at(4), dry_run=dry_run)
    await place.psql.execute("UPDATE jobtrail.schedules SET task = 'noop', args = '{}', cron = 'nonsense'")
    with pytest.raises(InvalidInputError, match="/cron"):
        await filled(services, at(1), at(4), dry_run=dry_run)


@task(unique_key="of all")
async def alone() -> None: ...


async def test_a_task_with_a_unique_key_is_refused(place: Place) -> None:
    services = Services(place.database, Catalog.of([alone]))
    await put(services, task="alone", cron="* * * * *")
    now = await place.value("SELECT now()")
    with pytest.raises(InvalidInputError, match="have no unique keys"):
        await backfill(services, "often", now - timedelta(hours=5), now, by="ann")


async def test_the_end_of_one_starts_the_next(place: Place, services: Services) -> None:
    """However long a poll is, and though the task itself declares no limit."""
    await put(services, every=3600, starts_at=MARCH)
    found = await filled(services, MARCH, MARCH + timedelta(hours=8))
    assert found.count == 8

    async def all_ended() -> bool:
        return not await place.value("SELECT count(*) FROM jobtrail.jobs WHERE status IN ('pending', 'running')")

    async with node_at(services, place, poll_every=timedelta(seconds=15)):
        await until(all_ended, within=60)
