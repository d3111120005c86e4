"""Unique keys: one unfinished job of a key; and debounce, where the one that waits takes the newest arguments."""

import asyncio
from collections import defaultdict
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from jobtrail import Limit, Retry, task
from jobtrail.db.engine import open_database
from jobtrail.errors import DeclarationError, InvalidArgumentsError, InvalidInputError, JobConflictError
from jobtrail.jobs.bulk import Action, bulk
from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.claim import claim_limited
from jobtrail.jobs.history import read_history
from jobtrail.jobs.query import Filter, read
from jobtrail.jobs.rescue import rescue
from jobtrail.jobs.retry import retry
from jobtrail.jobs.services import Services
from jobtrail.jobs.submit import submit, submit_batch
from jobtrail.records import Job
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from jobtrail.task.submission import Submission
from support import tasks, world
from support.limited import PEAK
from support.rows import moved, typed
from support.until import until
from support.world import Place


@task(unique_key="report:{customer}")
async def report(customer: str = "c", text: str = "") -> str:
    return customer + text


@task(unique_key="index:{key}", on_duplicate="replace")
async def index(key: str = "k", n: int = 0) -> dict[str, Any]:
    await asyncio.sleep(0.02)
    return {"key": key, "n": n}


@task(unique_key="late:{key}", on_duplicate="replace", delay=600, max_delay=3600)
async def late(key: str = "k", n: int = 0) -> str:
    return key * n


@task(unique_key="failing", on_duplicate="replace", max_attempts=2, retry=Retry(base=0.5, jitter=0))
async def failing(n: int) -> int:
    if n == 1:
        raise ValueError("the first one fails")
    return n


@task(limits=[Limit("judged", 1)], on_full="reject")
async def judged() -> None: ...


@task(limits=[Limit(f"{n}" + "\U0001f680" * 150, 1) for n in range(3)])
async def long() -> None: ...


async def function(n: int = 0) -> int:
    return n


@pytest.fixture
def services(place: Place) -> Services:
    return Services(place.database, Catalog.of([report, index, late, failing, judged, long, tasks.noop]))


async def stored(services: Services, name: str, *, by: str = "ann", **args: Any) -> tuple[Job, bool]:
    return await submit(services, Submission(task=name, args=args), by=by)


async def test_a_key_has_one_unfinished_job_however_many_submit_it(services: Services, place: Place) -> None:
    nodes = [Services(open_database(place.url.sqlalchemy), services.catalog) for _ in range(4)]
    asked = (stored(nodes[n % 4], "report", by=f"caller {n}", customer=f"c{n % 3}", text=str(n)) for n in range(60))
    answers = await asyncio.gather(*asked)
    for each in nodes:
        await each.database.dispose()
    assert sum(not is_there for _, is_there in answers) == 3
    assert {job.unique_key for job, _ in answers} == {"report:c0", "report:c1", "report:c2"}
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == len({job.id for job, _ in answers}) == 3
    first = answers[0][0]
    await moved(place, first.id, Status.RUNNING)
    assert await stored(services, "report", customer="c0") == (await read(services, first.id), True)
    await moved(place, first.id, Status.SUCCEEDED)
    again, is_there = await stored(services, "report", customer="c0")
    assert (again.id != first.id, is_there) == (True, False)


async def test_jobs_of_one_list_share_their_key(services: Services, place: Place) -> None:
    wanted = [Submission(task="report"), Submission(task="noop"), Submission(task="report")]
    jobs = await submit_batch(services, wanted, by="ann")
    assert (jobs[0].id, len({each.id for each in jobs})) == (jobs[2].id, 2)
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 2


