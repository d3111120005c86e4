"""What comes back from a process for tasks: results, errors, log lines, progress, and why there is none."""

import asyncio
import json
import logging
import os
import posixpath
import signal
import sys
from dataclasses import replace
from multiprocessing import spawn
from pathlib import Path
from typing import Any

import psutil
import pytest
from asyncpg.pgproto.pgproto import UUID

from jobtrail import Retry
from jobtrail.errors import ProcessDiedError
from jobtrail.logs import bind
from jobtrail.task.outcome import Raised, Returned
from jobtrail.task.task import Task
from jobtrail.worker.processes import pool as processes_module
from jobtrail.worker.processes.pool import Processes
from support import heavy
from support.contexts import Untied
from support.orders import lives_in, order, pid_of_next, ran, result_of
from support.until import until

# exits, interrupts and the like: tests/verification/zoo
RAISED = {
    "error": ("ValueError", "as asked"),
    "no pickle": ("NoPickleError", "does not pickle"),
    "memory": ("MemoryError", ""),
    "large": ("result-too-large", "more than the limit of 5000"),
    "again": ("Again", "the task asked"),
    "fail": ("gave-up", "no"),
    "coroutine": ("TypeError", "write async def"),
    "submit": ("ContextError", "context.submit() is for an async def"),
    "session": ("ContextError", "context.session() is for an async def"),
    "progress": ("ValueError", "write a number from 0"),
}


async def test_what_a_task_raises_is_described_where_it_happened(processes: Processes) -> None:
    for how, (type_, message) in RAISED.items():
        ended = await ran(processes, heavy.ends, how=how)
        assert isinstance(ended, Raised)
        assert (ended.failure.type, ended.failure.attempt) == (type_, 1)
        assert message in ended.failure.message
        assert (ended.retried, ended.after) == ((True, 7) if how == "again" else (False, None))
        assert await ran(processes, heavy.add, a=1, b=2) == Returned("3")


async def test_what_a_task_returns_is_json(processes: Processes) -> None:
    assert await ran(processes, heavy.ends, how="none") == Returned(None)
    assert await ran(processes, heavy.ends, how="date") == Returned('{"day":"2026-01-02"}')
    assert await ran(processes, heavy.basename, p="/a/b") == Returned('"b"')
    unfit = await ran(processes, heavy.add, a="one")
    assert isinstance(unfit, Raised)
    assert unfit.failure.type == "InvalidArgumentsError"


