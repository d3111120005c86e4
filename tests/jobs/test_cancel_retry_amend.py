import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from jobtrail.errors import JobConflictError, JobFinishedError, JobNotFoundError, PreconditionError
from jobtrail.ids import new_job_id
from jobtrail.jobs.amend import amend
from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.history import read_history
from jobtrail.jobs.retry import retry
from jobtrail.jobs.submit import submit_keyed
from jobtrail.status import Status
from jobtrail.task.submission import Amendment, Submission
from support import world
from support.rows import in_status, trail
from support.world import Place


async def test_two_cancels_of_two_callers_in_one_group_keep_their_own_words(place: Place) -> None:
    services = world.services_at(place)
    ids = [(await world.submitted(services, "noop")).id for _ in range(2)]
    await asyncio.gather(
        cancel(services, ids[0], by="ann", reason="wrong file"), cancel(services, ids[1], by="bob", reason="too late")
    )
    words = [(move.actor, move.reason) for each in ids for move in await read_history(services, each) if move.seq == 2]
    assert words == [("ann", "wrong file"), ("bob", "too late")]
    rows = await place.rows("SELECT DISTINCT xact FROM jobtrail.transitions WHERE to_status = 'cancelled'")
    assert len(rows) == 1, "they did not ride together: nothing was proved"


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED])
async def test_what_has_ended_cannot_be_cancelled(place: Place, status: Status) -> None:
    job_id = await in_status(place, status)
    known = await trail(place, job_id)
    with pytest.raises(JobFinishedError) as error:
        await cancel(world.services_at(place), job_id, by="ann")
    assert error.value.status == status
    assert await trail(place, job_id) == known


async def test_cancelling_twice_changes_nothing(place: Place) -> None:
    services = world.services_at(place)
    job = await world.submitted(services, "noop")
    first = await cancel(services, job.id, by="ann", reason="first")
    assert await cancel(services, job.id, by="bob", reason="second") == first
    assert first.status is Status.CANCELLED
    assert first.expires_at == (first.finished_at or datetime.now(UTC)) + timedelta(days=30)


async def test_a_running_job_gets_a_request_and_the_first_one_stands(place: Place) -> None:
    job_id = await in_status(place, Status.RUNNING)
    services = world.services_at(place)
    job = await cancel(services, job_id, by="ann", reason="first")
    again = await cancel(services, job_id, by="bob", reason="second")
    assert (job.status, again.cancel_reason, again.cancel_requested_at) == (
        Status.RUNNING, "first", job.cancel_requested_at
    )  # fmt: skip
    assert await place.value("SELECT cancel_requested_by FROM jobtrail.jobs") == "ann"


async def test_unknown_jobs(place: Place) -> None:
    services = world.services_at(place)
    nobody = new_job_id()
    with pytest.raises(JobNotFoundError):
        await cancel(services, nobody, by="ann")
    with pytest.raises(JobNotFoundError):
        await retry(services, nobody, by="ann")
    with pytest.raises(JobNotFoundError):
        await amend(services, nobody, Amendment(priority=1))
    with pytest.raises(JobNotFoundError):
        await read_history(services, nobody)


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
async def test_retry_by_hand_clears_the_end_but_never_the_attempt(place: Place, status: Status) -> None:
    job_id = await in_status(place, status)
    before = (await place.rows("SELECT attempt FROM jobtrail.jobs WHERE id = $1", job_id))[0]["attempt"]
    job = await retry(world.services_at(place), job_id, by="ann")
    assert (job.status, job.attempt, job.max_attempts) == (Status.PENDING, before, max(1, before + 1))
    assert (job.error, job.finished_at, job.expires_at, job.node_id, job.cancel_requested_at) == (None,) * 5
    assert (await read_history(world.services_at(place), job_id))[-1].actor == "ann"


@pytest.mark.parametrize("status", [Status.PENDING, Status.RUNNING, Status.SUCCEEDED])
async def test_only_what_ended_badly_can_be_retried(place: Place, status: Status) -> None:
    job_id = await in_status(place, status)
    with pytest.raises(JobConflictError):
        await retry(world.services_at(place), job_id, by="ann")


async def test_amending_a_pending_job(place: Place) -> None:
    services = world.services_at(place)
    job = await world.submitted(services, "noop")
    at = datetime(2033, 1, 1, tzinfo=UTC)
    changed = await amend(services, job.id, Amendment(ttl=5, priority=9, run_at=at, tags=["x"]))
    assert (changed.ttl, changed.priority, changed.run_at, changed.tags) == (timedelta(seconds=5), 9, at, ["x"])
    assert await amend(services, job.id, Amendment()) == changed
    assert len(await trail(place, job.id)) == 1


async def test_a_new_ttl_counts_from_the_finish(place: Place) -> None:
    job_id = await in_status(place, Status.FAILED)
    services = world.services_at(place)
    job = await amend(services, job_id, Amendment(ttl=3600))
    assert job.finished_at is not None
    assert job.expires_at == job.finished_at + timedelta(hours=1)
    assert (await amend(services, job_id, Amendment(ttl=None))).expires_at is None


async def test_a_key_outlives_a_shorter_ttl(place: Place) -> None:
    services = world.services_at(place)
    job, _ = await submit_keyed(services, Submission(task="noop"), by="ann", key="k")
    assert (await amend(services, job.id, Amendment(ttl=1))).ttl == timedelta(days=1)


@pytest.mark.parametrize("change", [{"priority": 1}, {"run_at": "2030-01-01T00:00:00Z"}])
async def test_priority_and_run_at_need_a_pending_job(place: Place, change: dict[str, object]) -> None:
    job_id = await in_status(place, Status.RUNNING)
    with pytest.raises(JobConflictError):
        await amend(world.services_at(place), job_id, Amendment.model_validate(change))


async def test_a_changed_row_is_not_overwritten(place: Place) -> None:
    job_id = await in_status(place, Status.PENDING)
    with pytest.raises(PreconditionError):
        await amend(world.services_at(place), job_id, Amendment(priority=1), unchanged=lambda _job: False)
