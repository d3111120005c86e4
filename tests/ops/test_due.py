"""The tick: which due times become jobs, on how many nodes soever, and what becomes of the others."""

import asyncio
import json
import re
from datetime import timedelta
from itertools import pairwise
from uuid import UUID, uuid4

import pytest

from jobtrail import task
from jobtrail.db.engine import open_database
from jobtrail.jobs.claim import claim_limited
from jobtrail.jobs.fire import ScheduleStep, fire
from jobtrail.jobs.retry import retry
from jobtrail.jobs.services import Services
from jobtrail.ops import schedules
from jobtrail.ops.due import DUE, fire_due
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from jobtrail.task.schedule import ScheduleSpec
from support.limited import limited
from support.rows import moved
from support.schedules import TASKS, down_for, jobs_of, planned, put, skips_of, tick
from support.world import Place

HOUR = timedelta(hours=1)


async def test_a_due_time_becomes_a_job_of_its_schedule(place: Place, services: Services) -> None:
    said = {"args": {"n": 5}, "queue": "mail", "priority": 7, "tags": ["often"]}
    before = await planned(services, **said)
    assert await jobs_of(place) == []
    await down_for(place, 0)
    (fired,) = await tick(services)
    (job,) = await jobs_of(place)
    assert (job["id"], json.loads(job["args"]), job["queue"], job["priority"]) == (fired.id, {"n": 5}, "mail", 7)
    assert (job["tags"], job["created_by"], job["exclusive"]) == (["often"], "schedule:often", True)
    assert (job["task"], job["status"], job["run_at"]) == ("noop", "pending", job["created_at"])
    move = await place.rows("SELECT actor, reason FROM jobtrail.transitions WHERE job_id = $1", job["id"])
    assert move == [{"actor": "schedule:often", "reason": "due"}]
    after = (await schedules.read_schedule(services, "often")).schedule
    assert job["scheduled_for"] is not None
    assert after.next_at == job["scheduled_for"] + HOUR
    assert after.edition == before.edition
    assert await tick(services) == []


@task(unique_key="of all")
async def alone() -> None: ...


async def test_a_due_time_whose_unique_key_is_taken_is_skipped_and_told(place: Place) -> None:
    services = Services(place.database, Catalog.of([alone]))
    await put(services, task="alone", overlap="allow")
    for skipped in ({}, {"overlap": 1}, {"overlap": 2}):
        await fire_due(services, ["alone"])
        await down_for(place, 0)
        await fire_due(services, ["alone"])
        assert len(await jobs_of(place)) == 1
        assert await skips_of(place) == skipped


async def test_many_ticks_at_once_make_one_job_for_each_due_time(place: Place, services: Services) -> None:
    for number in range(40):
        await put(services, f"s{number}", every=3600, overlap="allow")
    await tick(services)
    others = [open_database(place.url.sqlalchemy) for _ in range(3)]
    nodes = [services, *(Services(each, services.catalog) for each in others)]
    for _ in range(5):
        await place.psql.execute("UPDATE jobtrail.schedules SET next_at = next_at - interval '2 hours'")
        await asyncio.gather(*(tick(node) for node in nodes * 3))
        await tick(services)
    for each in others:
        await each.dispose()
    made = await place.rows("SELECT schedule, count(*) AS jobs FROM jobtrail.jobs GROUP BY schedule")
    assert len(made) == 40
    assert {row["jobs"] for row in made} == {5}


@pytest.mark.parametrize(
    ("missed", "overlap", "jobs", "skips"),
    [("once", "skip", 1, {"missed": 2}), ("skip", "skip", 0, {"missed": 3}), ("all", "allow", 3, {})],
)
async def test_due_times_without_a_node(
    place: Place, services: Services, missed: str, overlap: str, jobs: int, skips: dict[str, int]
) -> None:
    await planned(services, missed=missed, overlap=overlap)
    await down_for(place, 2.5)
    await tick(services)
    made = await jobs_of(place)
    assert len(made) == jobs
    assert await skips_of(place) == skips
    if made:  # the last one was half an hour ago
        now = await place.value("SELECT clock_timestamp()")
        assert timedelta(minutes=29) < now - made[-1]["scheduled_for"] < timedelta(minutes=40)
    detail = await schedules.read_schedule(services, "often")
    assert detail.skipped == skips
    assert detail.schedule.next_at is not None
    assert detail.schedule.next_at > await place.value("SELECT clock_timestamp()")


async def test_of_all_the_missed_the_last_hundred_run(place: Place, services: Services) -> None:
    await planned(services, missed="all", overlap="allow")
    await down_for(place, 500.5)
    await tick(services)
    made = await jobs_of(place)
    assert len(made) == 100
    assert made[-1]["scheduled_for"] - made[0]["scheduled_for"] == 99 * HOUR


