"""A process for tasks that is told to end, is killed or dies: its own job ends with it, and nothing else."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import time

import psutil
import pytest

from jobtrail import Retry
from jobtrail.errors import ProcessDiedError
from jobtrail.task.outcome import Ended, Raised, Returned
from jobtrail.worker.processes import pool as pool_module
from jobtrail.worker.processes.messages import Cancel
from jobtrail.worker.processes.pool import Processes
from support import hearing, heavy
from support.contexts import Untied
from support.orders import Running, gone, gone_with_all, order, pid_of_next, ran, result_of
from support.until import until

DEATHS: dict[str, tuple[str, Retry | None, bool]] = {
    "segfault": ("was ended by SIGSEGV", Retry(), True),
    "abort": ("was ended by SIGABRT", Retry(), True),
    "code 3": ("ended by itself with exit code 3", None, False),
    "code 0": ("ended by itself with exit code 0", Retry(on=(TimeoutError,)), False),
    "kill": ("was ended by SIGKILL, as by the system when memory runs out", Retry(on=(ProcessDiedError,)), True),
    "nonsense": ("was killed since it sent what is no message of ours", Retry(), True),
    "fork": ("ended by itself with exit code 4", Retry(), True),
    "fork of a library": ("ended by itself with exit code 6", Retry(), True),
    "program": ("ended by itself with exit code 5", Retry(), True),
}
"""What is said of it, and whether the task is tried again: its retry decides."""


async def test_a_process_that_dies_ends_its_own_job_and_says_how(
    own: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All at once, so that each dies while others live."""
    monkeypatch.setattr(pool_module, "_LOOK", 0.1)
    ends = await asyncio.gather(*(ran(own, heavy.ends, how=how, retry=retry) for how, (_, retry, _) in DEATHS.items()))
    groups = {}
    for (how, (message, _, retried)), ended in zip(DEATHS.items(), ends, strict=True):
        assert isinstance(ended, Raised)
        assert ended.failure.type == "process-died"
        assert ended.failure.message.endswith(message)
        assert ended.retried is retried
        assert ('heavy.py", line' in (ended.failure.traceback or "")) is (how in {"segfault", "abort"})
        groups[how] = int(ended.failure.message.split()[2])
    with contextlib.suppress(ProcessLookupError):
        # it has the handlers of Python, and no Python that would run them
        os.killpg(groups["fork of a library"], signal.SIGKILL)
    for group in groups.values():
        await gone_with_all(group)

    async def all_are_reaped() -> bool:
        return not own._all

    await until(all_are_reaped)


async def test_what_it_said_before_it_died_is_heard(processes: Processes, said: list[logging.LogRecord]) -> None:
    running = await Running.start(processes, hearing.told, how="deaf")
    # it hears nothing before all is said, however busy the machine is
    os.kill(running.pid, signal.SIGSTOP)
    for _ in range(20_000):
        running.child._process.send(Cancel())
    os.kill(running.pid, signal.SIGCONT)
    ended = await running.ended()
    assert isinstance(ended, Raised)
    assert ended.failure.message.endswith("ended by itself with exit code 7")
    assert [each.getMessage() for each in said] == ["last words"]


async def test_of_twenty_jobs_only_the_one_that_crashes_fails(own: Processes) -> None:
    places = asyncio.Semaphore(3)

    async def one(n: int) -> Ended:
        async with places:
            return await (ran(own, heavy.ends, how="segfault") if n == 8 else ran(own, heavy.add, a=n))

    ends = await asyncio.gather(*(one(n) for n in range(20)))
    assert [n for n, ended in enumerate(ends) if ended != Returned(str(n))] == [8]
    assert len(own._all) <= 4  # the one that crashed may still have its group looked after


@pytest.mark.parametrize("how", ["sleep", "read", "lock", "asyncio", "callbacks", "subprocess", "miss"])
async def test_a_task_that_is_told_to_end_cleans_up_where_it_is(
    processes: Processes, said: list[logging.LogRecord], how: str
) -> None:
    await ran(processes, heavy.ends, how="steal")  # what a task did to its signals is undone
    running = await Running.start(processes, hearing.told, how=how)
    running.child.cancel()
    running.child.cancel()
    ended = await running.ended()
    assert isinstance(ended, Raised)
    assert ended.failure.type == "CancelledError"
    assert said[-1].getMessage() == "cleaned up: True"


async def test_a_word_that_comes_too_late_does_not_hit_the_next(processes: Processes) -> None:
    first = await Running.start(processes, hearing.told, how="short")
    await first.ended()
    next_one = await Running.start(processes, hearing.told, how="short")
    first.child.cancel()
    first.child.kill()
    assert await next_one.ended() == Returned('"slept"')
    assert next_one.pid == first.pid


