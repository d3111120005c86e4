"""Jobs that come after others: when they start, when they never do, and what no race or purge can change of it."""

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from jobtrail.errors import InvalidInputError, JobConflictError
from jobtrail.ids import new_job_id
from jobtrail.jobs import after
from jobtrail.jobs.bulk import Action, bulk
from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.history import read_history
from jobtrail.jobs.query import Filter, read
from jobtrail.jobs.retry import retry
from jobtrail.jobs.services import Services
from jobtrail.jobs.submit import submit_batch
from jobtrail.ops import batches
from jobtrail.records import Job
from jobtrail.status import Status
from jobtrail.task.submission import Submission
from support.rows import born, in_status, moved, typed
from support.until import until
from support.world import Place, ended, node_at, services_at, submitted


async def child_of(services: Services, *parents: UUID, task: str = "noop", **wanted: object) -> Job:
    return await submitted(services, task, after=[str(each) for each in parents], **wanted)


async def test_a_child_starts_once_all_of_its_parents_have_succeeded(services: Services, place: Place) -> None:
    async with node_at(services, place):
        first = (await submitted(services, "noop")).id
        second = (await submitted(services, "hold", seconds=0.3)).id
        child = await child_of(services, first, second)
        assert (child.status, list(child.after)) == (Status.PENDING, [first, second])
        assert (await ended(services, child.id)).status is Status.SUCCEEDED
    moves = await read_history(services, child.id)
    assert [(each.to_status, each.reason) for each in moves] == [
        ("pending", "submitted"),
        ("pending", "after: all succeeded"),
        ("running", "claimed"),
        ("succeeded", "succeeded"),
    ]
    assert moves[1].actor in (f"job {first}", f"job {second}")
    parents = [each for parent in (first, second) for each in await read_history(services, parent)]
    assert moves[2].at > max(each.at for each in parents)
    assert await read(services, child.id) == (await ended(services, child.id))
    assert await place.value("SELECT count(*) FROM jobtrail.edges") == 0


async def test_a_node_releases_what_nobody_gave_a_hint_of(services: Services, place: Place) -> None:
    parent = await in_status(place, Status.RUNNING)
    child = await child_of(services, parent)
    await moved(place, parent, Status.SUCCEEDED)
    async with node_at(services_at(place), place):
        assert (await ended(services, child.id, within=20)).status is Status.SUCCEEDED


async def test_of_two_who_release_a_child_at_once_one_does(services: Services, place: Place) -> None:
    parent = await in_status(place, Status.RUNNING)
    child = await child_of(services, parent)
    await moved(place, parent, Status.SUCCEEDED)
    async with place.psql.transaction():
        await place.psql.execute("SELECT FROM jobtrail.edges FOR UPDATE")
        both = [asyncio.create_task(after.release_of(place.database, [parent])) for _ in range(2)]
        await until(lambda: place.value("SELECT count(DISTINCT pid) = 2 FROM pg_locks WHERE NOT granted"))
    assert sorted(await asyncio.gather(*both)) == [False, True]
    assert [each.reason for each in await read_history(services, child.id)] == ["submitted", "after: all succeeded"]


async def test_a_child_starts_no_earlier_than_its_own_time(services: Services, place: Place) -> None:
    parent = await in_status(place, Status.RUNNING)
    later = (await place.value("SELECT now()")) + timedelta(hours=1)
    child = await child_of(services, parent, run_at=later)
    assert child.run_at == later
    await moved(place, parent, Status.SUCCEEDED)
    assert await after.sweep(services)
    assert (await read(services, child.id)).run_at == later
    assert await place.value("SELECT run_at FROM jobtrail.jobs WHERE id = $1", child.id) == later


@pytest.mark.parametrize(("status", "word"), [(Status.FAILED, "failed"), (Status.CANCELLED, "was cancelled")])
async def test_a_child_of_a_parent_that_does_not_succeed_is_cancelled_and_its_children_too(
    services: Services, place: Place, status: Status, word: str
) -> None:
    good, bad = await in_status(place, Status.SUCCEEDED), await in_status(place, Status.RUNNING)
    child = await child_of(services, good, bad)
    grandchild = await child_of(services, child.id)
    await moved(place, bad, status)
    assert not await after.sweep(services)
    for job, cause, why in ((child.id, bad, word), (grandchild.id, child.id, "was cancelled")):
        found = await read(services, job)
        assert (found.status, found.cancel_reason) == (Status.CANCELLED, f"after: {cause} {why}")
        assert (await read_history(services, job))[-1].actor == f"job {cause}"
    assert await place.value("SELECT count(*) FROM jobtrail.edges") == 0


