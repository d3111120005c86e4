"""The logging of a host is as the host made it: without jobs, while they run, and after them."""

import asyncio
import contextvars
import logging
import logging.config
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from jobtrail.job.context import TASK_LOGGER, JobContext
from jobtrail.job.ids import new_job_id
from jobtrail.job.record import Claimed
from jobtrail.logs import collect
from support import house
from support.contexts import Untied
from support.database import Place

log = logging.getLogger("shop.tasks")


@pytest.fixture
def bare() -> Iterator[logging.Logger]:
    """The root logger of a process in which nobody configured logging, but for pytest's own handlers."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.setLevel(logging.WARNING)
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def whole() -> dict[str, Any]:
    """All that a host could have made or could look at, but for our own logger of the tasks."""
    manager = logging.Logger.manager
    loggers = [logging.getLogger(), *(each for each in manager.loggerDict.values() if isinstance(each, logging.Logger))]
    return {
        "loggers": {
            each.name: (
                list(each.handlers),
                each.level,
                each.propagate,
                each.disabled,
                list(each.filters),
                each.hasHandlers(),
            )
            for each in loggers
            if not each.name.startswith(TASK_LOGGER)
        },
        "lastResort": (logging.lastResort, logging.lastResort.level if logging.lastResort else None),
        "others": (logging.getLogRecordFactory(), logging.getLoggerClass(), manager.disable, logging.raiseExceptions),
        "calls": (
            logging.Logger.callHandlers,
            logging.Logger.handle,
            logging.Logger.makeRecord,
            logging.Handler.handle,
        ),
    }


async def test_a_node_leaves_everything_as_it_was(place: Place) -> None:
    services = house.services_at(place)
    before = whole()
    handlers = logging.getLogger().handlers
    async with house.node_at(services, place):
        assert whole()["loggers"].items() >= before["loggers"].items()
        job = await house.submitted(services, "hold")
        await house.reached(services, job.id, house.Status.RUNNING)
        during = whole()
        assert logging.getLogger().parent is not None, "nothing is caught: nothing was proved"
    await house.ended(services, job.id)
    after = whole()
    for then in (during, after):
        assert {name: then["loggers"][name] for name in before["loggers"]} == before["loggers"]
        assert {**then, "loggers": None} == {**before, "loggers": None}
    assert logging.getLogger().handlers is handlers
    assert logging.getLogger().parent is None


@pytest.mark.parametrize("moment", ["before", "while"])
def test_a_host_may_configure_logging_after_its_jobs_began(
    bare: logging.Logger, moment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bare.handlers.clear()
    records: list[logging.LogRecord] = []
    with collect(records.append):
        if moment == "while":
            assert not log.hasHandlers()
            logging.basicConfig(level="INFO", format="%(levelname)s|%(message)s")
            log.info("one")
    if moment == "before":
        logging.basicConfig(level="INFO", format="%(levelname)s|%(message)s")
    with collect(records.append):
        log.info("two")
    told = ["one", "two"] if moment == "while" else ["two"]
    assert [record.getMessage() for record in records] == told
    assert capsys.readouterr().err.splitlines() == [f"INFO|{each}" for each in told]
    assert len(bare.handlers) == 1


def test_the_first_word_by_the_module_configures_logging_as_ever(
    bare: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    bare.handlers.clear()
    with collect(lambda _record: None):
        logging.warning("x")  # noqa: LOG015 - as scripts do
    assert capsys.readouterr().err == "WARNING:root:x\n"
    assert len(bare.handlers) == 1


def test_what_is_caught_ends_with_the_last_job_in_whichever_order_they_end(bare: logging.Logger) -> None:
    jobs = [collect(lambda _record: None) for _ in range(3)]
    contexts = [contextvars.copy_context() for _ in jobs]
    for job, context in zip(jobs, contexts, strict=True):
        context.run(job.__enter__)
    for place, left in ((0, 2), (2, 1), (1, 0)):
        assert bare.parent is not None
        contexts[place].run(jobs[place].__exit__, None, None, None)
        assert (bare.parent is not None) is (left > 0)


def test_jobs_that_come_and_go_in_many_threads(bare: logging.Logger) -> None:
    heard = [0] * 8

    def work(number: int) -> None:
        def sink(_record: logging.LogRecord) -> None:
            heard[number] += 1

        for _ in range(200):
            with collect(sink):
                log.warning("x")

    shown = logging.NullHandler()
    bare.addHandler(shown)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == [200] * 8
    assert bare.parent is None


def test_a_job_that_was_abandoned_does_not_count_for_ever(bare: logging.Logger) -> None:
    """It is ended by the garbage collection, in whatever context that happens to run."""

    async def job() -> None:
        with collect(lambda _record: None):
            await asyncio.sleep(0)

    begun = job()
    contextvars.copy_context().run(begun.send, None)
    assert bare.parent is not None
    with pytest.raises(ValueError, match="different Context"):
        begun.close()
    assert bare.parent is None


def test_a_job_s_log_is_kept_though_the_host_disabled_what_was_there() -> None:
    """As logging.config does with every logger that it does not know."""
    claimed = Claimed(new_job_id(), 1, "disabled", {}, "trace", 1, None, "ann")
    logging.getLogger(f"{TASK_LOGGER}.disabled").disabled = True
    records: list[logging.LogRecord] = []
    with collect(records.append):
        JobContext.of(claimed, Untied()).log.info("x")
    assert [record.getMessage() for record in records] == ["x"]