async def test_a_word_to_end_tears_no_other(processes: Processes, said: list[logging.LogRecord]) -> None:
    """It comes while the task is in the midst of writing, since nobody reads."""
    running = await Running.start(processes, hearing.told, how="talk")
    time.sleep(0.2)  # noqa: ASYNC251 - as a task of the host does that blocks the loop
    running.child.cancel()
    time.sleep(0.2)  # noqa: ASYNC251 - the same
    ended = await running.ended()
    assert isinstance(ended, Raised)
    assert (ended.failure.type, ended.failure.message) == ("CancelledError", "the job was told to end")
    assert said[-1].getMessage() == "cleaned up: True"
    assert await pid_of_next(processes) == running.pid


async def test_a_task_that_swallows_it_goes_on(processes: Processes, said: list[logging.LogRecord]) -> None:
    running = await Running.start(processes, hearing.told, how="swallow")
    running.child.cancel()
    assert await running.ended() == Returned('"slept"')
    assert [each.getMessage() for each in said] == ["heard", "cleaned up: True"]


async def test_a_job_that_is_told_before_it_begins_never_does(
    processes: Processes, said: list[logging.LogRecord]
) -> None:
    child = await processes.child()
    child.cancel()
    ended = await child.run(order(hearing.told), Untied(), None)
    assert isinstance(ended, Raised)
    assert (ended.failure.type, ended.failure.message) == ("CancelledError", "told to end before it began")
    assert not said


async def test_a_job_may_be_told_to_end_at_any_time(processes: Processes) -> None:
    """From before its order is read until after its end; the process goes on, and so does the next job."""
    pid = await pid_of_next(processes)
    for yields in range(60):
        child = await processes.child()
        job = asyncio.create_task(child.run(order(heavy.count_up, to=20), Untied(), None))
        for _ in range(yields):
            await asyncio.sleep(0)
        child.cancel()
        ended = await asyncio.wait_for(job, 60)
        assert ended == Returned(None) or (isinstance(ended, Raised) and ended.failure.type == "CancelledError")
        assert await ran(processes, heavy.add, a=yields) == Returned(str(yields))
    assert await pid_of_next(processes) == pid


async def test_a_kill_leaves_nothing_behind(own: Processes) -> None:
    running = await Running.start(own, heavy.start_sleeper)
    mine, sleeper = (int(each) for each in running.notes)
    running.child.kill()
    ended = await running.ended()
    assert isinstance(ended, Raised)
    assert ended.failure.message == f"the process {mine} was killed by its node"
    assert not psutil.pid_exists(mine)  # a zombie would
    await gone(sleeper)
    assert await pid_of_next(own) != mine


async def test_a_run_that_is_cancelled_kills(own: Processes) -> None:
    running = await Running.start(own, hearing.told)
    running.job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running.job
    await gone(running.pid)


async def test_close_ends_what_runs_and_is_idempotent(own: Processes) -> None:
    before = psutil.Process().num_fds()
    left = json.loads(result_of(await ran(own, heavy.leave_behind)))
    running = await Running.start(own, hearing.told, how="poll")
    idle = await own.child()
    starting = asyncio.create_task(own.child())
    await asyncio.sleep(0)
    await asyncio.gather(own.close(), own.close())
    with pytest.raises(ProcessDiedError, match="was killed by its node"):
        await starting
    await own.close()
    ended = await running.ended()
    assert isinstance(ended, Raised)
    assert ended.failure.type == "process-died"
    assert isinstance(await idle.run(order(heavy.add, a=1), Untied(), None), Raised)
    assert not psutil.pid_exists(left)
    assert not psutil.pid_exists(running.pid)
    assert psutil.Process().num_fds() == before
    with pytest.raises(ProcessDiedError, match="has stopped"):
        await own.child()


async def test_one_that_dies_idle_is_reaped_and_not_lent(own: Processes) -> None:
    first = await pid_of_next(own)
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - dead, and the loop has not heard of it
    assert await pid_of_next(own) != first
    assert not psutil.pid_exists(first)


async def test_signals_of_the_terminal_and_of_the_service_mean_nothing(processes: Processes) -> None:
    running = await Running.start(processes, hearing.told, how="swallow")
    for which in (signal.SIGINT, signal.SIGTERM) * 10:
        os.kill(running.pid, which)
    running.child.cancel()
    assert await running.ended() == Returned('"slept"')
    # what it starts has them as everybody has
    assert await ran(processes, heavy.heirs) == Returned('["default_int_handler","SIG_DFL"]')


async def test_a_program_that_a_task_left_and_that_is_deaf_is_killed(own: Processes) -> None:
    left = json.loads(result_of(await ran(own, heavy.leave_a_deaf_program)))
    assert psutil.pid_exists(left)
    await own.close()

    async def is_dead() -> bool:  # it was struck; the system takes a moment
        return not psutil.pid_exists(left) or psutil.Process(left).status() == psutil.STATUS_ZOMBIE

    await until(is_dead)
