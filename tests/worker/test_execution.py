"""One attempt by itself: told to end before it began, while it runs, and when it does not listen."""

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest

from jobtrail.records import Claimed
from jobtrail.task.outcome import Interrupted, NotBegun, Raised, Returned, TimedOut
from jobtrail.task.task import Task
from jobtrail.worker.execution import Execution
from jobtrail.worker.executors import Assignment, LoopExecutor, ThreadExecutor
from jobtrail.worker.threads import Threads
from support import kinds, stubborn, tasks
from support.contexts import Untied, context_of


class Told(Untied):
    """The ties of an attempt: its own execution says whether it was told."""

    execution: Execution

    @property  # type: ignore[override]
    def cancelled(self) -> bool:
        return self.execution.told


def executed(task: Task[..., Any], *, timeout: float | None = None, grace: float = 0.05, **args: Any) -> Execution:
    limit = None if timeout is None else timedelta(seconds=timeout)
    ties = Told.__new__(Told)
    context = context_of(task.name, ties=ties)
    claimed = Claimed(context.job_id, 1, task.name, args, context.trace_id, 1, limit, "ann")
    assignment = Assignment(claimed, task, context, 1000)
    place = LoopExecutor(assignment) if task.runs_in == "loop" else ThreadExecutor(assignment, Threads())
    ties.execution = Execution(assignment, place, grace=grace)
    return ties.execution


async def begun(attempt: Execution) -> "asyncio.Task[Any]":
    performing = asyncio.create_task(attempt.perform())
    while attempt._performing is None:
        await asyncio.sleep(0)
    return performing


async def test_a_cancel_before_the_first_step() -> None:
    attempt = executed(tasks.sleep_long)
    performing = await begun(attempt)
    attempt.cancel()
    performance = await performing
    assert isinstance(performance, Raised)
    assert performance.failure.type == "CancelledError"
    assert attempt.cancel_requested


async def test_a_cancel_before_it_has_a_place_lets_it_never_begin() -> None:
    attempt = executed(tasks.noop)
    attempt.cancel()
    performance = await attempt.perform()
    assert isinstance(performance, Raised)
    assert performance.failure.message == "cancelled before it began"


async def test_an_interrupt_before_it_has_a_place_uses_up_nothing() -> None:
    attempt = executed(tasks.noop)
    attempt.interrupt()
    assert await attempt.perform() == NotBegun()


async def test_a_task_that_does_not_listen_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    slow = executed(stubborn.never_ends, timeout=0.05, seconds=0.4)
    ended = executed(stubborn.never_ends, seconds=0.4)
    performing = asyncio.create_task(ended.perform())
    performance = await slow.perform()
    ended.interrupt()
    assert isinstance(performance, TimedOut)
    assert isinstance(await performing, Interrupted)
    assert caplog.text.count("never_ends did not end when told to: it is left behind") == 2
    assert (slow.left_behind, ended.left_behind) == (True, True)
    free = asyncio.Event()
    slow.when_free(free.set)
    assert not free.is_set()
    await asyncio.wait_for(free.wait(), 60)
    await asyncio.gather(*(each for each in asyncio.all_tasks() if each.get_name().startswith("job-")))


@pytest.mark.parametrize("how", ["cancel", "interrupt"])
async def test_a_thread_with_a_context_hears_and_cleans_up(how: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    attempt = executed(kinds.in_thread, how="wait", grace=5.0)
    performing = await begun(attempt)
    getattr(attempt, how)()
    performance = await performing
    ended = performance.raised if isinstance(performance, Interrupted) else performance
    assert (ended.failure.type, ended.failure.message) == ("InterruptedError", "told to end")
    assert isinstance(performance, Interrupted) is (how == "interrupt")
    assert "cleaned up: True" in caplog.text
    assert not attempt.left_behind


async def test_a_thread_that_cannot_hear_is_left_at_once_at_its_timeout() -> None:
    attempt = executed(tasks.hold_in_thread, timeout=0.05, seconds=600, grace=600)
    performance = await asyncio.wait_for(attempt.perform(), 60)
    tasks.GATE.set()
    assert isinstance(performance, TimedOut)
    assert performance.raised.failure.type == "left-behind"


async def test_a_cancel_waits_for_a_thread_that_cannot_hear() -> None:
    """It may be about to succeed, and then what it did is told as it was."""
    attempt = executed(tasks.hold_in_thread, seconds=0.2, grace=5)
    performing = await begun(attempt)
    attempt.cancel()
    assert await performing == Returned('"released"')
    assert attempt.cancel_requested


async def test_a_def_that_returns_a_coroutine_is_told_so() -> None:
    performance = await executed(tasks.forgot_async).perform()
    assert isinstance(performance, Raised)
    assert "write async def" in performance.failure.message