async def test_of_one_list_the_last_arguments_of_a_key_are_stored(services: Services, place: Place) -> None:
    keys = ["a", "b", "a", "b", "a"]
    wanted = [Submission(task="late", args={"key": key, "n": n}) for n, key in enumerate(keys)]
    for expected in (2, 0):  # stored, then replaced
        jobs = await submit_batch(services, wanted, by="ann")
        assert [(each.args["key"], each.args["n"]) for each in jobs] == [(key, 4 if key == "a" else 3) for key in keys]
        assert await place.value("SELECT count(*) FROM jobtrail.jobs WHERE seq = 1") == expected
    said = {"unique_key": "c", "on_duplicate": "replace", "max_delay": 60, "run_at": "2999-01-01T00:00:00Z"}
    bounded, _ = await submit(services, Submission(task="noop", **said), by="ann")
    assert bounded.run_at is not None
    assert bounded.run_at - bounded.created_at < timedelta(minutes=2)


async def test_keys_that_wait_to_run_again_hide_no_other_lane(services: Services, place: Place) -> None:
    """Each has a follow-up that is due and may not begin yet."""
    again = """INSERT INTO jobtrail.jobs (id, task, unique_key, replaceable, limit_keys, run_at)
               SELECT gen_random_uuid(), 'index', n::text, true, ARRAY['unique:' || n], now() - interval '1 minute'
                 FROM generate_series(1000, 1299) AS n"""
    await place.psql.execute(again)
    start = "UPDATE jobtrail.jobs SET status = 'running', attempt = 1, max_attempts = 2, started_at = now()"
    await place.psql.execute(f"{start}, lease_until = now(), node_id = gen_random_uuid()")
    await place.psql.execute("UPDATE jobtrail.jobs SET status = 'pending', run_at = now() + interval '1 day'")
    await place.psql.execute(again)
    other, _ = await submit(services, Submission(task="long"), by="ann")
    claim = await claim_limited(
        services.database, node=uuid4(), lease=timedelta(seconds=30), tasks=["index", "long"], queues=[], free=10,
        declared="{}", start=["unique"], hints=[other.id],
    )  # fmt: skip
    assert [each.id for each in claim.jobs] == [other.id]


async def test_the_one_that_waits_takes_the_newest_arguments(services: Services, place: Place) -> None:
    first, _ = await stored(services, "late", n=1)
    assert timedelta(seconds=590) < first.run_at - first.created_at < timedelta(seconds=610)
    wanted = Submission(task="late", args={"n": 2}, tags=["new"], priority=7)
    second, is_there = await submit(services, wanted, by="bob")
    assert (second.id, is_there, second.args, second.tags, second.priority) == (first.id, True, {"n": 2}, ["new"], 7)
    assert (second.created_by, second.trace_id, second.created_at) == ("bob", first.trace_id, first.created_at)
    assert second.run_at > first.run_at
    moves = await read_history(services, first.id)
    assert [(each.from_status, each.to_status, each.actor, each.reason) for each in moves] == [
        (None, "pending", "ann", "submitted"),
        ("pending", "pending", "bob", "replaced"),
    ]
    # however often it is submitted, it waits no longer than max_delay from the first time
    await place.psql.execute("UPDATE jobtrail.jobs SET created_at = created_at - interval '55 minutes'")
    third, _ = await stored(services, "late", n=3)
    assert third.run_at == third.created_at + timedelta(hours=1)


async def test_the_caller_says_it_where_the_task_does_not(services: Services) -> None:
    said: dict[str, Any] = {"unique_key": "own:{n}", "on_duplicate": "replace", "delay": 5, "max_delay": 5}
    first, _ = await submit(services, Submission(task="noop", args={"n": 1}, **said), by="ann")
    second, is_there = await submit(services, Submission(task="noop", args={"n": 1}, **said), by="ann")
    assert (first.unique_key, second.id, is_there) == ("own:1", first.id, True)
    kept, is_there = await submit(services, Submission(task="noop", unique_key="own:1"), by="ann")
    assert (kept.id != first.id, is_there) == (True, False)  # keys that are kept and keys that are replaced are two
    later, _ = await submit(services, Submission(task="noop", delay=60), by="ann")
    assert later.run_at - later.created_at > timedelta(seconds=50)


