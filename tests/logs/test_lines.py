"""One line for each record: the ids on it, both forms, what is hidden, and what cannot be shown."""

import asyncio
import contextvars
import json
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple
from uuid import UUID

import pytest
import uvicorn
from pydantic import BaseModel, Field

from jobtrail.logs import bind, configure, current
from jobtrail.logs.lines import OneLine

Lines = Callable[[], list[str]]
Objects = Callable[[], list[dict[str, Any]]]
Form = Literal["text", "json"]

log = logging.getLogger("shop.tasks")

IDS: dict[str, Any] = {"trace_id": "0af7651916cd43dd", "job_id": "0199c0de", "task": "send_mail", "attempt": 2}


class Unshowable(Exception):  # noqa: N818 — it is a value here as often as an error
    def __str__(self) -> str:
        raise RuntimeError


@pytest.fixture(params=["text", "json"])
def form(request: pytest.FixtureRequest) -> Form:
    configure(request.param, "INFO")
    return request.param


def test_bound_fields_nest_and_end_with_their_block_also_when_it_fails(objects: Objects) -> None:
    with bind(trace_id="t"):
        with suppress(KeyError), bind(job_id="1", attempt=1):
            log.info("inner")
            assert dict(current()) == {"trace_id": "t", "job_id": "1", "attempt": 1}
            raise KeyError
        log.info("outer", extra={"trace_id": "other"})
    log.info("outside")
    base = {"time", "level", "logger", "message"}
    assert [{name: line[name] for name in line.keys() - base} for line in objects()] == [
        {"trace_id": "t", "job_id": "1", "attempt": 1},
        {"trace_id": "other"},
        {},
    ]


async def test_each_task_of_the_loop_has_its_own_fields_and_its_threads_have_them_too(objects: Objects) -> None:
    both = asyncio.Barrier(2)

    async def work(job: str) -> None:
        with bind(job_id=job):
            await both.wait()
            log.info(job)
            await asyncio.to_thread(log.info, job)
            thread = threading.Thread(target=contextvars.copy_context().run, args=(log.info, job))
            thread.start()
            thread.join()

    await asyncio.gather(work("1"), work("2"))
    told = [(line["message"], line["job_id"]) for line in objects()]
    assert sorted(told) == [("1", "1")] * 3 + [("2", "2")] * 3


