import asyncio
import contextvars
import logging
import logging.config
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from jobtrail.ids import new_job_id
from jobtrail.logs import attach, configure, detach, keep_with, words_of
from jobtrail.records import Claimed
from jobtrail.status import Status
from jobtrail.task.context import TASK_LOGGER, JobContext
from support import world
from support.contexts import Untied
from support.world import Place

log = logging.getLogger("shop.tasks")
words = logging.getLogger(f"{TASK_LOGGER}.send_mail")

Lines = Callable[[], list[str]]


class Shown(logging.Handler):
    def __init__(self, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def collect(sink: Callable[[logging.LogRecord], object]) -> Iterator[None]:
    keep_with(sink)
    try:
        yield
    finally:
        keep_with(None)


def said_within(act: Callable[[], object]) -> list[str]:
    records: list[logging.LogRecord] = []

    def run() -> None:
        keep_with(records.append)
        act()

    contextvars.copy_context().run(run)
    return [record.getMessage() for record in records]


@pytest.mark.usefixtures("bare")
def test_jobs_do_not_hear_each_other() -> None:
    async def job(name: str, both: asyncio.Barrier) -> list[str]:
        records: list[logging.LogRecord] = []
        with collect(records.append):
            await both.wait()
            log.warning(name)
            await asyncio.to_thread(log.warning, f"{name} in a thread")
            thread = threading.Thread(target=contextvars.copy_context().run, args=(log.warning, f"{name} in another"))
            thread.start()
            thread.join()
        log.warning("after")
        return [record.getMessage() for record in records]

    async def two() -> list[list[str]]:
        both = asyncio.Barrier(2)
        return await asyncio.gather(job("a", both), job("b", both))

    assert asyncio.run(two()) == [[each, f"{each} in a thread", f"{each} in another"] for each in "ab"]


@pytest.mark.usefixtures("bare")
def test_lines_of_the_service_are_not_the_job_s() -> None:
    theirs = ["shop", "root", "jobtrailer", "jobtrail.task", words.name, "jobtrail.task.dots.in.its.name"]
    for name in (*theirs, "jobtrail", "jobtrail.worker.attempt", "jobtrail.tasks"):
        logger = logging.getLogger(name)
        # as a process for tasks makes it, or another library for logs
        made = logging.makeLogRecord({"name": name, "levelno": logging.INFO, "msg": "y"})
        said = said_within(lambda: (logger.warning("x"), logger.handle(made)))  # noqa: B023 - it is called at once
        assert said == (["x", "y"] if name in theirs else [])


@pytest.mark.parametrize(
    ("level", "kept"),
    [
        (logging.WARNING, ["info", "warning"]),
        (logging.INFO, ["info", "warning"]),
        (logging.DEBUG, ["debug", "info", "warning"]),
    ],
)
def test_the_context_s_log_is_kept_from_info_on_and_shown_by_the_level_of_the_process(
    bare: logging.Logger, level: int, kept: list[str]
) -> None:
    shown, picky = Shown(), Shown(logging.ERROR)
    bare.addHandler(shown)
    bare.addHandler(picky)
    bare.setLevel(level)

    def speak() -> None:
        words.debug("debug")
        words.info("info")
        words.warning("warning")

    assert said_within(speak) == kept
    assert shown.messages == [each for each in ("debug", "info", "warning") if getattr(logging, each.upper()) >= level]
    assert picky.messages == []


@pytest.mark.parametrize("name", [TASK_LOGGER, words.name])
def test_a_level_that_somebody_chose_counts(bare: logging.Logger, name: str) -> None:
    shown = Shown()
    bare.addHandler(shown)
    logging.getLogger(name).setLevel(logging.DEBUG)
    assert said_within(lambda: words.debug("x")) == ["x"]
    logging.getLogger(name).setLevel(logging.ERROR)
    assert said_within(lambda: words.warning("x")) == []
    assert shown.messages == ["x"]


@pytest.mark.parametrize("name", ["jobtrail", TASK_LOGGER])
def test_a_host_that_keeps_our_lines_to_itself(bare: logging.Logger, name: str) -> None:
    mine, root = Shown(), Shown()
    ours = logging.getLogger(name)
    ours.addHandler(mine)
    ours.propagate = False
    bare.addHandler(root)
    assert said_within(lambda: words.warning("x")) == ["x"]
    assert (mine.messages, root.messages) == (["x"], [])


def test_where_nothing_is_configured_warnings_are_still_printed(bare: logging.Logger, lines: Lines) -> None:
    bare.handlers.clear()
    log.info("quiet")
    log.warning("loud")
    said_within(lambda: words.info("quiet too"))
    said_within(lambda: words.warning("loud too"))
    said_within(lambda: log.warning("loud as well"))
    words.warning("loud from a thread that goes on")
    detach(bare)
    words.info("quiet from there")
    words.warning("loud from a node that stopped")
    loud = ["loud", "loud too", "loud as well", "loud from a thread that goes on", "loud from a node that stopped"]
    assert lines() == loud


def test_where_something_is_configured_nothing_is_printed_twice(bare: logging.Logger, lines: Lines) -> None:
    bare.handlers.clear()
    shown = Shown()
    log.addHandler(shown)
    said_within(lambda: log.warning("by the logger's own handler"))
    log.removeHandler(shown)
    bare.addHandler(shown)
    said_within(lambda: log.warning("by the root's"))
    said_within(lambda: words.warning("a task's"))
    assert (len(shown.messages), lines()) == (3, [])


@pytest.mark.usefixtures("bare")
def test_a_job_within_a_job_is_kept_once() -> None:
    def inner() -> None:
        assert said_within(lambda: (log.warning("x"), words.info("x"))) == ["x", "x"]
        log.warning("y")
        words.info("y")

    assert said_within(inner) == ["y", "y"]


KEEPING = {"version": 1, "disable_existing_loggers": False, "root": {"level": "ERROR"}}
OURS_TOO = {**KEEPING, "loggers": {"jobtrail": {"level": "INFO"}}}


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    "configured",
    [
        lambda: logging.config.dictConfig(KEEPING),
        lambda: logging.config.dictConfig(OURS_TOO),
        lambda: logging.basicConfig(level="ERROR", force=True),
        lambda: configure("text", "ERROR"),
    ],
)
def test_logging_may_be_configured_anew_between_jobs(configured: Callable[[], None], lines: Lines) -> None:
    said_within(lambda: None)
    configured()
    assert said_within(lambda: (log.error("x"), words.warning("y"))) == ["x", "y"]
    assert len([line for line in lines() if line.endswith("x")]) == 1