async def test_it_is_where_the_node_is(
    own: Processes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOBTRAIL_TEST_VARIABLE", "as here")
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    monkeypatch.syspath_prepend(tmp_path / "more")
    monkeypatch.chdir(tmp_path)
    wanted = order(heavy.about)
    claimed = replace(wanted.claimed, id=UUID(wanted.claimed.id.hex))  # as the driver of the database hands it over
    wanted = replace(wanted, claimed=claimed)
    found = json.loads(result_of(await (await own.child()).run(wanted, Untied(), None)))
    assert (found["folder"], found["path"], found["variable"]) == (str(tmp_path), sys.path, "as here")
    assert (found["job"], found["attempt"], found["main"]) == (str(wanted.claimed.id), 1, True)
    assert not found["driver"]
    assert found["pid"] == found["group"] != os.getpid()
    assert "printed, and kept by nobody" in capfd.readouterr().out


async def test_a_large_order_does_not_block_the_loop(processes: Processes) -> None:
    child = await processes.child()
    os.kill(child._process._process.pid, signal.SIGSTOP)
    job = asyncio.create_task(child.run(order(heavy.length, text="x" * 2**20), Untied(), None))
    for _ in range(10):
        await asyncio.sleep(0)  # returns, though the child does not read
    assert not job.done()
    os.kill(child._process._process.pid, signal.SIGCONT)
    assert await asyncio.wait_for(job, 60) == Returned(str(2**20))


async def test_log_lines_reach_the_node_as_its_own(processes: Processes, said: list[logging.LogRecord]) -> None:
    with bind(job_id="42", task="x"):
        assert await ran(processes, heavy.log_all) == Returned(None)
    texts = [each.getMessage() for each in said]
    assert texts[:4] == [
        "at a level that the node chose",
        "of a library",
        "%d ('no number',) (not formatted: TypeError)",
        "of the context",
    ]
    assert texts[4].startswith("with an error\nTraceback")
    assert texts[4].endswith("ValueError: caught")
    assert {each.name for each in said} == {"some.dependency", "jobtrail.task.log_all"}
    assert all(each.__dict__["bound"] == {"job_id": "42", "task": "x"} for each in said)
    assert (said[1].__dict__["customer"], said[1].__dict__["thing"]) == (5, {"at": "2026-01-02"})
    assert (said[0].funcName, said[0].processName) == ("log_all", "jobtrail")


async def test_the_node_has_the_last_word_about_levels(processes: Processes, said: list[logging.LogRecord]) -> None:
    heavy.LOGGER.setLevel(logging.ERROR)
    assert await ran(processes, heavy.log_lines, count=2) == Returned("2")
    heavy.LOGGER.setLevel(logging.INFO)
    assert not said


async def test_a_flood_of_lines_and_of_progress_is_no_deadlock(
    processes: Processes, said: list[logging.LogRecord]
) -> None:
    ties = Untied()
    lines, counted = await asyncio.gather(
        ran(processes, heavy.log_lines, count=3000), ran(processes, heavy.count_up, ties, to=100_000)
    )
    assert (lines, counted) == (Returned("3000"), Returned(None))
    assert [each.getMessage() for each in said] == [f"line {n}" for n in range(3000)]
    assert (ties.reported[0].done, ties.reported[-1].done) == (1, 100_000)
    assert len(ties.reported) < 1000


@pytest.mark.parametrize("how", ["fork", "spawn"])
async def test_a_task_may_use_processes_of_its_own(
    processes: Processes, said: list[logging.LogRecord], how: str
) -> None:
    """Nothing that a fork says gets between the words of its parent."""
    assert await ran(processes, heavy.in_a_pool, how=how) == Returned(json.dumps([*range(20)], separators=(",", ":")))
    assert not said


async def test_a_fork_that_comes_back_from_the_task_is_not_heard_and_ends(own: Processes) -> None:
    pid = int(result_of(await ran(own, heavy.forks_and_returns)))
    assert pid == await pid_of_next(own)

    async def is_alone() -> bool:
        return [each.pid for each in psutil.process_iter(["status"]) if lives_in(each, pid)] == [pid]

    await until(is_alone)


async def test_a_task_that_cannot_be_found_says_where_it_was_sought(processes: Processes) -> None:
    child = await processes.child()
    ended = await child.run(order(heavy.add, module="no.such.module", a=1), Untied(), Retry())
    assert isinstance(ended, Raised)
    assert (ended.failure.type, ended.failure.message) == ("ModuleNotFoundError", "No module named 'no'")
    assert ended.retried
    child = await processes.child()
    lost: Task[..., Any] = Task(posixpath.dirname, name="lost", runs_in="process")
    ended = await child.run(order(lost, p="/a/b"), Untied(), None)
    assert isinstance(ended, Raised)
    assert "finds no task 'lost' in posixpath, support.heavy, support.hearing: keep it" in ended.failure.message
    assert not ended.retried


@pytest.mark.parametrize(
    ("source", "patience", "message"),
    [
        ("import os; os._exit(5)", 30, "ended by itself with exit code 5"),
        ("import time; time.sleep(60)", 0.5, "was not ready after 0.5 s"),
    ],
)
async def test_a_process_that_cannot_come_up_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, patience: float, message: str
) -> None:
    monkeypatch.setattr(processes_module, "_PATIENCE", patience)
    (tmp_path / "never_up.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    opened = Processes(["never_up"])
    with pytest.raises(ProcessDiedError, match=message):
        await opened.child()
    await opened.close()


async def test_a_folder_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own: Processes) -> None:
    prepared = spawn.get_preparation_data("x")
    monkeypatch.setattr(spawn, "get_preparation_data", lambda _: prepared | {"dir": str(tmp_path / "gone")})
    with pytest.raises(ProcessDiedError, match="exit code 1") as told:
        await own.child()
    assert "FileNotFoundError" in told.value.__notes__[0]