def test_configuring_again_replaces_plain_handlers_and_leaves_those_of_others(
    lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger().addHandler(logging.StreamHandler(sys.stderr))
    configure("text", "INFO")
    configure("json", "WARNING")
    for logger in (log, logging.getLogger("uvicorn.access"), logging.getLogger("jobtrail.worker")):
        logger.info("quiet")
        logger.warning("loud")
    assert [json.loads(line)["level"] for line in lines()] == ["WARNING"] * 3
    assert "loud" in caplog.text


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


def test_a_record_in_json(objects: Objects) -> None:
    with bind(**IDS):
        log.info("sent %d\n", 3, extra={"address": "a@b"}, exc_info=True)  # noqa: LOG014 — there is no exception
    [line] = objects()
    ours = {"time": line["time"], "level": "INFO", "logger": "shop.tasks", "message": "sent 3"}
    assert list(line.items()) == list((ours | IDS | {"address": "a@b"}).items())


def test_a_record_in_text(lines: Lines) -> None:
    configure("text", "INFO")
    with bind(**IDS):
        log.info("sent %d", 3, extra={"address": "a@b", "subject": 'the "first"', "to": ["x"], "empty": "", "n": None})
    log.info(r"C:\new grüße 漢字")
    line, plain = lines()
    assert line.split(" ", 1)[1] == (
        "INFO shop.tasks sent 3 trace_id=0af7651916cd43dd job_id=0199c0de task=send_mail attempt=2"
        ' address=a@b subject="the \\"first\\"" to=["x"] empty="" n=null'
    )
    assert plain.endswith(r" INFO shop.tasks C:\new grüße 漢字")


@pytest.mark.parametrize(
    ("created", "time"), [(0.0, "1970-01-01T00:00:00.000Z"), (1767225600.1239, "2026-01-01T00:00:00.123Z")]
)
def test_times_are_utc_with_milliseconds(objects: Objects, created: float, time: str) -> None:
    log.handle(logging.makeLogRecord({"created": created, "levelno": logging.INFO, "msg": "x"}))
    assert objects()[0]["time"] == time


def test_a_traceback_and_a_stack_stay_on_the_line_of_their_record(form: Form, lines: Lines) -> None:
    try:
        raise ValueError("two\nlines")  # noqa: TRY301 - it is to have a traceback
    except ValueError:
        log.exception("failed", stack_info=True)
    [line] = lines()
    assert r"Traceback (most recent call last):\n" in line
    assert "in test_a_traceback_and_a_stack_stay" in line.partition("stack")[2]
    if form == "json":
        error = json.loads(line)["error"]
        assert (error["type"], error["message"]) == ("ValueError", "two\nlines")
        assert error["traceback"].endswith("ValueError: two\nlines")
    else:
        assert r'error="ValueError: two\nlines" traceback="Traceback' in line


FORGED = ["a\nb", "a\r\nb", "\x1b[31mred\x1b[0m", "a\x00b", "bell\x07", "del\x7f", "c1\x9b31m"]
FORGED += ["line\u2028", "turn\u202e", "\ud800"]


@pytest.mark.parametrize("place", ["message", "extra", "bound", "error"])
def test_nothing_in_a_text_forges_a_line_or_steers_a_terminal(form: Form, lines: Lines, place: str) -> None:
    for text in FORGED:
        with bind(task=text if place == "bound" else "t"):
            log.error(
                text if place == "message" else "m",
                extra={"field": text} if place == "extra" else None,
                exc_info=ValueError(text) if place == "error" else None,
            )
    told = lines()
    assert len(told) == len(FORGED)
    assert all(line.isprintable() for line in told)
    if form == "json":
        name = {"extra": "field", "bound": "task"}.get(place, place)
        shown = [json.loads(line)[name] for line in told]
        assert [each["message"] if place == "error" else each for each in shown] == FORGED


@pytest.mark.parametrize(
    ("message", "arguments", "shown"),
    [
        ("%d", ("x",), "%d ('x',) (not formatted: TypeError)"),
        ("to %s", (Unshowable(),), "to %s (Unshowable(),) (not formatted: RuntimeError)"),
        (Unshowable(), (), "<Unshowable that cannot be shown> () (not formatted: RuntimeError)"),
    ],
)
def test_a_record_that_cannot_be_formatted_is_shown_as_it_is(
    objects: Objects, message: object, arguments: tuple[Any, ...], shown: str
) -> None:
    root = logging.getLogger()
    # those of pytest raise, as the standard library's formatters do
    root.handlers[:] = [each for each in root.handlers if isinstance(each.formatter, OneLine)]
    log.info(message, *arguments)
    log.error("failed", exc_info=Unshowable())
    said, failed = objects()
    assert said["message"] == shown
    assert (failed["error"]["type"], failed["error"]["message"]) == ("Unshowable", "<Unshowable that cannot be shown>")


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, True),
        (None, None),
        ({"a": [1, 2.5]}, {"a": [1, 2.5]}),
        (float("nan"), "nan"),
        (b"x", "b'x'"),
        (10**5000, "<int that cannot be shown>"),
        (LOOP, ["<list>"]),
        ([Unshowable()], ["<Unshowable that cannot be shown>"]),
        ({(1, 2): 3}, {"(1, 2)": 3}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_extra_fields_of_any_kind_are_shown(objects: Objects, value: object, shown: object) -> None:
    log.info("x", extra={"value": value, "level": "fake", "error": "fake"})
    [line] = objects()
    assert line["value"] == shown
    assert (line["level"], line["extra_level"], line["extra_error"]) == ("INFO", "fake", "fake")


@dataclass
class Account:
    user: str
    password: str
    left_out: str = field(default="left", repr=False)


class Row(NamedTuple):
    user: str
    password: str


class Model(BaseModel):
    user: str
    password: str
    more: Any = None
    left_out: str = Field(default="left", repr=False)
    excluded: str = Field(default="left", exclude=True)


ANN: dict[str, Any] = {"user": "ann", "password": "x-secret"}


class Told:
    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text


class Bearing(Told):
    def __init__(self, password: str) -> None:
        super().__init__(password)
        self._password = password


class Failing(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError


@pytest.mark.parametrize(
    "extra",
    [
        {"password": "x-secret"},
        {"API-Key": ["x-secret"]},
        {"account": {"user": "ann", "db_password": "x-secret"}},
        {"several": [{"token": {"a": "x-secret"}}]},
        {"keys": {(1, 2): 3, "password": "x-secret"}},
        {"keys": {("db", "password"): "x-secret"}},
        {"keys": {b"password": "x-secret", Path("x"): 1}},
        {"sets": ({"a": MappingProxyType({"password": "x-secret"})}, {1, float("nan")})},
        {"account": Account("ann", "x-secret")},
        {"account": [Row("ann", "x-secret")]},
        {"account": {"model": Model(**ANN, more=Account("bob", "x-secret"))}},
    ],
)
def test_what_is_secret_by_its_name_is_not_shown(lines: Lines, form: Form, extra: dict[str, Any]) -> None:  # noqa: ARG001
    log.info("said", extra={**extra, "n": "shown"})
    [line] = lines()
    assert ("x-secret" in line, "[redacted]" in line, "shown" in line) == (False, True, True)


def test_the_words_of_secrets_are_chosen(lines: Lines) -> None:
    configure("text", "INFO", ["iban"])
    log.info("said", extra={"IBAN": "x-hidden", "password": "x-shown"})
    [line] = lines()
    assert ("x-hidden" in line, "x-shown" in line) == (False, True)


def test_what_cannot_be_looked_through_is_a_type_and_what_a_class_leaves_out_is_left_out(objects: Objects) -> None:
    deep: Any = {"password": "x-secret"}
    for _ in range(300):
        deep = [deep]
    around: dict[str, Any] = {"password": "x-secret", "n": "shown"}
    around["again"] = [around] * 30
    values = {
        "by_its_text": Told("Client(api_key='x-secret')"),
        "by_its_attributes": Bearing("x-secret"),
        "plain": Told("Client(host='here')"),
        "id": UUID(int=7),
        "list": Failing([{"password": "x-secret"}]),
        "around": around,
        "account": Account(**ANN),
        "model": Model(**ANN),
    }
    log.info("said", extra={**values, "deep": deep})
    [line] = objects()
    assert "x-secret" not in json.dumps(line)
    hidden = {"user": "ann", "password": "[redacted]"}
    assert {name: line[name] for name in values} == {
        "by_its_text": "<Told>",
        "by_its_attributes": "<Bearing>",
        "plain": "Client(host='here')",
        "id": str(UUID(int=7)),
        "list": "<Failing>",
        "around": {"password": "[redacted]", "n": "shown", "again": ["<dict>"] * 30},
        "account": hidden,
        "model": hidden | {"more": None},
    }