async def test_the_last_payload_of_a_key_is_seen_by_a_run_that_began_after_it(services: Services, place: Place) -> None:
    last: dict[str, Any] = {}
    calls = iter(range(1000))

    async def client(nodes: Services) -> None:
        for n in calls:
            key = f"k{n % 10}"
            wanted = Submission(task="index", args={"key": key, "n": n}, delay=0.05, max_delay=0.2)
            await submit(nodes, wanted, by="ann")
            last[key] = max(n, last.get(key, 0))

    async with world.node_at(services, place), world.node_at(services, place):
        await asyncio.gather(*(client(services) for _ in range(20)))
        # what each key was given last, after all of those
        last = {key: 1000 + n for key, n in last.items()}
        for key, n in last.items():
            await stored(services, "index", key=key, n=n)

        async def all_ended() -> bool:
            return not await place.value("SELECT count(*) FROM jobtrail.jobs WHERE status IN ('pending', 'running')")

        await until(all_ended, within=120)
    seen = defaultdict(list)
    for row in await place.rows("SELECT result ->> 'key' AS key, (result ->> 'n')::int AS n FROM jobtrail.jobs"):
        seen[row["key"]].append(row["n"])
    assert {key: max(found) for key, found in seen.items()} == last
    assert all(len(found) == len(set(found)) for found in seen.values())  # nothing ran twice
    assert {await place.value(PEAK, f"index:{key}") for key in last} == {1}
    print(f"{sum(map(len, seen.values()))} runs for 1,010 calls")


async def test_a_failed_attempt_is_repeated_before_its_follow_up(services: Services, place: Place) -> None:
    async with world.node_at(services, place):
        first, _ = await stored(services, "failing", n=1)

        async def waits_to_run_again() -> bool:
            return (await read(services, first.id)).attempt == 1 and (await read(services, first.id)).error is not None

        await until(waits_to_run_again)
        follow_up, is_there = await stored(services, "failing", n=2)
        assert not is_there
        assert (await world.ended(services, follow_up.id)).status is Status.SUCCEEDED
    repeated = await read(services, first.id)
    followed = await read(services, follow_up.id)
    assert (repeated.status, repeated.attempt) == (Status.FAILED, 2)
    assert repeated.finished_at is not None
    assert followed.started_at is not None
    assert repeated.finished_at <= followed.started_at


async def test_what_was_lost_is_rescued_beside_its_follow_up(services: Services, place: Place) -> None:
    lost = [(await submit(services, Submission(task=name, args={"key": "k"}, max_attempts=3), by="ann"))[0].id
            for name in ("index", "late")]  # fmt: skip
    for each in lost:
        await moved(place, each, Status.RUNNING)
    await place.psql.execute("UPDATE jobtrail.jobs SET lease_until = now() - interval '1 minute'")
    follow_ups = [(await stored(services, name))[0].id for name in ("index", "late")]
    assert not set(lost) & set(follow_ups)
    assert len(await rescue(services.database, node=await world.judge(place), by="me")) == 2
    assert {(await read(services, each)).status for each in (*lost, *follow_ups)} == {Status.PENDING}


async def failed(place: Place, job_id: UUID) -> None:
    await moved(place, job_id, Status.RUNNING)
    await moved(place, job_id, Status.FAILED)


async def test_a_retry_by_hand_keeps_to_the_key(services: Services, place: Place) -> None:
    old = []
    for _ in range(3):
        job, _ = await stored(services, "report")
        await failed(place, job.id)
        old.append(job.id)
    others = [(await stored(services, "report", customer=f"c{n}"))[0].id for n in range(5)]
    for each in others:
        await failed(place, each)
    wanted = Filter(status=[Status.FAILED])
    assert (await bulk(services, Action.RETRY, wanted, by="ann")).changed == 6  # of the three old ones the newest
    assert [(await read(services, each)).status for each in old] == [Status.FAILED, Status.FAILED, Status.PENDING]
    with pytest.raises(JobConflictError, match=f"job {old[2]} has its unique key and is not finished"):
        await retry(services, old[0], by="ann")
    await cancel(services, old[2], by="ann")
    assert (await retry(services, old[0], by="ann")).status is Status.PENDING
    with pytest.raises(asyncpg.UniqueViolationError):
        await typed(place, old[1], "pending")