@pytest.mark.usefixtures("bare")
def test_a_job_s_log_is_kept_though_the_host_disabled_what_was_there() -> None:
    """As logging.config does with every logger that it does not know."""
    claimed = Claimed(new_job_id(), 1, "disabled", {}, "trace", 1, None, "ann")
    logging.getLogger(f"{TASK_LOGGER}.disabled").disabled = True
    assert said_within(lambda: JobContext.of(claimed, Untied()).log.info("x")) == ["x"]


def test_a_sink_that_raises_breaks_nothing(bare: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Shown()
    bare.addHandler(shown)

    def sink(_record: logging.LogRecord) -> None:
        raise RuntimeError("no room")

    with collect(sink):
        log.warning("one")
        words.warning("two")
    assert shown.messages == ["one", "two"]
    assert capsys.readouterr().err.count("RuntimeError: no room") == 2


@pytest.mark.usefixtures("bare")
def test_a_sink_may_be_told_of_what_it_logs_itself() -> None:
    """Some argument's text may log in its turn."""

    class Chatty:
        def __str__(self) -> str:
            log.warning("inner")
            return "chatty"

    told: list[str] = []

    def sink(record: logging.LogRecord) -> None:
        told.append(words_of(record))

    with collect(sink):
        log.warning("%s", Chatty())
    assert told[-1] == "chatty"
    assert "inner" in told


def test_jobs_that_come_and_go_in_many_threads(bare: logging.Logger) -> None:
    heard = [0] * 8

    def work(number: int) -> None:
        def sink(_record: logging.LogRecord) -> None:
            heard[number] += 1

        for _ in range(200):
            with collect(sink):
                log.warning("x")
                words.warning("x")

    shown = Shown()
    bare.addHandler(shown)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert heard == [400] * 8
    assert len(shown.messages) == 8 * 400


def test_the_handlers_stay_until_the_last_node_stops(bare: logging.Logger) -> None:
    first, second = object(), object()
    bare.handlers.clear()
    for node in (first, second):
        attach(node)
    [ours] = bare.handlers
    detach(first)
    assert bare.handlers == [ours]
    detach(second)
    detach(second)
    assert bare.handlers == []


def whole() -> dict[str, Any]:
    """All that a host could have made or could look at, but for our own logger of the tasks."""
    manager = logging.Logger.manager
    loggers = [logging.getLogger(), *(each for each in manager.loggerDict.values() if isinstance(each, logging.Logger))]
    return {
        "loggers": {
            each.name: (list(each.handlers), each.level, each.propagate, each.disabled, list(each.filters))
            for each in loggers
            if not each.name.startswith(TASK_LOGGER)
        },
        "others": (logging.lastResort, logging.getLogRecordFactory(), logging.getLoggerClass(), manager.disable),
        "calls": (logging.Logger.callHandlers, logging.Logger.handle, logging.Logger.makeRecord),
    }


async def test_a_node_adds_one_handler_while_it_runs_and_changes_nothing_else(place: Place) -> None:
    services = world.services_at(place)
    before = whole()
    async with world.node_at(services, place):
        [ours] = set(logging.getLogger().handlers) - set(before["loggers"]["root"][0])
        job = await world.submitted(services, "hold")
        await world.reached(services, job.id, Status.RUNNING)
        during = whole()
        during["loggers"]["root"][0].remove(ours)
    await world.ended(services, job.id)
    for then in (during, whole()):
        assert {name: then["loggers"][name] for name in before["loggers"]} == before["loggers"]
        assert {**then, "loggers": None} == {**before, "loggers": None}
