"""A host's process with Jobtrail in it: as it was meanwhile, not held up at its end, and as it was afterwards."""

import asyncio
import logging
import logging.config
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from jobtrail import Jobtrail
from jobtrail.task.task import Task
from support.host import TASKS, Host, settings_at
from support.tasks import GATE, hold, hold_in_thread, noop, sleep_long
from support.until import until
from support.world import Place


def process() -> dict[str, Any]:
    """What a process has once, and a library could change for everybody."""
    loop = asyncio.get_running_loop()
    return {
        "signals": {each: signal.getsignal(each) for each in signal.valid_signals()},
        "warnings": (list(warnings.filters), warnings.showwarning),
        "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook, sys.displayhook, sys.breakpointhook),
        "loop": (loop.get_exception_handler(), loop.get_task_factory(), loop.get_debug(), loop.slow_callback_duration),
        "policy": asyncio.get_event_loop_policy(),
        "environ": dict(os.environ),
        "path": (list(sys.path), list(sys.meta_path), list(sys.argv), os.getcwd()),  # noqa: PTH109 - as it is said
        "limits": (sys.getswitchinterval(), sys.getrecursionlimit(), threading.stack_size()),
        "logging": logging_now(),
    }


def logging_now() -> dict[str, Any]:
    loggers = [each for each in logging.Logger.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    return {
        each.name: (each.level, list(each.handlers), each.propagate, each.disabled, list(each.filters))
        for each in (logging.getLogger(), *loggers)
        if not each.name.startswith("jobtrail.task")
    } | {
        "class": logging.getLoggerClass(),
        "records": logging.getLogRecordFactory(),
        "least": logging.root.manager.disable,
    }


@contextmanager
def bare() -> Iterator[logging.Logger]:
    """As in a process in which nobody has configured logging."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers[:] = []
    root.setLevel(logging.WARNING)
    try:
        yield root
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


async def test_it_is_as_before(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a folder that nothing is imported from
    path = list(sys.path)
    trail = Jobtrail(settings_at(place.url.libpq, processes=1), tasks=TASKS)
    async with trail.lifespan():  # what comes with an import is there now
        await (await trail.submit(noop)).wait(timeout=60)
    before = process()
    assert sys.path == path
    root = logging.getLogger()
    async with trail.lifespan():
        for _ in range(2):
            [kept] = set(root.handlers) - set(before["logging"]["root"][1])  # it keeps the lines of jobs
            root.removeHandler(kept)
            assert process() == before
            root.addHandler(kept)
            await (await trail.submit(noop)).wait(timeout=60)
    assert process() == before


async def test_it_may_configure_its_logging_while_jobs_run(place: Place) -> None:
    with bare() as root:
        async with Host.at(place) as host:
            job = await host.trail.submit(hold, 30)
            await until(lambda: host.trail.list(status="running"))
            logging.basicConfig(level=logging.INFO, format="shop %(message)s", force=True)
            assert [type(each) for each in root.handlers] == [logging.StreamHandler]
            said = {"version": 1, "disable_existing_loggers": True, "root": {"handlers": [], "level": "ERROR"}}
            logging.config.dictConfig(said)
            try:
                await host.trail.cancel(job.id)
                assert await (await host.trail.submit(noop, 7)).wait(timeout=60) == {"ok": 7}
                GATE.set()
            finally:
                for each in logging.Logger.manager.loggerDict.values():
                    if isinstance(each, logging.Logger):
                        each.disabled = False
        assert (root.level, root.handlers) == (logging.ERROR, [])


@pytest.fixture(autouse=True)
def _gate() -> Iterator[None]:
    yield
    GATE.set()  # for a thread that was abandoned
    GATE.clear()


LONG = {"grace": 3600}
SHORT = {"grace": 0.6, "cancel_grace": 0.2}


@pytest.mark.parametrize(
    ("tasks", "settings", "ended"),
    [([], LONG, None), ([hold, hold_in_thread], LONG, ["succeeded"]), ([sleep_long, hold_in_thread], SHORT, ["lost"])],
    ids=["nothing", "in time", "never"],
)
async def test_jobs_that_run_are_waited_for_within_the_grace(
    place: Place, tasks: list[Task[..., Any]], settings: dict[str, float], ended: list[str] | None
) -> None:
    """No longer than they run, though the grace is an hour; and as long as the grace, where they do not end."""
    trail = Jobtrail(settings_at(place.url.libpq, **settings), tasks=TASKS)

    async def all_run() -> bool:
        return len(await trail.list(status="running")) == len(tasks)

    async with asyncio.timeout(60):
        async with trail.lifespan():
            for each in tasks:
                await trail.submit(each)
            await until(all_run)
            began = time.monotonic()
            opening = asyncio.get_running_loop().call_later(0.3 if settings is LONG else 3600, GATE.set)
        took = time.monotonic() - began
    opening.cancel()
    print(f"\nthe lifespan ended in {took:.2f} s")
    assert settings is LONG or took > 0.6
    found = "SELECT array_agg(DISTINCT coalesce(error->>'type', status)) FROM jobtrail.jobs"
    assert await place.value(found) == ended


@pytest.mark.parametrize("own_engine", [False, True])
async def test_nothing_is_left_of_it(place: Place, own_engine: bool) -> None:
    engine = create_async_engine(place.url.sqlalchemy) if own_engine else None
    trail = Jobtrail(settings_at(place.url.libpq, processes=1), tasks=TASKS, engine=engine)
    threads, tasks = set(threading.enumerate()), asyncio.all_tasks()
    backends = "SELECT array_agg(pid) FROM pg_stat_activity WHERE datname = current_database()"
    before = set(await place.value(backends))
    async with trail.lifespan():
        await (await trail.submit(noop)).wait(timeout=60)
        assert set(await place.value(backends)) > before
    assert set(threading.enumerate()) <= threads
    assert asyncio.all_tasks() <= tasks
    if engine is not None:
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        await engine.dispose()

    async def gone() -> bool:
        return set(await place.value(backends)) <= before

    await until(gone)