async def test_a_retry_by_hand_of_one_that_waits_to_be_replaced(services: Services, place: Place) -> None:
    cancelled, _ = await stored(services, "late", n=1)
    await cancel(services, cancelled.id, by="ann")
    waiting, _ = await stored(services, "late", n=2)
    with pytest.raises(JobConflictError, match=str(waiting.id)):
        await retry(services, cancelled.id, by="ann")
    ran, _ = await stored(services, "index")
    await failed(place, ran.id)
    await stored(services, "index")
    assert (await retry(services, ran.id, by="ann")).status is Status.PENDING  # it has begun: it goes first


@pytest.mark.parametrize(
    ("wanted", "pointer"),
    [
        ({"task": "noop", "on_duplicate": "keep"}, "/on_duplicate"),
        ({"task": "noop", "unique_key": "k", "max_delay": 5}, "/max_delay"),
        ({"task": "noop", "unique_key": "k", "on_duplicate": "replace", "delay": 6, "max_delay": 5}, "/max_delay"),
        ({"task": "noop", "delay": 5, "run_at": "2030-01-01T00:00:00Z"}, "/delay"),
        ({"task": "noop", "unique_key": "{m}"}, "/unique_key"),
        ({"task": "noop", "unique_key": "{n"}, "/unique_key"),
        ({"task": "noop", "unique_key": "{n!r}"}, "/unique_key"),
        ({"task": "noop", "unique_key": "a\0b"}, "/unique_key"),
        ({"task": "index", "after": ["018f0000-0000-7000-8000-000000000000"]}, "/after"),
        ({"task": "judged", "unique_key": "k", "on_duplicate": "replace"}, "/on_duplicate"),
        ({"task": "long", "unique_key": "\U0001f680" * 200, "on_duplicate": "replace"}, "/unique_key"),
    ],
)
async def test_what_does_not_go_together_is_refused(services: Services, wanted: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        await submit(services, Submission(**wanted), by="ann")
    assert [flaw.pointer for flaw in error.value.flaws] == [pointer]
    with pytest.raises(InvalidInputError) as error:
        await submit_batch(services, [Submission(task="noop"), Submission(**wanted)], by="ann")
    assert [flaw.pointer for flaw in error.value.flaws] == [f"/jobs/1{pointer}"]


async def test_a_key_is_of_one_task_and_of_one_kind(services: Services) -> None:
    await stored(services, "report", customer="c")
    with pytest.raises(InvalidInputError, match="of another task has it: begin the keys of each task in another way"):
        await submit(services, Submission(task="noop", unique_key="report:c"), by="ann")
    with pytest.raises(InvalidInputError, match="take one of the two keys"):
        await submit(services, Submission(task="report"), by="ann", key="k")
    with pytest.raises(InvalidArgumentsError, match=r"/args/customer: the key .* comes to 307"):
        await stored(services, "report", customer="c" * 300)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"unique_key": "{m}"}, "{m} names no argument of the task; there are: n"),
        ({"unique_key": ""}, "unique_key='': write a text of 1 to 200 characters"),
        ({"unique_key": "k", "on_duplicate": "both"}, "write 'keep' or 'replace'"),
        ({"on_duplicate": "replace"}, "on_duplicate: say of which: write unique_key too"),
        ({"unique_key": "k", "delay": -1}, "write seconds from 0"),
        ({"unique_key": "k", "max_delay": 1}, 'write on_duplicate="replace" too'),
        (
            {"unique_key": "k", "on_duplicate": "replace", "delay": 2, "max_delay": 1},
            "less than the delay of 2 seconds",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_at_declaration(options: dict[str, Any], told: str) -> None:
    with pytest.raises(DeclarationError) as error:
        task(**options)(function)
    assert told in str(error.value)
