import json
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jobtrail.logs import configure
from jobtrail.task.context import TASK_LOGGER

Lines = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    names = (None, "uvicorn", "uvicorn.error", "uvicorn.access")
    loggers = [logging.getLogger(name) for name in names]
    before = [(list(logger.handlers), logger.level, logger.propagate) for logger in loggers]
    showwarning = warnings.showwarning
    yield
    logging.captureWarnings(capture=False)
    warnings.showwarning = showwarning
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    return lambda: capsys.readouterr().err.split("\n")[:-1]


@pytest.fixture
def objects(lines: Lines) -> Callable[[], list[dict[str, Any]]]:
    configure("json", "INFO")
    return lambda: [json.loads(line) for line in lines()]


@pytest.fixture
def bare() -> Iterator[logging.Logger]:
    """The root logger of a process in which nobody configured logging, but for pytest's own handlers."""
    names = (None, "jobtrail", TASK_LOGGER, f"{TASK_LOGGER}.send_mail", "shop.tasks")
    loggers = [logging.getLogger(name) for name in names]
    before = [(each, list(each.handlers), each.level, each.propagate) for each in loggers]
    for logger, *_ in before:
        logger.handlers[:] = []
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
    loggers[0].setLevel(logging.WARNING)
    yield loggers[0]
    for logger, handlers, level, propagate in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate
