"""How jobs run on a node: every end a task can have, and what the row and the history say of it."""

import asyncio
import logging
from typing import Any

import pytest

from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.history import read_history
from jobtrail.jobs.retry import retry
from jobtrail.jobs.submit import submit, submit_batch
from jobtrail.logs import BoundFields
from jobtrail.status import Status
from jobtrail.task.submission import Submission
from support import tasks, world
from support.rows import trail
from support.until import until
from support.world import Place


@pytest.mark.parametrize(
    ("task", "args", "result"),
    [
        ("noop", {"n": 3}, {"ok": 3}),
        ("nothing", {}, None),
        ("give", {"what": "date"}, {"day": "2026-01-02"}),
        ("give", {"what": "text"}, "text"),
        ("hold_in_thread", {"seconds": 0}, "released"),
    ],
)
async def test_a_return_value_is_the_result(place: Place, task: str, args: dict[str, Any], result: object) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place):
        job = await world.ended(services, (await world.submitted(services, task, **args)).id)
    assert (job.status, job.result, job.error, job.attempt) == (Status.SUCCEEDED, result, None, 1)
    assert await trail(place, job.id) == [
        (1, None, "pending"), (2, "pending", "running"), (3, "running", "succeeded")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("task", "args", "type_", "message"),
    [
        ("fail", {"how": "error"}, "ValueError", "as asked"),
        ("fail", {"how": "exit"}, "SystemExit", "3"),
        ("fail", {"how": "interrupt"}, "KeyboardInterrupt", ""),
        ("fail", {"how": "generator"}, "GeneratorExit", ""),
        ("fail", {"how": "cancelled"}, "CancelledError", ""),
        ("fail", {"how": "str"}, "BadStrError", "<the message cannot be shown: __str__ raised RuntimeError>"),
        ("fail", {"how": "nul"}, "ValueError", "a\\u0000b\\ud800c"),
        ("fail_in_thread", {"how": "x"}, "ValueError", "x"),
        ("fail_in_thread", {"how": "exit"}, "SystemExit", "3"),
        ("fail_in_thread", {"how": "interrupt"}, "KeyboardInterrupt", ""),
        ("fail_in_thread", {"how": "stop"}, "StopIteration", ""),
        ("too_slow", {}, "timeout", "attempt 1 took longer than 0.05 s"),
        ("give", {"what": "exit"}, "SystemExit", "3"),
        ("give_in_thread", {}, "SystemExit", "3"),
        ("give", {"what": "nan"}, "result-not-json", None),
        ("give", {"what": "object"}, "result-not-json", None),
        ("give", {"what": "nul"}, "result-not-json", None),
        ("give", {"what": "large"}, "result-too-large", None),
    ],
)
async def test_every_exception_ends_as_failed(
    place: Place, task: str, args: dict[str, Any], type_: str, message: str | None
) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place):
        job = await world.ended(services, (await world.submitted(services, task, **args)).id)
        after = await world.ended(services, (await world.submitted(services, "noop")).id)
    assert after.status is Status.SUCCEEDED, "the node did not outlive the task"
    assert job.status is Status.FAILED
    assert job.error is not None
    assert (job.error["type"], job.error["attempt"], job.result) == (type_, 1, None)
    assert message is None or job.error["message"] == message
    history = await read_history(services, job.id)
    assert (history[-1].to_status, history[-1].reason) == ("failed", type_)
    assert history[-1].error == job.error


async def test_a_long_error_is_cut_with_a_mark(place: Place) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place):
        job = await world.ended(services, (await world.submitted(services, "fail", how="long")).id)
    assert job.error is not None
    assert len(job.error["message"].encode()) < 17 * 1024
    assert "cut" in job.error["message"]


async def test_errors_are_retried_as_the_task_says_and_each_is_in_the_history(place: Place) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place):
        job = await world.ended(services, (await world.submitted(services, "flaky", succeed_at=3)).id)
        never = await world.ended(services, (await world.submitted(services, "flaky", succeed_at=9)).id)
    assert (job.status, job.attempt, job.result) == (Status.SUCCEEDED, 3, 3)
    history = await read_history(services, job.id)
    assert [(move.to_status, move.attempt, (move.error or {}).get("message")) for move in history] == [
        ("pending", 0, None), ("running", 1, None), ("pending", 1, "attempt 1"),
        ("running", 2, None), ("pending", 2, "attempt 2"), ("running", 3, None), ("succeeded", 3, None),
    ]  # fmt: skip
    assert (never.status, never.attempt) == (Status.FAILED, 3)


