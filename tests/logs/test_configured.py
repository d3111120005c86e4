import json
import logging
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn

from jobtrail.logs import configure, current

Lines = Callable[[], list[str]]
Objects = Callable[[], list[dict[str, Any]]]

log = logging.getLogger("shop.tasks")


def test_the_level_holds_for_every_logger(lines: Lines) -> None:
    configure("text", "WARNING")
    for logger in (log, logging.getLogger("uvicorn.access"), logging.getLogger("jobtrail.worker")):
        logger.info("quiet")
        logger.warning("loud")
    assert [line.split(" ")[1] for line in lines()] == ["WARNING"] * 3


def test_configuring_twice_does_not_write_twice(lines: Lines) -> None:
    configure("text", "INFO")
    configure("json", "INFO")
    log.info("once")
    [line] = lines()
    assert json.loads(line)["message"] == "once"


def test_handlers_that_others_put_on_the_root_stay(caplog: pytest.LogCaptureFixture) -> None:
    configure("text", "INFO")
    log.info("also there")
    assert "also there" in caplog.text


def test_plain_handlers_of_before_make_way(lines: Lines) -> None:
    logging.getLogger().addHandler(logging.StreamHandler(sys.stderr))
    configure("text", "INFO")
    log.info("once")
    assert len(lines()) == 1


def test_uvicorn_writes_the_same_lines(objects: Objects) -> None:
    uvicorn.Config("app:app")
    configure("json", "INFO")
    uvicorn.Config("app:app", log_config=None)
    logging.getLogger("uvicorn.error").info("Started %d", 7, extra={"color_message": "\x1b[36mStarted\x1b[0m"})
    logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', "::1:5", "GET", "/v1/jobs", "1.1", 200)
    told = objects()
    assert [line["message"] for line in told] == ["Started 7", '::1:5 - "GET /v1/jobs HTTP/1.1" 200']
    assert all(set(line) == {"time", "level", "logger", "message"} for line in told)


def test_warnings_are_lines_too(lines: Lines) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure("text", "INFO")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    [line] = lines()
    assert " WARNING py.warnings " in line
    assert "DeprecationWarning: old" in line


def test_a_reader_that_went_away_does_not_end_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def write(self, _text: str) -> None:
            raise BrokenPipeError

    configure("text", "INFO")
    monkeypatch.setattr(sys, "stderr", Closed())
    log.info("nobody reads this")
    assert current() == {}
