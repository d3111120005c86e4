"""One attempt by itself: cancelled before it began, and one that does not listen."""

import asyncio
import logging
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from jobtrail.job.context import JobContext
from jobtrail.job.ids import new_job_id
from jobtrail.job.outcome import Interrupted, Raised, TimedOut
from jobtrail.job.record import Claimed
from jobtrail.job.task import Task
from jobtrail.node import execution
from jobtrail.node.execution import Execution
from jobtrail.node.threads import Threads
from support import stubborn, tasks


def executed(task: Task[..., Any], *, timeout: timedelta | None = None, **args: Any) -> Execution:
    claimed = Claimed(new_job_id(), 1, task.name, args, uuid4().hex, 1, timeout, "ann")

    async def submitter(*_args: object) -> Any:
        raise AssertionError

    context = JobContext(
        job_id=claimed.id, attempt=1, trace_id=claimed.trace_id, task=task.name, log=logging.getLogger(),
        submitter=submitter,
    )  # fmt: skip
    return Execution(claimed, task, context, Threads())


async def test_a_cancel_before_the_first_step() -> None:
    attempt = executed(tasks.sleep_long)
    performing = asyncio.create_task(attempt.perform())
    await asyncio.sleep(0)
    attempt.cancel()
    performance = await performing
    assert isinstance(performance, Raised)
    assert isinstance(performance.error, asyncio.CancelledError)
    assert attempt.cancel_delivered


async def test_a_task_that_does_not_listen_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(execution, "_CANCEL_GRACE", 0.05)
    slow = executed(stubborn.never_ends, timeout=timedelta(seconds=0.05))
    ended = executed(stubborn.never_ends)
    performing = asyncio.create_task(ended.perform())
    performance = await slow.perform()
    ended.interrupt()
    assert isinstance(performance, TimedOut)
    assert isinstance(await performing, Interrupted)
    assert caplog.text.count("left behind") == 2
    await asyncio.gather(*(each for each in asyncio.all_tasks() if each.get_name().startswith("job-")))


async def test_a_thread_cannot_be_cancelled_but_times_out() -> None:
    attempt = executed(tasks.hold_in_thread, timeout=timedelta(seconds=0.05), seconds=0.2)
    performing = asyncio.create_task(attempt.perform())
    await asyncio.sleep(0)
    attempt.cancel()
    assert not attempt.cancel_delivered
    assert isinstance(await performing, TimedOut)
