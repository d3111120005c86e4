"""Processes for tasks: what comes back from them, how they are told to end and killed, and that each dies alone."""

import asyncio
import contextlib
import json
import logging
import os
import posixpath
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from multiprocessing import spawn
from pathlib import Path
from typing import Any

import psutil
import pytest

from jobtrail import Retry
from jobtrail.job.errors import ProcessDiedError
from jobtrail.job.outcome import Ended, Raised, Returned
from jobtrail.job.record import Claimed
from jobtrail.job.task import Task
from jobtrail.logs import bind, current
from jobtrail.node import processes as processes_module
from jobtrail.node import spawned as spawned_module
from jobtrail.node.processes import Child, Order, Processes
from support import heavy
from support.contexts import Untied, context_of
from support.servers import environment
from support.until import until

MODULES = ["support.heavy"]
TOP = Path(__file__).parents[2]


@pytest.fixture(scope="module")
async def processes() -> AsyncIterator[Processes]:
    heavy.LOGGER.setLevel(logging.INFO)
    opened = Processes(MODULES)
    yield opened
    await opened.close()


@pytest.fixture
async def own() -> AsyncIterator[Processes]:
    """For tests that count what is there."""
    opened = Processes(MODULES)
    yield opened
    await opened.close()


@pytest.fixture
def said() -> Iterator[list[logging.LogRecord]]:
    """What reaches the node's own loggers, each with the ids that are bound where it is handled."""
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            record.bound = dict(current())
            records.append(record)

    keep = Keep()
    logging.getLogger().addHandler(keep)
    yield records
    logging.getLogger().removeHandler(keep)


def order(task: Task[..., Any], *, module: str | None = None, **args: Any) -> Order:
    context = context_of(task.name)
    limit = timedelta(seconds=60)
    claimed = Claimed(context.job_id, 1, task.name, args, context.trace_id, 1, limit, "ann")
    return Order(claimed, module or task.function.__module__, 5000)


async def ran(
    processes: Processes, task: Task[..., Any], ties: Untied | None = None, *, retry: Retry | None = None, **args: Any
) -> Ended:
    child = await processes.child()
    return await child.run(order(task, **args), ties or Untied(), retry)


class Running:
    """A job that is under way, and has said so."""

    def __init__(self, child: Child, job: "asyncio.Task[Ended]", notes: list[str]) -> None:
        self.child = child
        self.job = job
        self.notes = notes

    @classmethod
    async def start(cls, processes: Processes, task: Task[..., Any], **args: Any) -> "Running":
        child, ties = await processes.child(), Untied()
        job = asyncio.create_task(child.run(order(task, **args), ties, None))

        async def words() -> list[str]:
            assert not job.done(), job.result()
            return [each.note or "" for each in ties.reported]

        return cls(child, job, (await until(words, every=0.002))[0].split())

    @property
    def pid(self) -> int:
        return int(self.notes[0])

    async def ended(self) -> Ended:
        return await asyncio.wait_for(self.job, 10)


def result_of(ended: Ended) -> str:
    assert isinstance(ended, Returned), ended
    return ended.result or ""


async def pid_of_next(processes: Processes) -> int:
    return int(json.loads(result_of(await ran(processes, heavy.about)))["pid"])


async def gone(pid: int, *, within: float = 5.0) -> None:
    async def is_gone() -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        return True

    await until(is_gone, within=within)


def lives_in(process: psutil.Process, group: int) -> bool:
    """Not as a zombie, which waits for whoever took over from its parent."""
    with contextlib.suppress(ProcessLookupError):
        return os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE
    return False


async def gone_with_all(group: int) -> None:
    async def is_gone() -> bool:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, 0)
            return not [each for each in psutil.process_iter(["status"]) if lives_in(each, group)]
        return True

    await until(is_gone)