async def test_the_context_tells_the_task_about_its_job(place: Place) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place):
        job = await submit(services, Submission(task="about"), by="ann", trace_id="ab" * 16)
        job = await world.ended(services, job.id)
    assert job.result == {
        "job_id": str(job.id), "attempt": 1, "trace_id": "ab" * 16, "token": str(job.id), "other": f"{job.id}:mail",
    }  # fmt: skip


async def test_a_job_submitted_by_a_job_inherits_the_trace_and_names_its_parent(place: Place) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place):
        parent = await world.ended(services, (await world.submitted(services, "parent", n=4)).id)
        child = (await place.rows("SELECT * FROM jobtrail.jobs WHERE task = 'noop'"))[0]
        assert (await world.ended(services, child["id"])).result == {"ok": 4}
    assert (child["trace_id"], child["created_by"]) == (parent.trace_id, f"job {parent.id}")


async def test_every_record_made_while_a_job_runs_carries_its_ids(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    services = world.services_at(place)
    caplog.handler.addFilter(BoundFields())
    with caplog.at_level(logging.INFO):
        async with world.node_at(services, place):
            told = await world.ended(services, (await world.submitted(services, "about")).id)
            threaded = await world.ended(services, (await world.submitted(services, "tell_in_thread")).id)
    records = {record.getMessage(): record for record in caplog.records}
    for job, message in ((told, "about to tell"), (threaded, "told in a thread")):
        found = {name: getattr(records[message], name) for name in ("job_id", "task", "attempt", "trace_id")}
        assert found == {"job_id": str(job.id), "task": job.task, "attempt": 1, "trace_id": job.trace_id}


async def test_arguments_that_no_longer_fit_end_as_failed(place: Place) -> None:
    services = world.services_at(place)
    await place.psql.execute(
        "INSERT INTO jobtrail.jobs (id, task, args) VALUES (gen_random_uuid(), 'noop', '{\"n\": \"x\"}')"
    )
    job_id = await place.value("SELECT id FROM jobtrail.jobs")
    async with world.node_at(services, place):
        job = await world.ended(services, job_id)
    assert job.status is Status.FAILED
    assert job.error is not None
    assert "/n" in job.error["message"]


async def test_cancelling_a_running_job(place: Place) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place):
        job = await world.submitted(services, "sleep_long")
        await world.reached(services, job.id, Status.RUNNING)
        await cancel(services, job.id, by="ann", reason="enough")
        job = await world.ended(services, job.id)
    assert (job.status, job.cancel_reason) == (Status.CANCELLED, "enough")
    last = (await read_history(services, job.id))[-1]
    assert (last.actor, last.reason, last.to_status) == ("ann", "enough", "cancelled")


async def test_a_normal_return_after_a_cancel_succeeds(place: Place) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place):
        job = await world.submitted(services, "swallow_cancel")
        await world.reached(services, job.id, Status.RUNNING)
        await cancel(services, job.id, by="ann")
        job = await world.ended(services, job.id)
    assert (job.status, job.result) == (Status.SUCCEEDED, "done anyway")


async def test_a_retried_job_runs_again_with_the_next_attempt(place: Place) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place):
        job = await world.ended(services, (await world.submitted(services, "fail", how="error")).id)
        await retry(services, job.id, by="ann")
        job = await world.ended(services, job.id)
    assert (job.status, job.attempt, job.max_attempts) == (Status.FAILED, 2, 2)
    assert [move.to_status for move in await read_history(services, job.id)] == [
        "pending", "running", "failed", "pending", "running", "failed",
    ]  # fmt: skip


async def test_no_connection_is_held_while_tasks_run(place: Place) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place, slots=20):
        jobs = await submit_batch(services, [Submission(task="hold") for _ in range(20)], by="ann")
        for job in jobs:
            await world.reached(services, job.id, Status.RUNNING)

        async def nothing_taken() -> bool:
            return services.database.engine.pool.checkedout() == 0 and services.database.grouped.pool.checkedout() == 0

        await until(nothing_taken)
        busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"

        async def nothing_busy() -> bool:
            return await place.value(busy) == 0

        await until(nothing_busy)
        tasks.GATE.set()
        await asyncio.gather(*(world.ended(services, job.id) for job in jobs))
