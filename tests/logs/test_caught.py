import asyncio
import contextvars
import logging
import logging.config
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jobtrail.job.context import TASK_LOGGER
from jobtrail.logs import collect, configure, words_of

log = logging.getLogger("shop.tasks")
words = logging.getLogger(f"{TASK_LOGGER}.send_mail")

Lines = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def bare() -> Iterator[logging.Logger]:
    """The root logger of a process in which nobody configured logging, but for pytest's own handlers."""
    root, ours, tasks = (logging.getLogger(name) for name in (None, "jobtrail", TASK_LOGGER))
    before = [(each, list(each.handlers), each.level, each.propagate) for each in (root, ours, tasks, words, log)]
    for logger, *_ in before:
        logger.handlers[:] = []
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
    root.setLevel(logging.WARNING)
    yield root
    for logger, handlers, level, propagate in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate


class Shown(logging.Handler):
    def __init__(self, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def said_within(act: Callable[[], object]) -> list[str]:
    records: list[logging.LogRecord] = []
    with collect(records.append):
        act()
    return [record.getMessage() for record in records]


def test_only_what_is_said_within() -> None:
    log.warning("before")
    assert said_within(lambda: log.warning("inside")) == ["inside"]
    log.warning("after")
    assert said_within(lambda: None) == []


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
        return [record.getMessage() for record in records]

    async def two() -> list[list[str]]:
        both = asyncio.Barrier(2)
        return await asyncio.gather(job("a", both), job("b", both))

    assert asyncio.run(two()) == [[each, f"{each} in a thread", f"{each} in another"] for each in "ab"]


@pytest.mark.parametrize(
    ("name", "heard"),
    [
        ("shop", True),
        ("jobtrailer", True),
        ("jobtrail.task", True),
        ("jobtrail.task.send_mail", True),
        ("jobtrail.task.dots.in.its.name", True),
        ("jobtrail.job.calls", True),
        ("jobtrail", False),
        ("jobtrail.worker.run", False),
        ("jobtrail.tasks", False),
    ],
)
def test_the_service_s_own_words_are_not_the_job_s(name: str, heard: bool) -> None:
    assert said_within(lambda: logging.getLogger(name).warning("x")) == (["x"] if heard else [])


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
    shown = Shown()
    bare.addHandler(shown)
    bare.setLevel(level)

    def speak() -> None:
        words.debug("debug")
        words.info("info")
        words.warning("warning")

    assert said_within(speak) == kept
    assert shown.messages == [each for each in ("debug", "info", "warning") if getattr(logging, each.upper()) >= level]


@pytest.mark.parametrize("name", [TASK_LOGGER, words.name])
def test_a_level_that_somebody_chose_counts(bare: logging.Logger, name: str) -> None:
    shown = Shown()
    bare.addHandler(shown)
    logging.getLogger(name).setLevel(logging.DEBUG)
    assert said_within(lambda: words.debug("x")) == ["x"]
    logging.getLogger(name).setLevel(logging.ERROR)
    assert said_within(lambda: words.warning("x")) == []
    assert shown.messages == ["x"]


def test_handlers_in_between_see_what_they_saw(bare: logging.Logger) -> None:
    above, root, picky = Shown(), Shown(), Shown(logging.ERROR)
    jobtrail = logging.getLogger("jobtrail")
    jobtrail.addHandler(above)
    bare.addHandler(root)
    bare.addHandler(picky)
    try:
        said_within(lambda: words.warning("both"))
        jobtrail.propagate = False
        said_within(lambda: words.warning("above only"))
    finally:
        jobtrail.propagate = True
        jobtrail.removeHandler(above)
    assert (above.messages, root.messages, picky.messages) == (["both", "above only"], ["both"], [])


def test_a_host_that_keeps_its_tasks_words_to_itself(bare: logging.Logger) -> None:
    mine, root = Shown(), Shown()
    tasks = logging.getLogger(TASK_LOGGER)
    tasks.addHandler(mine)
    tasks.propagate = False
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
    words.info("quiet from a thread that goes on")
    words.warning("loud from there")
    assert lines() == ["loud", "loud too", "loud as well", "loud from there"]


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


def test_a_job_within_a_job_is_caught_once() -> None:
    outer: list[logging.LogRecord] = []
    with collect(outer.append):
        assert said_within(lambda: log.warning("x")) == ["x"]
        assert said_within(lambda: words.info("x")) == ["x"]
        log.warning("y")
        words.info("y")
    assert [record.getMessage() for record in outer] == ["y", "y"]


KEEPING = {"version": 1, "disable_existing_loggers": False, "root": {"level": "ERROR"}}

OURS_TOO = {**KEEPING, "loggers": {"jobtrail": {"level": "INFO"}}}


@pytest.mark.parametrize("moment", ["before", "while"])
@pytest.mark.parametrize(
    "configured",
    [
        lambda: logging.config.dictConfig(KEEPING),
        lambda: logging.config.dictConfig(OURS_TOO),
        lambda: logging.basicConfig(level="ERROR", force=True),
        logging.getLogger().handlers.clear,
        lambda: configure("text", "ERROR"),
    ],
)
def test_logging_may_be_configured_anew(configured: Callable[[], None], moment: str, lines: Lines) -> None:
    said_within(lambda: None)
    if moment == "before":
        configured()

    def speak() -> None:
        if moment == "while":
            configured()
        log.error("x")
        words.warning("y")

    assert said_within(speak) == ["x", "y"]
    assert len([line for line in lines() if line.endswith("x")]) == 1


def test_a_level_of_the_service_hides_what_the_job_keeps(lines: Lines) -> None:
    configure("text", "WARNING")
    assert said_within(lambda: words.info("kept")) == ["kept"]
    assert lines() == []


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


def test_a_record_from_elsewhere_is_caught_too() -> None:
    """As it comes from a process that ran the task: made there, handled here."""
    record: Any = logging.makeLogRecord({"name": words.name, "levelno": logging.INFO, "msg": "from a child"})
    assert said_within(lambda: words.handle(record)) == ["from a child"]
