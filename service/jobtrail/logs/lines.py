"""One line for each record, in one form for our loggers, the tasks' own and uvicorn's.

A traceback is on its record's line too, with its line breaks escaped: so every line has a time and the ids of its job,
no line can be forged from the text of another, and whoever wants to read it at leisure finds it in the job's row.
"""

import json
import logging
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from jobtrail.job.redaction import NOTHING, REDACTED, Redaction
from jobtrail.logs.shown import shown_of, text_of

_BOUND: Final = ("trace_id", "job_id", "task", "attempt")
_OURS: Final = frozenset({"time", "level", "logger", "message", "error", "stack"})
_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}


class OneLine(logging.Formatter):
    """Never raises: what cannot be shown is said to be so."""

    def __init__(self, render: Callable[[Mapping[str, Any]], str], redaction: Redaction = NOTHING) -> None:
        """What the redaction hides is not shown of a record's extra fields; its message is the task's own words."""
        super().__init__()
        self._render = render
        self._redaction = redaction

    def format(self, record: logging.LogRecord) -> str:
        return self._render(_describe(record, self._redaction))


def as_json(described: Mapping[str, Any]) -> str:
    # only ASCII: no terminal, collector or locale on the way can take a line apart
    return json.dumps(described)


def as_text(described: Mapping[str, Any]) -> str:
    fields = dict(described)
    head = " ".join(_printable(fields.pop(name)) for name in ("time", "level", "logger", "message"))
    error = fields.pop("error", None)
    if error is not None:
        fields |= {"error": f"{error['type']}: {error['message']}", "traceback": error["traceback"]}
    return " ".join([head, *(f"{_printable(name)}={_value(value)}" for name, value in fields.items())])


def words_of(record: logging.LogRecord) -> str:
    """The message, and below it the traceback and the stack if it has them. Never raises."""
    parts = [_message(record)]
    if record.exc_info and record.exc_info[1] is not None:
        parts.append(_error(record.exc_info[1])["traceback"])
    elif record.exc_text:  # of a record that came from another process
        parts.append(record.exc_text)
    if record.stack_info:
        parts.append(record.stack_info)
    return "\n".join(parts)


def _describe(record: logging.LogRecord, redaction: Redaction) -> dict[str, Any]:
    """The record's fields in the order in which they are written; values are what JSON can hold."""
    time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    described: dict[str, Any] = {
        "time": f"{time}Z",
        "level": record.levelname,
        "logger": record.name,
        "message": _message(record),
    }
    extra = {name: value for name, value in record.__dict__.items() if name not in _STANDARD and isinstance(name, str)}
    for name in (*(name for name in _BOUND if name in extra), *(name for name in extra if name not in _BOUND)):
        shown = REDACTED if redaction.hides(name) else shown_of(extra[name], redaction)
        described[f"extra_{name}" if name in _OURS else name] = shown
    if record.exc_info and record.exc_info[1] is not None:
        described["error"] = _error(record.exc_info[1])
    if record.stack_info:
        described["stack"] = record.stack_info
    return described


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage().rstrip("\n")
    except Exception as error:  # noqa: BLE001 — the record belongs to a task: its mistakes must not end the job
        return f"{text_of(record.msg)} {text_of(record.args)} (not formatted: {type(error).__name__})"


def _error(error: BaseException) -> dict[str, str]:
    return {
        "type": type(error).__name__,
        "message": text_of(error),
        "traceback": "".join(traceback.format_exception(error)).rstrip("\n"),
    }


def _value(value: object) -> str:
    """Bare when that is plain to read, else as JSON."""
    if isinstance(value, str) and value and value.isprintable() and not any(mark in value for mark in ' "='):
        return value
    return _printable(json.dumps(value, ensure_ascii=False))


def _printable(text: str) -> str:
    """Line breaks, escape sequences, direction marks and the like written out: they would forge or hide text."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
