"""Child side of the channel to the node: sends progress and log records, receives the cancel request."""

import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, NoReturn
from uuid import UUID

from jobtrail.errors import ContextError
from jobtrail.logs import words_of
from jobtrail.task.context import Progress
from jobtrail.task.storable import clip
from jobtrail.worker.processes.messages import ChildLine, Order, Reported, Said

_EVERY: Final = 0.1
"""Seconds between two words about progress: a task may say it in its innermost loop."""

_LONGEST: Final = 64 * 1024
_PLAIN: Final = (type(None), bool, int, float, str)


class ChildRuntime:
    """One order. `hears`: the task's own code is running, and may be interrupted once it was `told` to end."""

    def __init__(self, order: Order, line: ChildLine) -> None:
        self.order: Final = order
        self.told = False
        self.hears = False
        self._line = line
        self._lock = threading.RLock()
        self._latest: Progress | None = None
        self._closed = False
        self._next = 0.0

    @property
    def cancelled(self) -> bool:
        return self.told

    def report(self, progress: Progress) -> None:
        with self._lock:
            self._latest = None if self._closed else progress
            if time.monotonic() >= self._next:
                self.flush()

    def flush(self) -> None:
        """Send the last progress, if that was not done yet."""
        with self._lock:
            if self._latest is not None:
                latest, self._latest = self._latest, None
                self._next = time.monotonic() + _EVERY
                self._line.send(Reported(latest))

    def close(self) -> None:
        """Send what is left, and drop what threads of the task report from now on."""
        with self._lock:
            self.flush()
            self._closed = True

    def submit(self, *_: object) -> Awaitable[UUID]:
        self._refuse("submit")

    def session(self) -> Awaitable[Any]:
        self._refuse("session")

    def _refuse(self, name: str) -> NoReturn:
        raise ContextError(
            f"context.{name}() is for an async def, on the loop of the node: {self.order.claimed.task!r} runs in a "
            "process; do it in an async def that submits this task for the heavy part, or return what is to be done"
        )


class ToNode(logging.Handler):
    """Sends records to the node, which handles them as its own. `current` gives what is running."""

    def __init__(self, line: ChildLine, current: Callable[[], ChildRuntime | None]) -> None:
        super().__init__()
        self._line = line
        self._current = current

    def emit(self, record: logging.LogRecord) -> None:
        if self._current() is None or self._line.is_cut:
            _tell_standard_error(record)
            return
        try:
            said = Said(_portable(record))
        except Exception:  # noqa: BLE001 - what a task hands to a logger may fail in any way
            self.handleError(record)
        else:
            self._line.send(said)


def _tell_standard_error(record: logging.LogRecord) -> None:
    """From a thread that outlived its job, or a fork: it is nobody's line any more."""
    last = logging.lastResort
    if last is not None and record.levelno >= last.level:
        last.handle(record)


def _portable(record: logging.LogRecord) -> dict[str, Any]:
    """Its fields as plain values; what was raised is in the message."""
    kept = {
        name: value
        for name, value in vars(record).items()
        if name not in {"msg", "args", "exc_info", "exc_text", "stack_info"}
    }
    return {name: _plain(value) for name, value in kept.items()} | {
        "msg": clip(words_of(record), _LONGEST),
        "args": None,
    }


def _plain(value: object) -> Any:
    return value if type(value) in _PLAIN else json.loads(json.dumps(value, default=str))