async def test_an_unknown_parent_is_refused_and_nothing_is_stored(services: Services, place: Place) -> None:
    parent, unknown = await born(place), new_job_id()
    with pytest.raises(InvalidInputError) as refused:
        await child_of(services, parent, unknown)
    assert [(each.pointer, each.detail) for each in refused.value.flaws] == [
        ("/after/1", f"no job has the id {unknown}")
    ]
    wanted = [Submission(task="noop"), Submission(task="noop", after=[unknown])]
    with pytest.raises(InvalidInputError) as refused:
        await submit_batch(services, wanted, by="ann")
    assert [each.pointer for each in refused.value.flaws] == ["/jobs/1/after/0"]
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 1
    assert await place.value("SELECT count(*) FROM jobtrail.edges") == 0


async def test_a_job_comes_after_itself_by_no_way(place: Place) -> None:
    job_id = new_job_id()
    with pytest.raises(Exception, match="ck_jobs_after"):
        await place.psql.execute(
            "INSERT INTO jobtrail.jobs (id, task, after) VALUES ($1, 'noop', $2)", job_id, [job_id]
        )


@pytest.mark.parametrize(
    ("status", "then"),
    [(Status.SUCCEEDED, Status.PENDING), (Status.FAILED, Status.CANCELLED), (Status.CANCELLED, Status.CANCELLED)],
)
async def test_a_purged_parent_is_judged_by_its_history(
    services: Services, place: Place, status: Status, then: Status
) -> None:
    waited_for, before = await in_status(place, Status.RUNNING), await in_status(place, status)
    children = [await child_of(services, waited_for)]
    await moved(place, waited_for, status)
    await place.psql.execute("UPDATE jobtrail.jobs SET expires_at = now() WHERE finished_at IS NOT NULL")
    await place.psql.execute("DELETE FROM jobtrail.jobs WHERE finished_at IS NOT NULL")
    children.append(await child_of(services, before))
    await after.sweep(services)
    for child in children:
        assert (await read(services, child.id)).status is then
        due = await place.value("SELECT run_at <= now() FROM jobtrail.jobs WHERE id = $1", child.id)
        assert due is (True if then is Status.PENDING else None)


async def test_a_parent_of_which_nothing_is_known_any_more_cancels_its_child(services: Services, place: Place) -> None:
    parent = await in_status(place, Status.RUNNING)
    child = await child_of(services, parent)
    await moved(place, parent, Status.SUCCEEDED)
    await place.psql.execute("UPDATE jobtrail.jobs SET expires_at = now() WHERE id = $1", parent)
    await place.psql.execute("DELETE FROM jobtrail.jobs WHERE id = $1", parent)
    await place.psql.execute("DELETE FROM jobtrail.transitions WHERE job_id = $1", parent)
    await after.sweep(services)
    assert (await read(services, child.id)).cancel_reason == f"after: {parent} is unknown"


async def test_a_cancelled_child_is_retried_once_its_parents_may_succeed_and_waits_again(
    services: Services, place: Place
) -> None:
    parent = await in_status(place, Status.RUNNING)
    child = (await child_of(services, parent)).id
    await moved(place, parent, Status.FAILED)
    await after.sweep(services)
    with pytest.raises(JobConflictError, match=f"it comes after job {parent}, which is failed"):
        await retry(services, child, by="ann")
    await retry(services, parent, by="ann")
    await after.sweep(services)
    assert (await read(services, child)).status is Status.CANCELLED, "a parent's retry brings no child back"

    await retry(services, child, by="ann")
    assert await place.value("SELECT run_at FROM jobtrail.jobs WHERE id = $1", child) is None
    await moved(place, parent, Status.RUNNING)
    assert not await after.sweep(services)
    await moved(place, parent, Status.SUCCEEDED)
    assert await after.sweep(services)
    assert await place.value("SELECT run_at <= now() FROM jobtrail.jobs WHERE id = $1", child)


async def test_a_chain_is_retried_together_whatever_the_order(services: Services, place: Place) -> None:
    ids = [await in_status(place, Status.RUNNING)]
    for _ in range(3):
        ids.append((await child_of(services, ids[-1])).id)
    await moved(place, ids[0], Status.FAILED)
    await after.sweep(services)
    done = await bulk(services, Action.RETRY, Filter(task=("noop",)), by="ann")
    assert (done.matched, done.changed, done.remaining) == (4, 4, 0)
    assert await place.value("SELECT array_agg(id ORDER BY id) FROM jobtrail.jobs WHERE run_at IS NULL") == ids[1:]
    async with node_at(services, place):
        assert [(await ended(services, each)).status for each in ids] == [Status.SUCCEEDED] * 4


