"""One line for each record, in one form for our loggers, the tasks' own and uvicorn's.

A traceback is on its record's line too, with its line breaks escaped: so every line has a time and the ids of its job,
no line can be forged from the text of another, and whoever wants to read it at leisure finds it in the job's row.
"""

import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, Literal

_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})
_fields: Final[ContextVar[Mapping[str, object]]] = ContextVar("jobtrail_log_fields", default=_NOTHING)

_BOUND: Final = ("trace_id", "job_id", "task", "attempt")
_OURS: Final = frozenset({"time", "level", "logger", "message", "error", "stack"})
_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}


def configure(format: Literal["text", "json"], level: str) -> None:  # noqa: A002 — the setting's own word
    """Every record of the process to standard error, in one form. For composition roots; start uvicorn with
    `log_config=None` afterwards, or it puts its own handlers back.
    """
    handler = _StandardError()
    handler.setFormatter(OneLine(_as_text if format == "text" else _as_json))
    handler.addFilter(BoundFields())
    root = logging.getLogger()
    for former in [each for each in root.handlers if type(each) in {logging.StreamHandler, _StandardError}]:
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
    logging.captureWarnings(capture=True)


@contextmanager
def bind(
    *, job_id: str | None = None, task: str | None = None, attempt: int | None = None, trace_id: str | None = None
) -> Iterator[None]:
    """Puts these fields on every record made within, also in threads that run in a copy of this context.

    What is None stays as it was outside.
    """
    given = {"trace_id": trace_id, "job_id": job_id, "task": task, "attempt": attempt}
    inner = {**_fields.get(), **{name: value for name, value in given.items() if value is not None}}
    token = _fields.set(MappingProxyType(inner))
    try:
        yield
    finally:
        _fields.reset(token)


def current() -> Mapping[str, object]:
    return _fields.get()


class BoundFields(logging.Filter):
    """Adds what is bound to a record, unless its `extra` says otherwise.

    A filter of a handler, because it touches nobody else's records: a record factory would be global to the process,
    and a host app or library that sets its own would end ours. A host app can add this filter to its own handlers.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in _fields.get().items():
            record.__dict__.setdefault(name, value)
        return True


class OneLine(logging.Formatter):
    """Never raises: what cannot be shown is said to be so."""

    def __init__(self, render: Callable[[Mapping[str, Any]], str]) -> None:
        super().__init__()
        self._render = render

    def format(self, record: logging.LogRecord) -> str:
        return self._render(_describe(record))


def _describe(record: logging.LogRecord) -> dict[str, Any]:
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
        described[f"extra_{name}" if name in _OURS else name] = _plain(extra[name])
    if record.exc_info and record.exc_info[1] is not None:
        described["error"] = _error(record.exc_info[1])
    if record.stack_info:
        described["stack"] = record.stack_info
    return described


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage().rstrip("\n")
    except Exception as error:  # noqa: BLE001 — the record belongs to a task: its mistakes must not end the job
        return f"{_text(record.msg)} {_text(record.args)} (not formatted: {type(error).__name__})"


def _error(error: BaseException) -> dict[str, str]:
    return {
        "type": type(error).__name__,
        "message": _text(error),
        "traceback": "".join(traceback.format_exception(error)).rstrip("\n"),
    }


def _plain(value: object) -> Any:
    if value is None or type(value) in {str, bool}:
        return value
    try:
        return json.loads(json.dumps(value, allow_nan=False, default=_text))
    except Exception:  # noqa: BLE001 — not JSON, or objects of a task that fail: their text has to do
        return _text(value)


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 — the same
        return f"<{type(value).__name__} that cannot be shown>"


def _as_json(described: Mapping[str, Any]) -> str:
    # only ASCII: no terminal, collector or locale on the way can take a line apart
    return json.dumps(described)


def _as_text(described: Mapping[str, Any]) -> str:
    fields = dict(described)
    head = " ".join(_printable(fields.pop(name)) for name in ("time", "level", "logger", "message"))
    error = fields.pop("error", None)
    if error is not None:
        fields |= {"error": f"{error['type']}: {error['message']}", "traceback": error["traceback"]}
    return " ".join([head, *(f"{_printable(name)}={_value(value)}" for name, value in fields.items())])


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


class _StandardError(logging.Handler):
    """Standard error as it is now, not as it was when logging was configured: a test or a daemon may replace it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001 — a reader that went away must not end the service
            self.handleError(record)