@pytest.mark.parametrize(
    ("how", "type_", "message"),
    [
        ("error", "ValueError", "as asked"),
        ("no pickle", "NoPickleError", "does not pickle"),
        ("exit", "SystemExit", "3"),
        ("interrupt", "KeyboardInterrupt", ""),
        ("stop", "StopIteration", ""),
        ("deep", "RecursionError", "maximum recursion depth"),
        ("memory", "MemoryError", ""),
        ("object", "result-not-json", "the result is not JSON"),
        ("large", "result-too-large", "more than the limit of 5000"),
        ("again", "Again", "the task asked"),
        ("fail", "gave-up", "no"),
        ("coroutine", "TypeError", "write async def"),
        ("submit", "ContextError", "context.submit() is for an async def"),
        ("session", "ContextError", "context.session() is for an async def"),
        ("progress", "ValueError", "write a number from 0"),
    ],
)
async def test_what_a_task_raises_is_described_where_it_happened(
    processes: Processes, how: str, type_: str, message: str
) -> None:
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
    monkeypatch.syspath_prepend(tmp_path / "more")
    monkeypatch.chdir(tmp_path)
    wanted = order(heavy.about)
    found = json.loads(result_of(await (await own.child()).run(wanted, Untied(), None)))
    assert (found["folder"], found["path"], found["variable"]) == (str(tmp_path), sys.path, "as here")
    assert (found["job"], found["attempt"], found["main"]) == (str(wanted.claimed.id), 1, True)
    assert found["pid"] == found["group"] != os.getpid()
    assert "printed, and kept by nobody" in capfd.readouterr().out


DEATHS: dict[str, str] = {
    "segfault": "was ended by SIGSEGV",
    "abort": "was ended by SIGABRT",
    "code 3": "ended by itself with exit code 3",
    "code 0": "ended by itself with exit code 0",
    "kill": "was ended by SIGKILL, as by the system when memory runs out",
    "nonsense": "was killed since it sent what is no message of ours",
    "fork": "ended by itself with exit code 4",
    "fork of a library": "ended by itself with exit code 6",
    "program": "ended by itself with exit code 5",
}


