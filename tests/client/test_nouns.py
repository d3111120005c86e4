"""The calls about batches, schedules and stats, of both faces."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from jobtrail import errors
from jobtrail.client import ScheduleSpec, Submission, submission
from jobtrail.status import Status
from support.errands import add, fail
from support.until import until

LATER = datetime(2100, 1, 1, tzinfo=UTC)


async def test_a_batch_is_counted_and_ends_with_a_job(client: Any) -> None:
    batch = await client.submit_batch([submission(add, 1, 2), submission(fail, message="x")], submission(add, 3, 4))
    assert (batch.total, batch.done_at) == (2, None)

    async def done() -> Any:
        found = await client.get_batch(batch.id)
        return found if found.done_at else None

    found = await until(done)
    assert (found.succeeded, found.failed, found.progress) == (1, 1, 1)
    assert await client.wait(found.on_done, 60) == 7
    retried = await client.retry_batch(str(batch.id))
    assert (retried.matched, retried.changed, retried.remaining) == (1, 1, 0)
    assert {job.batch_id for job in (await client.list(batch_id=batch.id)).items} == {batch.id}


async def test_a_batch_is_cancelled(client: Any) -> None:
    waits = Submission(task="nap", run_at=LATER)
    batch = await client.submit_batch([waits, waits])
    moved = await client.cancel_batch(batch.id, reason="stop")
    assert (moved.changed, (await client.get_batch(batch.id)).cancelled) == (2, 2)
    assert {job.cancel_reason for job in (await client.list(batch_id=batch.id)).items} == {"stop"}
    gone = uuid4()
    with pytest.raises(errors.BatchNotFoundError) as caught:
        await client.retry_batch(gone)
    assert caught.value.batch_id == gone


async def test_a_schedule_from_its_making_to_its_end(client: Any) -> None:
    name = f"sums:{uuid4().hex}"
    spec = ScheduleSpec(task="add", args={"a": 1, "b": 1}, every=3600.0, starts_at=LATER)
    made = await client.put_schedule(name, spec)
    assert (made.state, made.every, made.next_at, made.edited_by) == ("active", timedelta(hours=1), LATER, "anonymous")
    paused = await client.pause_schedule(name, reason="a holiday")
    assert (paused.state, paused.pause_reason) == ("paused", "a holiday")
    assert (await client.resume_schedule(name)).state == "active"
    job = await client.run_schedule(name)
    assert await client.wait(job.id, 60) == 2
    detail = await client.get_schedule(name)
    assert (detail.schedule.name, detail.last_jobs[0].id, detail.last_jobs[0].status) == (
        name,
        job.id,
        Status.SUCCEEDED,
    )
    assert len(detail.next_times) == 5
    assert name in [each.name for each in await client.list_schedules()]

    past = spec.model_copy(update={"starts_at": datetime(2026, 1, 1, tzinfo=UTC)})
    await client.put_schedule(name, ScheduleSpec(**past.model_dump(exclude_unset=True)))
    until_then = datetime(2026, 1, 1, 3, tzinfo=UTC)
    told = await client.backfill_schedule(name, until_then - timedelta(hours=3), until_then, dry_run=True)
    assert (told.count, told.batch_id, len(told.times)) == (3, None, 3)
    filled = await client.backfill_schedule(name, until_then - timedelta(hours=3), until_then)
    assert (await client.get_batch(filled.batch_id)).total == 3

    await client.delete_schedule(name)
    with pytest.raises(errors.ScheduleNotFoundError) as caught:
        await client.pause_schedule(name)
    assert caught.value.name == name


async def test_stats_are_those_of_the_service(client: Any) -> None:
    job = await client.submit(add, 1, 2)
    await job.wait(60)

    async def counted() -> Any:
        found = await client.stats()
        return found if found.ended else None

    found = await until(counted)
    [told] = [each for each in found.tasks if each.task == "add"]
    assert (told.ended >= 1, found.numbers_lag, found.nodes) == (True, 0, 1)
    assert [each.name for each in found.alarms] == ["pending", "running", "failures"]
    assert found.since < found.as_of
