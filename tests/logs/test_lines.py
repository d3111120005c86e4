import json
import logging
from collections.abc import Callable
from typing import Any, Literal, NoReturn

import pytest

from jobtrail.logs import bind, configure
from jobtrail.logs.lines import OneLine

Lines = Callable[[], list[str]]
Objects = Callable[[], list[dict[str, Any]]]

log = logging.getLogger("shop.tasks")

IDS = {"trace_id": "0af7651916cd43dd8448eb211c80319c", "job_id": "0199c0de", "task": "send_mail", "attempt": 2}


class Unshowable(Exception):  # noqa: N818 — it is a value here as often as an error
    def __str__(self) -> str:
        raise RuntimeError


@pytest.fixture(params=["text", "json"])
def form(request: pytest.FixtureRequest) -> Literal["text", "json"]:
    configure(request.param, "INFO")
    return request.param


def test_a_record_in_json(objects: Objects) -> None:
    with bind(**IDS):
        log.info("sent %d", 3, extra={"address": "a@b"})
    [line] = objects()
    assert list(line) == ["time", "level", "logger", "message", "trace_id", "job_id", "task", "attempt", "address"]
    assert line == IDS | {
        "time": line["time"],
        "level": "INFO",
        "logger": "shop.tasks",
        "message": "sent 3",
        "address": "a@b",
    }


def test_a_record_in_text(lines: Lines) -> None:
    configure("text", "INFO")
    with bind(**IDS):
        log.info("sent %d", 3, extra={"address": "a@b", "subject": 'the "first"', "to": ["x"], "empty": "", "n": None})
    [line] = lines()
    time, rest = line.split(" ", 1)
    assert rest == (
        "INFO shop.tasks sent 3 trace_id=0af7651916cd43dd8448eb211c80319c job_id=0199c0de task=send_mail attempt=2"
        ' address=a@b subject="the \\"first\\"" to=["x"] empty="" n=null'
    )
    assert time.endswith("Z")


@pytest.mark.parametrize(
    ("created", "time"), [(0.0, "1970-01-01T00:00:00.000Z"), (1767225600.1239, "2026-01-01T00:00:00.123Z")]
)
def test_times_are_utc_with_milliseconds(objects: Objects, created: float, time: str) -> None:
    log.handle(logging.makeLogRecord({"created": created, "levelno": logging.INFO, "msg": "x"}))
    assert objects()[0]["time"] == time


def test_a_traceback_stays_on_the_line_of_its_record(form: str, lines: Lines) -> None:
    try:
        fail("two\nlines")
    except ValueError:
        log.exception("failed")
    [line] = lines()
    assert r"Traceback (most recent call last):\n" in line
    if form == "json":
        error = json.loads(line)["error"]
        assert (error["type"], error["message"]) == ("ValueError", "two\nlines")
        assert error["traceback"].endswith("ValueError: two\nlines")
    else:
        assert r'error="ValueError: two\nlines" traceback="Traceback' in line


def test_a_record_without_an_exception_has_no_error(objects: Objects) -> None:
    log.info("x", exc_info=True)  # noqa: LOG014 — this is what is tested
    assert "error" not in objects()[0]


def test_the_stack_is_shown_on_the_same_line(form: str, lines: Lines) -> None:
    log.info("here", stack_info=True)
    [line] = lines()
    assert "test_the_stack_is_shown_on_the_same_line" in line
    assert form == "text" or "stack" in json.loads(line)


FORGED = ["a\nb", "a\r\nb", "\x1b[31mred\x1b[0m", "a\x00b", "bell\x07", "del\x7f", "c1\x9b31m"]
FORGED += ["line\u2028", "turn\u202e", "\ud800"]


@pytest.mark.parametrize("place", ["message", "extra", "bound", "error"])
def test_nothing_in_a_text_forges_a_line_or_steers_a_terminal(form: str, lines: Lines, place: str) -> None:
    for text in FORGED:
        with bind(task=text if place == "bound" else "t"):
            log.error(
                text if place == "message" else "m",
                extra={"field": text} if place == "extra" else None,
                exc_info=ValueError(text) if place == "error" else None,
            )
    told = lines()
    assert all(line.isprintable() for line in told)
    if form == "json":
        places = {"extra": "field", "bound": "task"}
        shown = [json.loads(line) for line in told]
        assert [each["error"]["message"] if place == "error" else each[places.get(place, place)] for each in shown] == (
            FORGED
        )
    assert len(told) == len(FORGED)


def test_an_ordinary_text_is_not_escaped_in_text(lines: Lines) -> None:
    configure("text", "INFO")
    log.info(r"C:\new grüße 漢字")
    assert lines()[0].endswith(r" INFO shop.tasks C:\new grüße 漢字")


@pytest.mark.parametrize(
    ("message", "arguments", "shown"),
    [
        ("%d", ("x",), "%d ('x',) (not formatted: TypeError)"),
        ("%s %s", ("x",), "%s %s ('x',) (not formatted: TypeError)"),
        ("to %s", (Unshowable(),), "to %s (Unshowable(),) (not formatted: RuntimeError)"),
        (Unshowable(), (), "<Unshowable that cannot be shown> () (not formatted: RuntimeError)"),
    ],
)
def test_a_record_that_cannot_be_formatted_is_shown_as_it_is(
    objects: Objects, message: object, arguments: tuple[Any, ...], shown: str
) -> None:
    leave_only_our_handler()
    log.info(message, *arguments)
    assert objects()[0]["message"] == shown


def test_an_exception_whose_text_raises_is_still_told(objects: Objects) -> None:
    log.error("failed", exc_info=Unshowable())
    error = objects()[0]["error"]
    assert (error["type"], error["message"]) == ("Unshowable", "<Unshowable that cannot be shown>")


def test_extra_fields_of_any_kind_are_shown(objects: Objects) -> None:
    loop: list[Any] = []
    loop.append(loop)
    values = {
        "flag": True,
        "nothing": None,
        "nested": {"a": [1, 2.5]},
        "nan": float("nan"),
        "data": b"x",
        "huge": 10**5000,
        "round": loop,
        "bad": Unshowable(),
        "within": [Unshowable()],
        "keys": {(1, 2): 3},
    }
    log.info("x", extra=values)
    [line] = objects()
    assert {name: line[name] for name in values} == {
        "flag": True,
        "nothing": None,
        "nested": {"a": [1, 2.5]},
        "nan": "nan",
        "data": "b'x'",
        "huge": "<int that cannot be shown>",
        "round": ["<list>"],
        "bad": "<Unshowable that cannot be shown>",
        "within": ["<Unshowable that cannot be shown>"],
        "keys": {"(1, 2)": 3},
    }


def test_an_extra_field_cannot_pose_as_one_of_ours(objects: Objects) -> None:
    log.info("x", extra={"level": "fake", "time": "fake", "logger": "fake", "error": "fake"})
    [line] = objects()
    assert (line["level"], line["logger"], line["extra_level"], line["extra_error"]) == (
        "INFO",
        "shop.tasks",
        "fake",
        "fake",
    )


def test_a_line_break_at_the_end_of_a_message_is_dropped(objects: Objects) -> None:
    log.info("Exception in ASGI application\n")
    assert objects()[0]["message"] == "Exception in ASGI application"


def fail(message: str) -> NoReturn:
    raise ValueError(message)


def leave_only_our_handler() -> None:
    """Those of pytest raise, as the standard library's formatters do."""
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if isinstance(handler.formatter, OneLine)]
