"""The ids of the running job, on every record that is made meanwhile."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, ContextVar
from types import MappingProxyType
from typing import Final

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
    inner = {**_fields.get(), **{name: value for name, value in given.items() if value is not None}}
    token = _fields.set(MappingProxyType(inner))
    try:
        yield
    finally:
        _fields.reset(token)


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