@pytest.mark.parametrize("status", [Status.PENDING, Status.RUNNING])
async def test_a_due_time_that_meets_an_unfinished_job_is_skipped(
    place: Place, services: Services, status: Status
) -> None:
    await planned(services)
    await down_for(place, 0)
    await tick(services)
    (job,) = await jobs_of(place)
    if status is Status.RUNNING:
        await moved(place, job["id"], status)
    await down_for(place, 0)
    assert await tick(services) == []
    assert await skips_of(place) == {"overlap": 1}
    await moved(place, job["id"], Status.RUNNING) if status is Status.PENDING else None
    await moved(place, job["id"], Status.SUCCEEDED)
    await down_for(place, 0)
    assert len(await tick(services)) == 1


async def test_with_allow_both_run(place: Place, services: Services) -> None:
    await planned(services, overlap="allow")
    for _ in range(2):
        await down_for(place, 0)
        await tick(services)
    assert len(await jobs_of(place)) == 2
    assert await skips_of(place) == {}


async def test_of_those_that_queue_one_runs_at_a_time(place: Place, services: Services) -> None:
    """Missed due times do so by themselves when all of them are to run."""
    await planned(services, missed="all")
    await down_for(place, 2.5)
    await tick(services)
    made = await jobs_of(place)
    assert [(job["limit_keys"], job["run_at"]) for job in made] == [(["schedule:often"], None)] * 3
    for job in made:
        (claimed,) = await _claim_limited(services)
        assert claimed == job["id"]
        assert await _claim_limited(services) == []
        await moved(place, claimed, Status.SUCCEEDED)


async def test_a_scheduled_job_has_the_limits_of_its_task(place: Place) -> None:
    services = Services(place.database, Catalog([limited]))
    await schedules.put(services, "often", ScheduleSpec(task="limited", args={"tenant": 7}, every=3600), by="ann")
    await fire_due(services, ["limited"])
    await down_for(place, 0)
    await fire_due(services, ["limited"])
    (job,) = await jobs_of(place)
    terms = [each["number"] for each in json.loads(job["limit_terms"])]
    assert dict(zip(job["limit_keys"], terms, strict=True)) == {"tenant:7": 3, "every tenant": 7}


async def test_a_schedule_whose_jobs_cannot_be_stored_is_paused_and_holds_up_no_other(
    place: Place, services: Services
) -> None:
    await planned(services)
    await planned(services, "other")
    await place.psql.execute("ALTER TABLE jobtrail.jobs ADD CONSTRAINT ck_mine CHECK (schedule <> 'often')")
    try:
        await down_for(place, 0)
        await down_for(place, 0, "other")
        (fired,) = await tick(services)
    finally:
        await place.psql.execute("ALTER TABLE jobtrail.jobs DROP CONSTRAINT ck_mine")
    assert [job["id"] for job in await jobs_of(place, "other")] == [fired.id]
    guilty = (await schedules.read_schedule(services, "often")).schedule
    assert (guilty.state, guilty.paused_by) == ("paused", "jobtrail")
    assert "ck_mine" in (guilty.pause_reason or "")


async def test_arguments_that_nobody_can_read_are_shown_and_skipped(place: Place, services: Services) -> None:
    await planned(services)
    deep = '{"a": ' * 1100 + "1" + "}" * 1100
    await place.psql.execute("UPDATE jobtrail.schedules SET args = $1::jsonb", deep)
    await down_for(place, 0)
    assert await tick(services) == []
    assert "(unreadable)" in (await schedules.read_schedule(services, "often")).schedule.args
    assert len(await schedules.read_schedules(services)) == 1


async def _claim_limited(services: Services) -> list[UUID]:
    found = await claim_limited(
        services.database, node=uuid4(), lease=timedelta(seconds=30), tasks=TASKS, queues=[], free=10, declared="{}",
        start=(), hints=[],
    )  # fmt: skip
    return [each.id for each in found.jobs]


async def test_a_job_that_is_retried_by_hand_excludes_no_other(place: Place, services: Services) -> None:
    await planned(services)
    for _ in range(2):
        await down_for(place, 0)
        (fired,) = await tick(services)
        for step in (Status.RUNNING, Status.FAILED):
            await moved(place, fired.id, step)
    await down_for(place, 0)
    await tick(services)
    for job in (await jobs_of(place))[:2]:
        assert (await retry(services, job["id"], by="ann")).status is Status.PENDING


async def test_jitter_is_in_the_time_of_the_job_alone(place: Place, services: Services) -> None:
    await planned(services, jitter=600, overlap="allow", missed="all")
    await down_for(place, 19.5)
    await tick(services)
    made = await jobs_of(place)
    later = {job["run_at"] - job["scheduled_for"] for job in made}
    assert len(made) == len(later) == 20
    assert min(later) >= timedelta(0)
    assert max(later) <= timedelta(minutes=10)
    assert {b["scheduled_for"] - a["scheduled_for"] for a, b in pairwise(made)} == {HOUR}


async def test_after_so_many_failures_in_a_row_it_pauses_itself(place: Place, services: Services) -> None:
    await planned(services, pause_after=2)
    for status in (Status.FAILED, Status.SUCCEEDED, Status.FAILED, Status.FAILED):
        await down_for(place, 0)
        (fired,) = await tick(services)
        for step in (Status.RUNNING, status):
            await moved(place, fired.id, step)
    await down_for(place, 0)
    assert await tick(services) == []
    found = (await schedules.read_schedule(services, "often")).schedule
    assert (found.state, found.paused_by, found.pause_reason) == ("paused", "jobtrail", "its last 2 jobs failed")
    await schedules.resume(services, "often", by="ann")
    await tick(services)
    await down_for(place, 0)
    assert len(await tick(services)) == 1


