"""Batches: their numbers, and the one job at their end, whatever ends together, fails, is retried, purged or killed."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from jobtrail.db.engine import open_database
from jobtrail.errors import BatchNotFoundError, InvalidInputError
from jobtrail.ids import new_job_id
from jobtrail.jobs.bulk import Action
from jobtrail.jobs.query import Filter, Page, read_page
from jobtrail.jobs.services import Services
from jobtrail.ops import batches
from jobtrail.records import Batch, Job
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from jobtrail.task.submission import Submission
from support import tasks
from support.rows import moved
from support.until import until
from support.world import Place, ended, node_at, services_at

LAST = Submission(task="nothing", tags=["last"], priority=9)


async def batch_of(services: Services, count: int, on_done: Submission | None = LAST) -> tuple[Batch, list[UUID]]:
    found, jobs = await batches.submit_batch(services, [Submission(task="noop")] * count, on_done, by="ann")
    return found, [each.id for each in jobs]


async def last_jobs(services: Services) -> list[Job]:
    return list((await read_page(services, Page(10, filter=Filter(task=["nothing"])))).jobs)


def numbers(found: Batch) -> dict[str, int]:
    names = ("pending", "running", "succeeded", "failed", "cancelled", "purged")
    return {name: getattr(found, name) for name in names if getattr(found, name)}


async def test_a_batch_counts_its_jobs_and_submits_one_at_their_end(services: Services, place: Place) -> None:
    found, ids = await batch_of(services, 4)
    assert (found.total, numbers(found), found.progress, found.done_at) == (4, {"pending": 4}, 0.0, None)
    assert (found.created_by, found.on_done) == ("ann", None)
    for job_id, path in zip(
        ids,
        ([Status.RUNNING, Status.SUCCEEDED], [Status.RUNNING, Status.FAILED], [Status.CANCELLED], [Status.RUNNING]),
        strict=True,
    ):
        for step in path:
            await moved(place, job_id, step)
    assert not await batches.finish_all(services)
    found = await batches.read(services, found.id)
    assert numbers(found) == {"running": 1, "succeeded": 1, "failed": 1, "cancelled": 1}
    assert (found.progress, found.done_at, await last_jobs(services)) == (0.75, None, [])

    await moved(place, ids[3], Status.SUCCEEDED)
    assert await batches.finish_all(services)
    found = await batches.read(services, found.id)
    (last,) = await last_jobs(services)
    assert numbers(found) == {"succeeded": 2, "failed": 1, "cancelled": 1}
    assert (found.progress, found.on_done, last.tags, last.priority) == (1.0, last.id, ["last"], 9)
    assert (last.created_by, last.status, last.batch_id) == ("ann", Status.PENDING, None)
    assert found.done_at is not None
    assert (
        last.created_at >= found.done_at >= await place.value("SELECT max(at) FROM jobtrail.transitions WHERE seq > 1")
    )
    assert not await batches.finish_all(services)
    await batches.look(services)
    assert not services.has_batches.is_set()
    assert len(await last_jobs(services)) == 1


async def test_a_retry_later_changes_the_numbers_and_nothing_else(services: Services, place: Place) -> None:
    found, ids = await batch_of(services, 2)
    for job_id in ids:
        await moved(place, job_id, Status.CANCELLED)
    await batches.finish_all(services)
    before = await batches.read(services, found.id)
    done = await batches.move(services, found.id, Action.RETRY, by="ann")
    assert (done.matched, done.changed) == (2, 2)
    async with node_at(services, place):
        for job_id in ids:
            assert (await ended(services, job_id)).status is Status.SUCCEEDED
        await batches.finish_all(services)
    after = await batches.read(services, found.id)
    assert (numbers(before), numbers(after)) == ({"cancelled": 2}, {"succeeded": 2})
    assert (after.done_at, after.on_done) == (before.done_at, before.on_done)
    assert len(await last_jobs(services)) == 1


async def test_the_numbers_outlive_the_jobs(services: Services, place: Place) -> None:
    found, ids = await batch_of(services, 3, None)
    for job_id, status in zip(ids, (Status.SUCCEEDED, Status.FAILED, Status.SUCCEEDED), strict=True):
        await moved(place, job_id, Status.RUNNING)
        await moved(place, job_id, status)
    await purged(place, ids[0])
    assert numbers(await batches.read(services, found.id)) == {"succeeded": 1, "failed": 1, "purged": 1}
    await batches.finish_all(services)
    for job_id in ids[1:]:
        await purged(place, job_id)
    gone = await batches.read(services, found.id)
    assert (numbers(gone), gone.progress, gone.on_done) == ({"succeeded": 1, "failed": 1, "purged": 1}, 1.0, None)
    await batches.forget(place.database, age=None)
    await batches.forget(place.database, age=timedelta(hours=1))
    assert await batches.read(services, found.id) == gone
    await batches.forget(place.database, age=timedelta(0))
    with pytest.raises(BatchNotFoundError):
        await batches.read(services, found.id)


async def purged(place: Place, job_id: UUID) -> None:
    await place.psql.execute("UPDATE jobtrail.jobs SET expires_at = now() WHERE id = $1", job_id)
    await place.psql.execute("DELETE FROM jobtrail.jobs WHERE id = $1", job_id)


async def test_a_cancel_of_a_batch_ends_it(services: Services, place: Place) -> None:
    found, ids = await batch_of(services, 3)
    other, _ = await batch_of(services, 1, None)
    await moved(place, ids[0], Status.RUNNING)
    await moved(place, ids[0], Status.SUCCEEDED)
    done = await batches.move(services, found.id, Action.CANCEL, by="bob", reason="no need")
    assert (done.matched, done.changed) == (2, 2)
    await batches.finish_all(services)
    assert numbers(await batches.read(services, found.id)) == {"succeeded": 1, "cancelled": 2}
    assert numbers(await batches.read(services, other.id)) == {"pending": 1}
    assert len(await last_jobs(services)) == 1
    with pytest.raises(BatchNotFoundError):
        await batches.move(services, other.id, Action.CANCEL, by="bob", only_of="bob")
    with pytest.raises(BatchNotFoundError):
        await batches.read(services, new_job_id())


@pytest.mark.parametrize(
    ("jobs", "on_done", "pointer"),
    [
        ([LAST, Submission(task="noop", args={"n": "x"})], None, "/jobs/1/args/n"),
        ([LAST], Submission(task="no such task"), "/on_done/task"),
        ([LAST], Submission(task="noop", args={"m": 1}), "/on_done/args/m"),
        ([LAST], Submission(task="noop", after=[UUID(int=1)]), "/on_done/after/0"),
        ([Submission(task="noop", after=[UUID(int=1)])], LAST, "/jobs/0/after/0"),
    ],
)
async def test_what_cannot_run_is_refused_whole(
    services: Services, place: Place, jobs: list[Submission], on_done: Submission | None, pointer: str
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        await batches.submit_batch(services, jobs, on_done, by="ann")
    assert [each.pointer for each in refused.value.flaws] == [pointer]
    assert (
        await place.value("SELECT (SELECT count(*) FROM jobtrail.jobs) + (SELECT count(*) FROM jobtrail.batches)") == 0
    )


@pytest.mark.parametrize("count", [500, pytest.param(5000, marks=pytest.mark.verify)])
async def test_on_done_comes_once_whatever_is_killed(place: Place, count: int) -> None:
    """Several nodes end the jobs and look for their end, while the connections of all of them are killed."""
    services = services_at(place)
    made = [await batch_of(services, count // 3) for _ in range(3)]

    async def looking() -> None:
        database = open_database(place.url.sqlalchemy)
        own = Services(database, Catalog.from_modules([tasks]))
        try:
            while True:
                with suppress(Exception):  # its connection was killed
                    await batches.finish_all(own)
                await asyncio.sleep(0.01)
        finally:
            await database.dispose()

    async with node_at(services, place), node_at(services_at(place), place):
        looks = [asyncio.create_task(looking()) for _ in range(3)]
        kills = 0
        while await unfinished(place):
            kills += len(await place.rows(KILL))
            await asyncio.sleep(0.2)
        await until(lambda: all_done(services, [found for found, _ in made]))
        for each in looks:
            each.cancel()
        await asyncio.wait(looks)
    assert kills > 0
    last = await last_jobs(services)
    assert len(last) == len(made)
    assert {each.id for each in last} == {(await batches.read(services, found.id)).on_done for found, _ in made}
    assert await place.value(EARLY) == 0


KILL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active' ORDER BY random() LIMIT 1
"""

EARLY = """
SELECT count(*) FROM jobtrail.batches b JOIN jobtrail.jobs j ON j.batch_id = b.id
  JOIN jobtrail.transitions t ON t.job_id = j.id AND t.to_status IN ('succeeded', 'failed', 'cancelled')
 WHERE t.at > b.done_at
"""


async def unfinished(place: Place) -> bool:
    try:
        return bool(await place.value("SELECT count(*) FROM jobtrail.jobs WHERE status IN ('pending', 'running')"))
    except asyncpg.PostgresError:
        return True


async def all_done(services: Services, made: list[Batch]) -> bool:
    return all([(await batches.read(services, each.id)).done_at for each in made])
