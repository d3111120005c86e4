"""Log lines on standard error: one for each record, with the ids of the running job on it.

All loggers, the tasks' own and uvicorn's too, have one form. A traceback is on its record's line, with its line breaks
escaped: so every line has a time and the ids of its job, and no line can be forged from the text of another. The
traceback with its line breaks is in the job's row.
"""

import dataclasses
import json
import logging
import sys
import traceback
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Context, ContextVar, Token
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import BaseModel

from jobtrail.ranges import MAX_NESTING
from jobtrail.redaction import REDACTED, WORDS, Redaction

Form = Literal["text", "json"]

_NOTHING: Final[Mapping[str, object]] = MappingProxyType({})
_fields: Final[ContextVar[Mapping[str, object]]] = ContextVar("jobtrail_log_fields", default=_NOTHING)


@contextmanager
def bind(
    *, job_id: str | None = None, task: str | None = None, attempt: int | None = None, trace_id: str | None = None
) -> Iterator[None]:
    """Put these fields on every record made within, also in threads that run in a copy of this context.

    What is None stays as it was outside.
    """
    given = {"trace_id": trace_id, "job_id": job_id, "task": task, "attempt": attempt}
    token = set_fields({name: value for name, value in given.items() if value is not None})
    try:
        yield
    finally:
        _fields.reset(token)


def set_fields(given: Mapping[str, object]) -> Token[Mapping[str, object]]:
    """Put these fields on every record made from here on in this context."""
    return _fields.set(MappingProxyType({**_fields.get(), **given}))


def bound_in(context: Context) -> Mapping[str, object]:
    """The fields that are bound in another context; callable from any thread."""
    return context.get(_fields, _NOTHING)


def current() -> Mapping[str, object]:
    return _fields.get()


class BoundFields(logging.Filter):
    """Adds the bound fields to a record, unless its `extra` says otherwise.

    A filter of a handler, because it touches no other records: a record factory would be global to the process, and a
    host or a library that sets its own would end ours. A host can add this filter to its own handlers.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in _fields.get().items():
            record.__dict__.setdefault(name, value)
        return True


_BOUND: Final = ("trace_id", "job_id", "task", "attempt")
_OURS: Final = frozenset({"time", "level", "logger", "message", "error", "stack"})
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}

_SEQUENCES: Final = (list, tuple, set, frozenset, deque)
"""Not every `Sequence`: a range, or the rows of a query, may be of any length."""


def configure(format: Form, level: str, redact: Sequence[str] = WORDS) -> None:  # noqa: A002 - the setting's own word
    """Write every record of the process to standard error, without extra fields that have one of the words `redact` in
    their names. For composition roots. Start uvicorn with `log_config=None` afterwards, or it puts its own handlers
    back.
    """
    handler = _StandardError()
    handler.setFormatter(OneLine(format, Redaction(redact)))
    handler.addFilter(BoundFields())
    root = logging.getLogger()
    root.handlers[:] = [each for each in root.handlers if type(each) not in {logging.StreamHandler, _StandardError}]
    root.addHandler(handler)
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
    logging.captureWarnings(capture=True)


def words_of(record: logging.LogRecord) -> str:
    """The message, and below it the traceback and the stack if the record has them. Never raises."""
    error = _error(record)
    # `exc_text` alone: of a record that came from another process
    return "\n".join(
        filter(None, (_message(record), error["traceback"] if error else record.exc_text, record.stack_info))
    )


class OneLine(logging.Formatter):
    """Redacts extra fields; the message is shown as it is. Never raises: a value that cannot be shown is named so."""

    def __init__(self, form: Form, redaction: Redaction) -> None:
        super().__init__()
        self._form = form
        self._redaction = redaction

    def format(self, record: logging.LogRecord) -> str:
        fields = self._fields(record)
        # only ASCII: no terminal, collector or locale on the way can take a line apart
        return json.dumps(fields) if self._form == "json" else _as_text(fields)

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """The fields of the line, in their order, as values of JSON."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields: dict[str, Any] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
        }
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD and isinstance(name, str)}
        for name, value in ({name: extra[name] for name in _BOUND if name in extra} | extra).items():
            hides = self._redaction.hides(name)
            fields[f"extra_{name}" if name in _OURS else name] = REDACTED if hides else _shown(value, self._redaction)
        if (error := _error(record)) is not None:
            fields["error"] = error
        if record.stack_info:
            fields["stack"] = record.stack_info
        return fields