async def test_arguments_that_no_longer_fit_are_skipped_and_told(place: Place, services: Services) -> None:
    await planned(services)
    await place.psql.execute("UPDATE jobtrail.schedules SET args = '{\"x\": 1}'")
    await down_for(place, 0)
    assert await tick(services) == []
    assert await skips_of(place) == {"arguments": 1}


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ("cron = 'nonsense', every = NULL", "/cron: this has 1 fields, not 5"),
        ("zone = 'Mars'", "/zone: no zone of the IANA database is named 'Mars'"),
        ("queue = 'a b'", "/queue: String should match pattern"),
    ],
)
async def test_a_row_from_psql_that_cannot_be_obeyed_is_paused_and_holds_up_no_other(
    place: Place, services: Services, columns: str, reason: str
) -> None:
    await planned(services)
    await planned(services, "other")
    await place.psql.execute(f"UPDATE jobtrail.schedules SET {columns} WHERE name = 'often'")
    await down_for(place, 0)
    await down_for(place, 0, "other")
    assert len(await tick(services)) == 1
    found = (await schedules.read_schedule(services, "often")).schedule
    assert found.state == "paused"
    assert found.pause_reason is not None
    assert re.match(f"it cannot be obeyed: {re.escape(reason)}", found.pause_reason)


async def test_a_row_from_psql_is_a_schedule(place: Place, services: Services) -> None:
    await place.psql.execute("INSERT INTO jobtrail.schedules (name, task, every) VALUES ('mine', 'noop', '1 hour')")
    await tick(services)
    found = (await schedules.read_schedule(services, "mine")).schedule
    assert found.next_at == found.edited_at + HOUR
    assert found.edited_by == await place.value("SELECT session_user")


@pytest.mark.parametrize("columns", ["edition", "next_at"])
async def test_a_schedule_that_is_deleted_and_made_anew_in_one_transaction_is_obeyed_at_once(
    place: Place, services: Services, columns: str
) -> None:
    """After a tick has read the schedule, and before it writes. The new one is due at the same time, or never was."""
    await planned(services)
    await down_for(place, 0)
    seen = (await schedules.read_schedule(services, "often")).schedule
    assert seen.next_at is not None
    async with place.psql.transaction():
        await place.psql.execute("DELETE FROM jobtrail.schedules")
        await place.psql.execute(
            "INSERT INTO jobtrail.schedules (name, task, every) VALUES ('often', 'nothing', '2 hours')"
        )
        if columns == "edition":
            await place.psql.execute("UPDATE jobtrail.schedules SET next_at = $1", seen.next_at)
    step = ScheduleStep("often", seen.edition, seen.next_at, seen.next_at + HOUR)
    job = schedules.job_of(services, seen, seen.spec(), by="a tick", scheduled_for=seen.next_at)
    assert await fire(services.database, [step], [job]) == []
    assert await jobs_of(place) == []
    await down_for(place, 0)
    await tick(services)
    assert [made["task"] for made in await jobs_of(place)] == ["nothing"]


async def test_a_tick_waits_for_nobody_who_is_editing(place: Place, services: Services) -> None:
    await planned(services)
    await planned(services, "other")
    for name in ("often", "other"):
        await down_for(place, 0, name)
    async with place.psql.transaction():
        await place.psql.execute("UPDATE jobtrail.schedules SET every = '2 hours' WHERE name = 'often'")
        (fired,) = await tick(services)
    assert [job["id"] for job in await jobs_of(place, "other")] == [fired.id]


async def test_only_who_knows_the_task_makes_its_jobs(place: Place, services: Services) -> None:
    await planned(services)
    await down_for(place, 0)
    assert (await fire_due(services, ["nothing"])).fired == ()
    assert len((await fire_due(services, ["noop"])).fired) == 1


async def test_an_idle_tick_is_one_probe_of_an_index(place: Place, services: Services) -> None:
    await place.psql.execute("""INSERT INTO jobtrail.schedules (name, task, every)
                                SELECT 's' || n, 'noop', '1 hour' FROM generate_series(1, 10000) n""")
    await place.psql.execute(
        "UPDATE jobtrail.schedules SET next_at = clock_timestamp() + (1 + random()) * interval '1 hour'"
    )
    await place.psql.execute("VACUUM ANALYZE jobtrail.schedules")
    sql = DUE.of("jobtrail")
    plan = (await place.rows(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", timedelta(seconds=5), ["noop"]))[0]
    top = json.loads(plan["QUERY PLAN"])[0]
    text = json.dumps(top)
    assert "ix_schedules_due" in text
    assert "Seq Scan" not in text
    print(f"\nan idle tick over 10,000 schedules: {top['Execution Time']:.3f} ms")
    assert await tick(services) == []