async def test_a_child_that_is_cancelled_by_hand_stays_so_and_its_retry_waits(services: Services, place: Place) -> None:
    parent = await in_status(place, Status.RUNNING)
    child = (await child_of(services, parent)).id
    await cancel(services, child, by="ann", reason="no need")
    await typed(place, child, Status.PENDING)
    assert await place.value("SELECT waits AND run_at IS NULL FROM jobtrail.jobs WHERE id = $1", child)
    await cancel(services, child, by="ann", reason="no need")
    await moved(place, parent, Status.SUCCEEDED)
    assert not await after.sweep(services)
    assert (await read(services, child)).cancel_reason == "no need"
    assert await place.value("SELECT count(*) FROM jobtrail.edges") == 0
    await retry(services, child, by="ann")
    assert await place.value("SELECT run_at <= now() FROM jobtrail.jobs WHERE id = $1", child)


async def test_a_retry_in_sql_of_a_child_whose_parent_failed_is_cancelled_again(
    services: Services, place: Place
) -> None:
    parent = await in_status(place, Status.FAILED)
    child = (await child_of(services, parent)).id
    await until(lambda: is_cancelled(services, child))
    await typed(place, child, Status.PENDING)
    assert not await after.sweep(services)
    assert (await read(services, child)).cancel_reason == f"after: {parent} failed"


async def is_cancelled(services: Services, job_id: UUID) -> bool:
    return (await read(services, job_id)).status is Status.CANCELLED


async def test_a_thousand_parents_end_at_once_on_several_nodes(services: Services, place: Place) -> None:
    async with node_at(services, place), node_at(services_at(place), place):
        parents = await submit_batch(services, [Submission(task="noop")] * 1000, by="ann")
        child = await child_of(services, *(each.id for each in parents))
        assert (await ended(services, child.id)).status is Status.SUCCEEDED
    last = await place.value(
        "SELECT max(at) FROM jobtrail.transitions WHERE to_status = 'succeeded' AND job_id <> $1", child.id
    )
    begun = [each for each in await read_history(services, child.id) if each.to_status == "running"]
    assert len(begun) == 1
    assert begun[0].at > last


@pytest.fixture
def others(place: Place) -> Services:
    """The services of a process that has not heard of any child, so that it gives no hints."""
    services = services_at(place)
    services.has_edges.set = lambda: None  # type: ignore[method-assign]
    return services


@pytest.mark.parametrize("count", [500, pytest.param(2000, marks=pytest.mark.verify)])
async def test_pairs_that_end_together_forget_no_child_and_start_none_twice(
    services: Services, others: Services, place: Place, count: int
) -> None:
    """One of three nodes gives no hint, as one that is killed between commit and hint."""
    wanted = [Submission(task="noop")] * count
    firsts = await submit_batch(services, wanted, by="ann")
    seconds = await submit_batch(services, wanted, by="ann")
    pairs = [[first.id, second.id] for first, second in zip(firsts, seconds, strict=True)]

    async def sweeping() -> None:
        while True:
            await after.sweep(others)
            await asyncio.sleep(0.2)

    async with node_at(services, place), node_at(others, place), node_at(services_at(place), place):
        sweeps = [asyncio.create_task(sweeping()) for _ in range(2)]
        children = []
        for start in range(0, count, 50):
            some = [Submission(task="noop", after=pair) for pair in pairs[start : start + 50]]
            children += await submit_batch(services, some, by="ann")
        await until(lambda: nothing_is_left(place))
        for each in sweeps:
            each.cancel()
    ids = [each.id for each in children]
    rows = await place.rows(
        "SELECT count(*) FILTER (WHERE status = 'succeeded') AS good, sum(attempt) AS starts FROM jobtrail.jobs"
        " WHERE id = ANY($1)",
        ids,
    )
    assert rows == [{"good": count, "starts": count}]
    assert await place.value(EARLY, ids) == 0


EARLY = """
SELECT count(*) FROM jobtrail.jobs c, unnest(c.after) AS parent
  JOIN jobtrail.transitions t ON t.job_id = parent AND t.to_status = 'succeeded'
 WHERE c.id = ANY($1) AND t.at > c.started_at
"""


async def nothing_is_left(place: Place) -> bool:
    return not await place.value("SELECT count(*) FROM jobtrail.jobs WHERE status IN ('pending', 'running')")


async def test_what_ends_costs_nothing_where_nothing_waits(services: Services, place: Place) -> None:
    await batches.look(services)
    assert not services.has_edges.is_set()
    child = await child_of(services, await in_status(place, Status.RUNNING))
    assert services.has_edges.is_set()
    await cancel(services, child.id, by="ann")
    assert not await after.sweep(services)
    await batches.look(services)
    assert services.has_edges.is_set(), "an edge is left until its parent ends"
