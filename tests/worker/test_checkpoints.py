"""Checkpoints: the next attempt gets the cursor, a node that drains hands the job back, and the fence holds."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from jobtrail.errors import ContextError
from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.checkpoint import Checkpoint, CheckpointRecorder, checkpoint_group
from jobtrail.jobs.claim import claim_next
from jobtrail.jobs.fence import AttemptRef
from jobtrail.jobs.history import read_history
from jobtrail.jobs.query import read
from jobtrail.jobs.rescue import rescue
from jobtrail.jobs.retry import retry
from jobtrail.jobs.services import Services
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from support import resuming, rows, world
from support.rows import leases_ran_out
from support.until import until
from support.world import Place, judge

ONCE = ("once", "once_in_thread", "once_in_process")
CURSOR = {"at": [1, "é", None, 2.5, True]}
QUICK = {"cancel_grace": timedelta(seconds=10), "processes": 1}


@pytest.fixture
def services(place: Place) -> Iterator[Services]:
    resuming.SAID.clear()
    resuming.GO.clear()
    yield Services(place.database, Catalog.from_modules([resuming]))
    resuming.GO.set()


async def cursor(place: Place, job_id: UUID) -> Any:
    return await place.value("SELECT cursor::text FROM jobtrail.jobs WHERE id = $1", job_id)


async def begun(services: Services, place: Place, task: str, **wanted: Any) -> UUID:
    """A job that runs and has made a checkpoint."""
    job_id = (await world.submitted(services, task, **wanted)).id
    await until(lambda: cursor(place, job_id))
    return job_id


async def facts(place: Place, services: Services, job_id: UUID) -> tuple[Any, ...]:
    """Status, attempt, max_attempts, attempts that do not count, error, and the reason of the last move."""
    job = await read(services, job_id)
    given_back = await place.value("SELECT given_back FROM jobtrail.jobs WHERE id = $1", job_id)
    reason = (await read_history(services, job_id))[-1].reason
    return job.status, job.attempt, job.max_attempts, given_back, job.error and job.error["type"], reason


@pytest.mark.parametrize("task", ONCE)
async def test_a_node_that_ends_hands_the_job_back_and_the_attempt_does_not_count(
    place: Place, services: Services, task: str
) -> None:
    async with world.node_at(services, place, grace=0, **QUICK):
        job_id = await begun(services, place, task)
    assert await facts(place, services, job_id) == (Status.PENDING, 1, 2, 1, None, "drained")
    async with world.node_at(services, place, **QUICK):
        assert (await world.ended(services, job_id)).result == CURSOR


async def test_an_attempt_without_a_checkpoint_of_its_own_is_spent(place: Place, services: Services) -> None:
    async with world.node_at(services, place, grace=0, **QUICK):
        job_id = await begun(services, place, "once", how="again")
    async with world.node_at(services, place, grace=0, **QUICK):
        await world.reached(services, job_id, Status.RUNNING)
    assert await facts(place, services, job_id) == (Status.FAILED, 2, 2, 1, "lost", "lost")


@pytest.mark.parametrize("task", resuming.KINDS)
async def test_a_node_that_drains_stops_a_task_at_its_next_checkpoint(
    place: Place, services: Services, task: str, tmp_path: Path
) -> None:
    path = tmp_path / "steps"
    async with world.node_at(services, place, grace=3600, **QUICK):
        job_id = await begun(services, place, task, path=str(path), steps=10**9)
    assert await facts(place, services, job_id) == (Status.PENDING, 1, 2, 1, None, "drained")
    # the last checkpoint was stored before its call ended the task
    assert int(await cursor(place, job_id)) == resuming.noted(path)[-1][2] + 1


@pytest.mark.parametrize(("how", "status"), [("fail", Status.FAILED), ("hold", Status.CANCELLED)])
async def test_a_retry_by_hand_keeps_the_cursor(place: Place, services: Services, how: str, status: Status) -> None:
    async with world.node_at(services, place, **QUICK):
        job_id = await begun(services, place, "once", how=how)
        if how == "hold":
            await cancel(services, job_id, by="ann")
        await world.reached(services, job_id, status)
        await retry(services, job_id, by="ann")
        job = await world.ended(services, job_id)
    assert (job.result, job.attempt, job.max_attempts) == (CURSOR, 2, 2)


MINUTE = timedelta(minutes=1)


async def test_a_rescue_keeps_the_cursor_and_spends_the_attempt(place: Place, services: Services) -> None:
    job = await world.submitted(services, "once", max_attempts=2)
    await claim_next(place.database, node=UUID(int=2), lease=MINUTE, tasks=["once"], queues=(), free=1, salt="")
    await leases_ran_out(place)
    await place.psql.execute("UPDATE jobtrail.jobs SET cursor = '[7]'")
    await rescue(place.database, node=await judge(place), by="node x")
    assert await facts(place, services, job.id) == (Status.PENDING, 1, 2, 0, "lost", "rescued")
    async with world.node_at(services, place):
        assert (await world.ended(services, job.id)).result == [7]


async def test_a_task_may_say_where_it_was_while_it_is_told_to_end(place: Place, services: Services) -> None:
    async with world.node_at(services, place, grace=0, **QUICK):
        job_id = await begun(services, place, "tidy")
    assert (await facts(place, services, job_id))[-1] == "drained"
    async with world.node_at(services, place):
        assert (await world.ended(services, job_id)).result == "told"


@pytest.mark.parametrize("task", ["when_told", "when_told_in_thread"])
async def test_an_attempt_that_is_no_longer_ours_stores_nothing(place: Place, services: Services, task: str) -> None:
    async with world.node_at(services, place, lease=timedelta(hours=1)) as node:
        job_id = await begun(services, place, task)
        await rows.taken_away(place, job_id)
        resuming.GO.set()
        await until(_nothing_held(node))
    assert [type(each) for each in resuming.SAID] == [asyncio.CancelledError, ContextError]
    assert "this attempt has ended" in str(resuming.SAID[1])
    assert await cursor(place, job_id) == '"before"'
    assert (await read(services, job_id)).status is Status.FAILED


async def test_checkpoints_at_the_same_time_keep_their_order(place: Place, services: Services) -> None:
    async with world.node_at(services, place):
        job = await world.ran(services, "many", number=200)
    assert (job.status, await cursor(place, job.id)) == (Status.SUCCEEDED, "199")


async def test_a_thread_of_an_async_def_blocks(place: Place, services: Services) -> None:
    async with world.node_at(services, place):
        job = await world.ran(services, "beside")
    assert (job.result, await cursor(place, job.id)) == ("stored", '"in a loop"')


async def test_a_locked_row_keeps_its_own_checkpoint_waiting_alone(
    place: Place, services: Services, tmp_path: Path
) -> None:
    locked, free = tmp_path / "locked", tmp_path / "free"
    async with world.node_at(services, place, lease=timedelta(hours=1)):
        job = await begun(services, place, "count", path=str(locked), steps=0, gate=str(tmp_path / "gate"))
        other = await begun(services, place, "count", path=str(free), steps=0, gate=str(tmp_path / "gate"))
        async with place.psql.transaction():
            await place.psql.execute("SELECT FROM jobtrail.jobs WHERE id = $1 FOR UPDATE", job)
            kept = resuming.noted(locked)[-1]
            there = len(resuming.noted(free))
            await until(_longer(free, there + 20))
            assert len(resuming.noted(locked)) <= resuming.noted(locked).index(kept) + 4
        (tmp_path / "gate").touch()
        for each in (job, other):
            assert (await world.ended(services, each)).status is Status.SUCCEEDED


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("set", "set is not JSON"),
        ("tuple", "/at: tuple is not JSON"),
        ("nan", "/0: NaN is not JSON"),
        ("nul", "U+0000"),
        ("key", "a name must be a string, not int"),
        ("large", "65537 bytes of JSON, more than the limit of 65536"),
        ("cycle", "nested more than 64 levels deep"),
    ],
)
async def test_what_cannot_be_stored_is_refused(place: Place, services: Services, how: str, words: str) -> None:
    async with world.node_at(services, place):
        job = await world.ran(services, "store", how=how)
    assert job.error
    assert (job.status, job.error["type"], await cursor(place, job.id)) == (Status.FAILED, "invalid-checkpoint", None)
    assert words in job.error["message"], job.error["message"]


async def test_it_is_refused_while_the_job_session_is_open(place: Place, services: Services) -> None:
    async with world.node_at(services, place):
        job = await world.ran(services, "with_session")
    assert job.error
    assert (job.error["type"], "before context.session()" in job.error["message"]) == ("ContextError", True)


async def test_a_checkpoint_touches_no_index(place: Place) -> None:
    there = "SELECT indexdef FROM pg_indexes WHERE tablename = 'jobs' AND indexdef ~ '\\m(cursor|given_back)\\M'"
    assert await place.rows(there) == []


@pytest.mark.parametrize("wrong", ["node", "attempt", "rescued", "ended"])
async def test_a_stale_checkpoint_changes_nothing(place: Place, services: Services, wrong: str) -> None:
    job, other = [await world.submitted(services, "once", max_attempts=2) for _ in range(2)]
    node = UUID(int=2)

    async def claimed() -> None:
        await claim_next(place.database, node=node, lease=MINUTE, tasks=["once"], queues=(), free=2, salt="")
        await leases_ran_out(place)

    await claimed()
    late = Checkpoint(job.id, 2 if wrong == "attempt" else 1, '"late"')
    if wrong == "rescued":
        await rescue(place.database, node=await judge(place), by="node x")
        await claimed()
    if wrong == "ended":
        await rows.taken_away(place, job.id)
    own = Checkpoint(other.id, 2 if wrong == "rescued" else 1, '"own"')
    writer = UUID(int=3) if wrong == "node" else node
    assert await checkpoint_group(place.database, [late, own], node=writer) == [False, wrong != "node"]
    assert await cursor(place, job.id) is None
    assert await CheckpointRecorder(place.database, writer).store(AttemptRef(*late[:2]), lambda: late.cursor) is False


def _nothing_held(node: Any) -> Callable[[], Any]:
    async def nothing() -> bool:
        return not node.worker.held()

    return nothing


def _longer(path: Path, than: int) -> Callable[[], Any]:
    async def longer() -> bool:
        return len(resuming.noted(path)) > than

    return longer