async def test_a_process_that_dies_ends_its_own_job_and_says_how(
    own: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All at once, so that each dies while others live."""
    monkeypatch.setattr(spawned_module, "_LOOK", 0.1)
    ends = await asyncio.gather(*(ran(own, heavy.ends, how=how, retry=Retry()) for how in DEATHS))
    groups = {}
    for (how, message), ended in zip(DEATHS.items(), ends, strict=True):
        assert isinstance(ended, Raised)
        assert ended.failure.type == "process-died"
        assert ended.failure.message.endswith(message)
        assert ended.retried
        assert ('heavy.py", line' in (ended.failure.traceback or "")) is (how in {"segfault", "abort"})
        groups[how] = int(ended.failure.message.split()[2])
    assert not own._all
    with contextlib.suppress(ProcessLookupError):
        # it has the handlers of Python, and no Python that would run them
        os.killpg(groups["fork of a library"], signal.SIGKILL)
    for group in groups.values():
        await gone_with_all(group)


@pytest.mark.parametrize(
    ("retry", "retried"), [(None, False), (Retry(on=(TimeoutError,)), False), (Retry(on=(ProcessDiedError,)), True)]
)
async def test_the_retry_of_the_task_decides_about_a_death(
    processes: Processes, retry: Retry | None, retried: bool
) -> None:
    ended = await ran(processes, heavy.ends, how="code 3", retry=retry)
    assert isinstance(ended, Raised)
    assert ended.retried is retried


async def test_of_fifty_jobs_only_the_one_that_crashes_fails(own: Processes) -> None:
    places = asyncio.Semaphore(3)

    async def one(n: int) -> Ended:
        async with places:
            return await (ran(own, heavy.ends, how="segfault") if n == 20 else ran(own, heavy.add, a=n))

    ends = await asyncio.gather(*(one(n) for n in range(50)))
    assert [n for n, ended in enumerate(ends) if ended != Returned(str(n))] == [20]
    assert len(own._all) <= 3


@pytest.mark.parametrize("how", ["sleep", "read", "lock", "asyncio", "subprocess", "talk", "miss"])
async def test_a_task_that_is_told_to_end_cleans_up_where_it_is(
    processes: Processes, said: list[logging.LogRecord], how: str
) -> None:
    running = await Running.start(processes, heavy.told, how=how)
    running.child.tell()
    running.child.tell()
    ended = await running.ended()
    assert isinstance(ended, Raised)
    assert ended.failure.type == "CancelledError"
    assert "told to end" in ended.failure.message or how == "asyncio"
    assert said[-1].getMessage() == "cleaned up: True"
    # too late: it must not hit the next one, which is in the same process
    running.child.tell()
    running.child.kill()
    assert await pid_of_next(processes) == running.pid


async def test_a_task_that_swallows_it_goes_on(processes: Processes, said: list[logging.LogRecord]) -> None:
    running = await Running.start(processes, heavy.told, how="swallow")
    running.child.tell()
    assert await running.ended() == Returned('"slept"')
    assert [each.getMessage() for each in said] == ["heard", "cleaned up: True"]


async def test_a_job_that_is_told_before_it_begins_never_does(
    processes: Processes, said: list[logging.LogRecord]
) -> None:
    child = await processes.child()
    child.tell()
    ended = await child.run(order(heavy.told), Untied(), None)
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
        child.tell()
        ended = await asyncio.wait_for(job, 10)
        assert ended == Returned(None) or (isinstance(ended, Raised) and ended.failure.type == "CancelledError")
        assert await ran(processes, heavy.add, a=yields) == Returned(str(yields))
    assert await pid_of_next(processes) == pid


async def test_a_kill_leaves_nothing_behind(own: Processes) -> None:
    running = await Running.start(own, heavy.start_sleeper)
    mine, sleeper = (int(each) for each in running.notes)
    began = time.monotonic()
    running.child.kill()
    ended = await running.ended()
    assert time.monotonic() - began < 2
    assert isinstance(ended, Raised)
    assert ended.failure.message == f"the process {mine} was killed by its node"
    assert not psutil.pid_exists(mine)  # a zombie would
    await gone(sleeper)
    assert await pid_of_next(own) != mine


async def test_a_run_that_is_cancelled_kills(own: Processes) -> None:
    running = await Running.start(own, heavy.told)
    running.job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running.job
    await gone(running.pid)


async def test_close_ends_what_runs_and_is_idempotent(own: Processes) -> None:
    before = psutil.Process().num_fds()
    left = json.loads(result_of(await ran(own, heavy.leave_behind)))
    running = await Running.start(own, heavy.told, how="poll")
    idle = await own.child()
    await asyncio.gather(own.close(), own.close())
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
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)  # dead, and the loop had no turn to hear of it
    assert await pid_of_next(own) != first
    assert not psutil.pid_exists(first)


async def test_signals_of_the_terminal_and_of_the_service_mean_nothing(processes: Processes) -> None:
    running = await Running.start(processes, heavy.told, how="swallow")
    for which in (signal.SIGINT, signal.SIGTERM) * 10:
        os.kill(running.pid, which)
    running.child.tell()
    assert await running.ended() == Returned('"slept"')
    # what it starts has them as everybody has
    assert await ran(processes, heavy.signals_of_a_child) == Returned('["default_int_handler","SIG_DFL"]')


async def test_a_large_order_does_not_block_the_loop(processes: Processes) -> None:
    child = await processes.child()
    os.kill(child._spawned._process.pid, signal.SIGSTOP)
    job = asyncio.create_task(child.run(order(heavy.length, text="x" * 2**20), Untied(), None))
    began = time.monotonic()
    for _ in range(10):
        await asyncio.sleep(0)
    assert time.monotonic() - began < 1
    assert not job.done()
    os.kill(child._spawned._process.pid, signal.SIGCONT)
    assert await asyncio.wait_for(job, 10) == Returned(str(2**20))


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
    assert {each.name for each in said} == {"a.library", "jobtrail.task.log_all"}
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
    ties, turns = Untied(), 0
    both = asyncio.gather(ran(processes, heavy.log_lines, count=5000), ran(processes, heavy.count_up, ties, to=200_000))
    while not both.done():
        await asyncio.sleep(0)
        turns += 1
    lines, counted = await both
    assert turns >= 5000
    assert (lines, counted) == (Returned("5000"), Returned(None))
    assert [each.getMessage() for each in said] == [f"line {n}" for n in range(5000)]
    assert (ties.reported[0].done, ties.reported[-1].done) == (1, 200_000)
    assert len(ties.reported) < 1000


@pytest.mark.parametrize("how", ["fork", "spawn"])
async def test_a_task_may_use_processes_of_its_own(
    processes: Processes, said: list[logging.LogRecord], how: str
) -> None:
    """Nothing that a fork says gets between the words of its parent."""
    assert await ran(processes, heavy.in_a_pool, how=how) == Returned(json.dumps([*range(20)], separators=(",", ":")))
    assert not said


async def test_a_fork_that_comes_back_from_the_task_is_not_heard(processes: Processes) -> None:
    assert result_of(await ran(processes, heavy.forks_and_returns)) == str(await pid_of_next(processes))


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
    assert "finds no task 'lost' in posixpath, support.heavy: keep it" in ended.failure.message
    assert not ended.retried


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import os; os._exit(5)", "ended by itself with exit code 5"),
        ("import time; time.sleep(60)", "was not ready after 1 s"),
    ],
)
async def test_a_process_that_cannot_come_up_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, message: str
) -> None:
    monkeypatch.setattr(processes_module, "_PATIENCE", 1.0)
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


PARENT = TOP / "tests" / "support" / "parent.py"

STARTS = {
    "a script, with its tasks in __main__": ([str(PARENT)], "__mp_main__"),
    "a module": (["-m", "support.parent"], "__mp_main__"),
    "a command, with its tasks in a module": (["{folder}/command"], "support.parent"),
    "an ASGI server": (["-m", "uvicorn", "--port", "0", "support.parent:app"], "support.parent"),
}


@asynccontextmanager
async def started(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    found = environment(PYTHONPATH=f"{TOP / 'service'}:{TOP / 'tests'}")
    parent = await asyncio.create_subprocess_exec(
        sys.executable, *command, env=found, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield parent
    finally:
        with contextlib.suppress(ProcessLookupError):
            parent.kill()
        await parent.communicate()


async def test_it_works_however_the_node_was_started_and_lets_it_end(tmp_path: Path) -> None:
    (tmp_path / "command").write_text("import sys; from support.parent import main; sys.exit(main())")

    async def printed(command: list[str]) -> str:
        async with started(*(each.format(folder=tmp_path) for each in command)) as parent:
            output, errors = await asyncio.wait_for(parent.communicate(), 30)
            assert output, errors.decode()
            return output.decode()

    outputs = await asyncio.gather(*(printed(command) for command, _ in STARTS.values()))
    for output, (_, name) in zip(outputs, STARTS.values(), strict=True):
        n, module, pid = json.loads(output)
        assert (n, module) == (42, name)
        await gone(pid)


async def test_a_script_without_the_guard_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(PARENT.read_text().replace('if __name__ == "__main__":', "if True:"))
    async with started(str(script)) as parent:
        output, _ = await asyncio.wait_for(parent.communicate(), 30)
    assert b"no process can be started" in output
    assert b"the proper idiom in the main module" in output


@pytest.mark.parametrize("how", ["wait", "fork"])
async def test_they_die_with_their_node(how: str) -> None:
    """Whether at work or idle, and also when a fork of the node holds on to what it had open."""
    async with started(str(PARENT), how) as parent:
        assert parent.stdout
        pids = [int(each) for each in (await asyncio.wait_for(parent.stdout.readline(), 30)).split()]
        parent.kill()
        try:
            await asyncio.gather(*(gone(each, within=2) for each in pids[:2]))
        finally:
            for fork in pids[2:]:
                os.kill(fork, signal.SIGKILL)
    assert len(pids) == 2 + (how == "fork")
