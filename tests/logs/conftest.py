import json
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jobtrail.logs import configure

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
