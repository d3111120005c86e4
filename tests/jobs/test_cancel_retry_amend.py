"""Cancel, retry by hand and amend: what is refused and what is written. The model takes them in any order."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from jobtrail import errors
from jobtrail.ids import new_job_id
from jobtrail.jobs.amend import amend
from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.history import read_history
from jobtrail.jobs.retry import retry
from jobtrail.jobs.services import Services
from jobtrail.jobs.submit import submit
from jobtrail.status import Status
from jobtrail.task.submission import Amendment, Submission
from support import world
from support.rows import in_status, trail
from support.world import Place

Verb = Callable[[Services, UUID], Awaitable[Any]]


async def cancelled(services: Services, job_id: UUID) -> Any:
    return await cancel(services, job_id, by="ann")


async def retried(services: Services, job_id: UUID) -> Any:
    return await retry(services, job_id, by="ann")


async def hurried(services: Services, job_id: UUID) -> Any:
    return await amend(services, job_id, Amendment(priority=1), by="ann")


async def put_off(services: Services, job_id: UUID) -> Any:
    return await amend(services, job_id, Amendment(run_at=datetime(2030, 1, 1, tzinfo=UTC)), by="ann")


async def amended_too_late(services: Services, job_id: UUID) -> Any:
    return await amend(services, job_id, Amendment(priority=1), unchanged=lambda _job: False, by="ann")


@pytest.mark.parametrize(
    ("verb", "status", "error"),
    [
        *((cancelled, status, errors.JobFinishedError) for status in (Status.SUCCEEDED, Status.FAILED)),
        *((retried, status, errors.JobConflictError) for status in (Status.PENDING, Status.RUNNING, Status.SUCCEEDED)),
        (hurried, Status.RUNNING, errors.JobConflictError),
        (put_off, Status.FAILED, errors.JobConflictError),
        (amended_too_late, Status.PENDING, errors.PreconditionError),
        *((verb, None, errors.JobNotFoundError) for verb in (cancelled, retried, hurried, read_history)),
    ],
)
async def test_what_is_refused_changes_nothing(
    services: Services, place: Place, verb: Verb, status: Status | None, error: type[Exception]
) -> None:
    job_id = new_job_id() if status is None else await in_status(place, status)
    before = await place.rows("SELECT * FROM jobtrail.jobs")
    with pytest.raises(error) as refused:
        await verb(services, job_id)
    assert getattr(refused.value, "status", status) == status
    assert await place.rows("SELECT * FROM jobtrail.jobs") == before


async def test_two_cancels_of_two_callers_in_one_group_keep_their_own_words(services: Services, place: Place) -> None:
    ids = [(await world.submitted(services, "noop")).id for _ in range(2)]
    await asyncio.gather(
        cancel(services, ids[0], by="ann", reason="wrong file"), cancel(services, ids[1], by="bob", reason="too late")
    )
    words = [(move.actor, move.reason) for each in ids for move in await read_history(services, each) if move.seq == 2]
    assert words == [("ann", "wrong file"), ("bob", "too late")]
    rows = await place.rows("SELECT DISTINCT xact FROM jobtrail.transitions WHERE to_status = 'cancelled'")
    assert len(rows) == 1, "they did not ride together: nothing was proved"


@pytest.mark.parametrize("status", [Status.PENDING, Status.RUNNING])
async def test_the_first_cancel_stands(services: Services, place: Place, status: Status) -> None:
    job_id = await in_status(place, status)
    first = await cancel(services, job_id, by="ann", reason="first")
    assert await cancel(services, job_id, by="bob", reason="second") == first
    assert first.status == (Status.CANCELLED if status is Status.PENDING else Status.RUNNING)
    assert first.cancel_reason == "first"
    assert await place.value("SELECT cancel_requested_by FROM jobtrail.jobs") == "ann"


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
async def test_retry_by_hand_clears_the_end_but_never_the_attempt(
    services: Services, place: Place, status: Status
) -> None:
    job_id = await in_status(place, status)
    before = await place.value("SELECT attempt FROM jobtrail.jobs")
    job = await retry(services, job_id, by="ann")
    assert (job.status, job.attempt, job.max_attempts) == (Status.PENDING, before, max(1, before + 1))
    assert (job.error, job.finished_at, job.expires_at, job.node_id, job.cancel_requested_at) == (None,) * 5
    assert (await read_history(services, job_id))[-1].actor == "ann"


async def test_amending(services: Services, place: Place) -> None:
    job = await world.submitted(services, "noop")
    at = datetime(2033, 1, 1, tzinfo=UTC)
    changed = await amend(services, job.id, Amendment(ttl=5, priority=9, run_at=at, tags=["x"]), by="ann")
    assert (changed.ttl, changed.priority, changed.run_at, changed.tags) == (timedelta(seconds=5), 9, at, ["x"])
    assert await amend(services, job.id, Amendment(), by="ann") == changed
    assert await trail(place, job.id) == [(1, None, Status.PENDING), (2, Status.PENDING, Status.PENDING)]
    last = (await read_history(services, job.id))[-1]
    assert (last.actor, last.reason) == ("ann", "changed")


async def test_a_new_ttl_counts_from_the_finish_and_a_key_outlives_a_shorter_one(
    services: Services, place: Place
) -> None:
    job_id = await in_status(place, Status.FAILED)
    job = await amend(services, job_id, Amendment(ttl=3600), by="ann")
    assert job.finished_at is not None
    assert job.expires_at == job.finished_at + timedelta(hours=1)
    assert (await amend(services, job_id, Amendment(ttl=None), by="ann")).expires_at is None
    keyed, _ = await submit(services, Submission(task="noop"), by="ann", key="k")
    assert (await amend(services, keyed.id, Amendment(ttl=1), by="ann")).ttl == timedelta(days=1)