class _StandardError(logging.Handler):
    """Standard error as it is now, not as it was when logging was configured: a test or a daemon may replace it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001 - a reader that went away must not end the service
            self.handleError(record)


def _as_text(fields: dict[str, Any]) -> str:
    head = " ".join(_printable(fields.pop(name)) for name in ("time", "level", "logger", "message"))
    if (error := fields.pop("error", None)) is not None:
        fields |= {"error": f"{error['type']}: {error['message']}", "traceback": error["traceback"]}
    return " ".join([head, *(f"{_printable(name)}={_quoted(value)}" for name, value in fields.items())])


def _quoted(value: object) -> str:
    """Bare when that is plain to read, else as JSON."""
    if isinstance(value, str) and value and value.isprintable() and not any(mark in value for mark in ' "='):
        return value
    return _printable(json.dumps(value, ensure_ascii=False))


def _printable(text: str) -> str:
    """Line breaks, escape sequences, direction marks and the like written out: they would forge or hide text."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage().rstrip("\n")
    except Exception as error:  # noqa: BLE001 - the record belongs to a task: its mistakes must not end the job
        return f"{_text(record.msg)} {_text(record.args)} (not formatted: {type(error).__name__})"


def _error(record: logging.LogRecord) -> dict[str, str] | None:
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return None
    return {
        "type": type(error).__name__,
        "message": _text(error),
        "traceback": "".join(traceback.format_exception(error)).rstrip("\n"),
    }


def _shown(value: object, redaction: Redaction, above: tuple[int, ...] = ()) -> Any:
    """The value as JSON, without what is a secret by its name. Never raises.

    Mappings, sequences, dataclasses and models are looked through; of anything else its text is shown, or its type
    alone if a hidden name is among its attributes or in that text. `above`: the containers that it is in.
    """
    if value is None or type(value) in {str, bool}:
        return value
    try:
        named = _named(value)
        if named is None and not isinstance(value, _SEQUENCES):
            return _leaf(value, redaction)
        if id(value) in above or len(above) >= MAX_NESTING:
            return _type_of(value)
        inner = (*above, id(value))
        if named is None:
            return [_shown(each, redaction, inner) for each in value]  # type: ignore[attr-defined]  # it is a sequence
        return {
            name: REDACTED if redaction.hides(name) else _shown(item, redaction, inner)
            for name, item in ((_text(key), item) for key, item in named.items())
        }
    except Exception:  # noqa: BLE001 - objects of a task that fail
        return _type_of(value)


def _named(value: Any) -> Mapping[Any, Any] | None:
    """Its items by name, without those that its class leaves out of its text; None where it has no such items."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, type):
        return None
    if isinstance(value, BaseModel):
        left_out = {name for name, each in type(value).model_fields.items() if each.exclude or not each.repr}
        return {name: item for name, item in value if name not in left_out}
    if dataclasses.is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value) if each.repr}
    if hasattr(type(value), "_asdict"):  # a named tuple, or a row of a query
        return dict(value._asdict())
    return None


def _leaf(value: object, redaction: Redaction) -> Any:
    if isinstance(value, str | int | float):
        try:
            return json.loads(json.dumps(value, allow_nan=False))
        except ValueError:  # NaN, or more digits than Python writes
            return _text(value)
    text = _text(value)
    hides = redaction.is_in(text) or any(map(redaction.hides, dir(value)))
    return _type_of(value) if hides else text


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - the same
        return f"<{type(value).__name__} that cannot be shown>"


def _type_of(value: object) -> str:
    return f"<{type(value).__name__}>"
