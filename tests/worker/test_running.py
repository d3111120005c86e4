"""How jobs run on a node: what the row, the history and the log say of them."""

import asyncio
import logging
from typing import Any, Final

import pytest

from jobtrail.ids import Trace
from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.history import read_history
from jobtrail.jobs.retry import retry
from jobtrail.jobs.services import Services
from jobtrail.jobs.submit import submit, submit_batch
from jobtrail.logs import BoundFields
from jobtrail.status import Status
from jobtrail.task.submission import Submission
from support import tasks, world
from support.rows import trail
from support.until import until
from support.world import Place, ran

RESULTS: Final[list[tuple[str, dict[str, Any], object]]] = [
    ("noop", {"n": 3}, {"ok": 3}),
    ("nothing", {}, None),
    ("give", {"what": "date"}, {"day": "2026-01-02"}),
    ("give", {"what": "text"}, "text"),
    ("hold_in_thread", {"seconds": 0}, "released"),
]
# exits, interrupts and the like: tests/verification/zoo
ERRORS: Final[list[tuple[str, dict[str, Any], str, str]]] = [
    ("fail", {"how": "error"}, "ValueError", "as asked"),
    ("fail", {"how": "nul"}, "ValueError", "a\\u0000b\\ud800c"),
    ("fail_in_thread", {"how": "x"}, "ValueError", "x"),
    ("too_slow", {}, "timeout", "attempt 1 took longer than 0.05 s"),
    ("give", {"what": "exit"}, "SystemExit", "3"),
    ("give_in_thread", {}, "SystemExit", "3"),
    ("give", {"what": "nan"}, "result-not-json", ""),
    ("give", {"what": "object"}, "result-not-json", ""),
    ("give", {"what": "nul"}, "result-not-json", ""),
    ("give", {"what": "large"}, "result-too-large", ""),
]


async def test_a_return_value_is_the_result_and_every_exception_ends_as_failed(
    place: Place, services: Services
) -> None:
    async with world.node_at(services, place):
        wanted = [world.submitted(services, task, **args) for task, args, *_ in [*RESULTS, *ERRORS]]
        jobs = [await world.ended(services, (await each).id) for each in wanted]
        long = await ran(services, "fail", how="long")
    for (*_, result), job in zip(RESULTS, jobs, strict=False):
        assert (job.status, job.result, job.error, job.attempt) == (Status.SUCCEEDED, result, None, 1)
        moves = await trail(place, job.id)
        assert moves == [(1, None, "pending"), (2, "pending", "running"), (3, "running", "succeeded")]
    for (*_, type_, message), job in zip(ERRORS, jobs[len(RESULTS) :], strict=True):
        assert job.error is not None
        assert (job.status, job.result, job.attempt) == (Status.FAILED, None, 1)
        assert (job.error["type"], job.error["attempt"]) == (type_, 1)
        assert message in (job.error["message"], "")
        last = (await read_history(services, job.id))[-1]
        assert (last.to_status, last.reason, last.error) == ("failed", type_, job.error)
    assert long.error is not None
    assert len(long.error["message"].encode()) < 17 * 1024
    assert "cut" in long.error["message"]


async def test_errors_are_retried_as_the_task_says_and_each_is_in_the_history(place: Place, services: Services) -> None:
    async with world.node_at(services, place):
        job = await ran(services, "flaky", succeed_at=3)
        never = await ran(services, "flaky", succeed_at=9)
    assert (job.status, job.attempt, job.result) == (Status.SUCCEEDED, 3, 3)
    history = await read_history(services, job.id)
    assert [(move.to_status, move.attempt, (move.error or {}).get("message")) for move in history] == [
        ("pending", 0, None), ("running", 1, None), ("pending", 1, "attempt 1"),
        ("running", 2, None), ("pending", 2, "attempt 2"), ("running", 3, None), ("succeeded", 3, None),
    ]  # fmt: skip
    assert (never.status, never.attempt) == (Status.FAILED, 3)


async def test_the_context_and_every_record_meanwhile_know_the_job(
    place: Place, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.addFilter(BoundFields())
    with caplog.at_level(logging.INFO):
        async with world.node_at(services, place):
            told, _ = await submit(services, Submission(task="about"), by="ann", trace=Trace("ab" * 16))
            told = await world.ended(services, told.id)
            threaded = await ran(services, "tell_in_thread")
    assert told.result == {
        "job_id": str(told.id), "attempt": 1, "trace_id": "ab" * 16, "token": str(told.id), "other": f"{told.id}:mail",
    }  # fmt: skip
    records = {record.getMessage(): record for record in caplog.records}
    for job, message in ((told, "about to tell"), (threaded, "told in a thread")):
        found = {name: getattr(records[message], name) for name in ("job_id", "task", "attempt", "trace_id")}
        assert found == {"job_id": str(job.id), "task": job.task, "attempt": 1, "trace_id": job.trace_id}


async def test_a_job_of_a_job_inherits_the_trace_names_its_parent_and_sees_none_of_its_variables(
    place: Place, services: Services
) -> None:
    async with world.node_at(services, place):
        parent = await ran(services, "parent", n=4)
        child = (await place.rows("SELECT * FROM jobtrail.jobs WHERE task = 'noop'"))[0]
        assert (await world.ended(services, child["id"])).result == {"ok": 4}
        assert (await world.ended(services, (await ran(services, "call")).result)).result == "nobody"
    assert (child["trace_id"], child["created_by"]) == (parent.trace_id, f"job {parent.id}")


async def test_arguments_that_no_longer_fit_end_as_failed(place: Place, services: Services) -> None:
    job_id = await place.value(
        "INSERT INTO jobtrail.jobs (id, task, args) VALUES (gen_random_uuid(), 'noop', '{\"n\": \"x\"}') RETURNING id"
    )
    async with world.node_at(services, place):
        job = await world.ended(services, job_id)
    assert job.status is Status.FAILED
    assert "/n" in (job.error or {})["message"]


async def test_a_normal_return_after_a_cancel_succeeds(place: Place, services: Services) -> None:
    async with world.node_at(services, place):
        job = await world.running(services, "swallow_cancel")
        await cancel(services, job.id, by="ann")
        job = await world.ended(services, job.id)
    assert (job.status, job.result) == (Status.SUCCEEDED, "done anyway")


async def test_a_retried_job_runs_again_with_the_next_attempt(place: Place, services: Services) -> None:
    async with world.node_at(services, place):
        job = await ran(services, "fail", how="error")
        await retry(services, job.id, by="ann")
        job = await world.ended(services, job.id)
    assert (job.status, job.attempt, job.max_attempts) == (Status.FAILED, 2, 2)
    assert [to for *_, to in await trail(place, job.id)] == ["pending", "running", "failed"] * 2


async def test_no_connection_is_held_while_tasks_run(place: Place, services: Services) -> None:
    async with world.node_at(services, place, slots=20):
        jobs = await submit_batch(services, [Submission(task="hold") for _ in range(20)], by="ann")
        for job in jobs:
            await world.reached(services, job.id, Status.RUNNING)
        pools = [services.database.engine.pool, services.database.grouped.pool]
        busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"

        async def nothing_taken() -> bool:
            return not any(each.checkedout() for each in pools) and not await place.value(busy)  # type: ignore[attr-defined]

        await until(nothing_taken)
        tasks.GATE.set()
        await asyncio.gather(*(world.ended(services, job.id) for job in jobs))
