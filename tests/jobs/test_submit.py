"""A request becomes a committed row, once for each key; several jobs of one caller all of them or none."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from jobtrail import errors
from jobtrail.db import engine
from jobtrail.db.engine import open_database
from jobtrail.ids import Trace
from jobtrail.jobs import services as module
from jobtrail.jobs.history import read_history
from jobtrail.jobs.query import read
from jobtrail.jobs.services import Services
from jobtrail.jobs.submit import app_keyed, prepare, store, submit, submit_batch
from jobtrail.records import Job, NewJob
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from jobtrail.task.submission import Submission
from support import world
from support.world import Place


async def test_the_row_is_committed_and_is_what_the_caller_was_told(services: Services) -> None:
    run_at = datetime(2031, 1, 2, tzinfo=UTC)
    wanted = Submission(
        task="noop", args={"n": 3}, queue="q", priority=7, tags=['a "b"', "c\\d", "{e,f}"], run_at=run_at, ttl=60,
        timeout=1.5, max_attempts=4,
    )  # fmt: skip
    job, _ = await submit(services, wanted, by="ann", trace=Trace("0" * 31 + "1"))
    assert await read(services, job.id) == job
    assert (job.status, job.attempt, job.ttl, job.timeout) == (
        Status.PENDING, 0, timedelta(seconds=60), timedelta(seconds=1.5)
    )  # fmt: skip
    assert (job.run_at, job.trace_id, job.tags) == (run_at, "0" * 31 + "1", ['a "b"', "c\\d", "{e,f}"])
    (birth,) = await read_history(services, job.id)
    assert (birth.seq, birth.from_status, birth.to_status, birth.actor, birth.reason) == (
        1, None, "pending", "ann", "submitted"
    )  # fmt: skip


async def test_what_is_left_out_comes_from_the_task_then_the_service(services: Services) -> None:
    job = await world.submitted(services, "flaky", succeed_at=1)
    assert (job.queue, job.priority, job.max_attempts, job.timeout) == ("default", 5, 3, None)
    assert (job.ttl, job.trace_id, job.run_at) == (timedelta(days=7), job.id.hex, job.created_at)
    slow = await world.submitted(services, "too_slow")
    assert slow.timeout == timedelta(seconds=0.05)
    kept = await world.submitted(services, "noop", ttl=None)
    assert kept.ttl is None


async def test_a_refused_job_leaves_nothing(services: Services, place: Place) -> None:
    with pytest.raises(errors.UnknownTaskError) as unknown:
        await world.submitted(services, "nop")
    assert "noop" in unknown.value.near
    with pytest.raises(errors.InvalidArgumentsError) as wrong:
        await world.submitted(services, "noop", n="many")
    assert wrong.value.flaws[0].pointer == "/args/n"
    with pytest.raises(errors.InvalidInputError) as batch:
        await submit_batch(services, [Submission(task="noop"), Submission(task="noop", args={"m": 1})], by="ann")
    assert batch.value.flaws[0].pointer.startswith("/jobs/1/args")
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 0


async def test_a_batch_is_stored_whole(services: Services, place: Place) -> None:
    jobs = await submit_batch(services, [Submission(task="noop", args={"n": n}) for n in range(1000)], by="ann")
    assert [job.args["n"] for job in jobs] == list(range(1000))
    assert await place.value("SELECT count(*) FROM jobtrail.transitions WHERE to_status = 'pending'") == 1000


async def test_fifty_clients_on_one_key_make_one_job(services: Services, place: Place) -> None:
    nodes = [Services(open_database(place.url.sqlalchemy), services.catalog) for _ in range(5)]
    wanted = Submission(task="noop", args={"n": 1})
    answers = await asyncio.gather(*(submit(nodes[number % 5], wanted, by="ann", key="k") for number in range(50)))
    for each in nodes:
        await each.database.dispose()
    assert len({job.id for job, _ in answers}) == 1
    assert sorted(replayed for _, replayed in answers) == [False] + [True] * 49
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 1


async def test_two_hundred_crossing_keys_make_no_deadlock(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes: 800 submits by 80 connections."""
    monkeypatch.setattr(engine, "CONNECTING", 60)
    monkeypatch.setattr(module, "SILENCE", 60)
    catalog = world.services_at(place).catalog
    nodes = [Services(open_database(place.url.sqlalchemy, pool_size=20), catalog) for _ in range(4)]
    keys = [f"k{number}" for number in range(200)]
    shuffled = [random.Random(seed).sample(keys, len(keys)) for seed in range(4)]  # noqa: S311 - a fixed shuffle
    # as many at once as have a connection: nobody waits for one longer than the pool lets him, however slow it is
    rooms = [asyncio.Semaphore(20) for _ in nodes]

    async def submitted(services: Services, key: str, room: asyncio.Semaphore) -> tuple[Job, bool]:
        async with room:
            return await submit(services, Submission(task="noop"), by="ann", key=key)

    submissions = [
        submitted(services, key, room)
        for services, order, room in zip(nodes, shuffled, rooms, strict=True)
        for key in order
    ]
    before = await place.value("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    answers = await asyncio.gather(*submissions)
    for each in nodes:
        await each.database.dispose()
    assert sum(not replayed for _, replayed in answers) == 200
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 200
    after = await place.value("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    assert after == before


async def test_a_keyed_row_is_kept_a_day_at_least(services: Services) -> None:
    short, _ = await submit(services, Submission(task="noop", ttl=1), by="ann", key="short")
    long, _ = await submit(services, Submission(task="noop", ttl=999_999), by="ann", key="long")
    kept, _ = await submit(services, Submission(task="noop", ttl=None), by="ann", key="kept")
    assert (short.ttl, long.ttl, kept.ttl) == (timedelta(days=1), timedelta(seconds=999_999), None)


async def test_a_key_that_somebody_holds_open_is_told_as_unavailable(services: Services, place: Place) -> None:
    async with place.psql.transaction():
        await place.psql.execute(
            "INSERT INTO jobtrail.jobs (id, task, created_by, idempotency_key, request_hash)"
            " VALUES (gen_random_uuid(), 'noop', 'ann', 'k', '')"
        )
        with pytest.raises(errors.UnavailableError):
            await submit(services, Submission(task="noop"), by="ann", key="k")
        assert (await world.submitted(services, "noop")).status is Status.PENDING  # the others are not held up


async def test_a_database_that_is_away(services: Services, place: Place) -> None:
    nowhere = open_database("postgresql+asyncpg://nobody@127.0.0.1:9/none", connect_timeout=1)
    services = Services(nowhere, Catalog(world.services_at(place).catalog))
    with pytest.raises(errors.UnavailableError):
        await submit(services, Submission(task="noop"), by="ann", key="k")
    with pytest.raises(errors.UnavailableError):
        await submit(services, Submission(task="noop"), by="ann")
    await nowhere.dispose()


async def stored(services: Services, *jobs: NewJob) -> list[UUID]:
    found = await store(services, [("", job) for job in jobs])
    return [each if isinstance(each := found[job.id], UUID) else job.id for job in jobs]


def job(services: Services, key: str | None = None, **args: Any) -> NewJob:
    new = prepare(services, Submission(task="noop", args=args), by="ann", trace=None)
    return new if key is None else app_keyed(new, key)


async def test_several_are_stored_all_or_none(services: Services, place: Place) -> None:
    [first] = await stored(services, job(services, "a", n=1))
    assert await stored(services) == []
    with pytest.raises(errors.AppKeyReusedError):
        await stored(services, job(services), job(services, "b"), job(services, "a", n=2))
    assert await place.value("SELECT array_agg(id) FROM jobtrail.jobs") == [first]


async def test_each_gets_the_id_that_it_is_stored_under(services: Services) -> None:
    first = await stored(services, job(services, "a"), job(services, "b"))
    new = job(services)
    again = await stored(services, job(services, "b"), new, job(services, "a"))
    assert again == [first[1], new.id, first[0]]


async def test_crossing_keys_of_callers_at_once(services: Services) -> None:
    async def both(number: int, *letters: str) -> set[UUID]:
        return set(await stored(services, *(job(services, f"{letter}{number}") for letter in letters)))

    pairs = [await asyncio.gather(both(number, "a", "b"), both(number, "b", "a")) for number in range(50)]
    assert all(one == other for one, other in pairs)
