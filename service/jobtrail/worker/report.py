"""What one attempt says, as it waits to be written."""

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

from jobtrail.jobs.log import NewLine
from jobtrail.jobs.renew import AttemptRef, Said
from jobtrail.limits import LOG_BYTES, LOG_LINE_BYTES, LOG_LINES
from jobtrail.logs import words_of
from jobtrail.task.context import Progress
from jobtrail.task.storable import clip, dump

_TRIMMED_AFTER: Final = 4
"""A quarter of what is kept may lie beyond it, so that few statements look for what is too old."""


@dataclass(slots=True)
class _Amount:
    lines: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        self.lines += 1
        self.bytes += size

    def exceeds(self, part: int = 1) -> bool:
        return self.lines > LOG_LINES // part or self.bytes > LOG_BYTES // part


class Report:
    """`progress` and `line` may be called from any thread; they neither block nor raise. The rest is for `Reports`."""

    def __init__(self, held: AttemptRef) -> None:
        self.held: Final = held
        # reentrant: a garbage collection may log from within
        self._lock: Final = threading.RLock()
        self._open = True
        self._said: Progress | None = None
        self._written: Progress | None = None
        self._lines: deque[NewLine] = deque()
        self._waiting_bytes = 0
        self._last_number = 0
        self._stored = _Amount()
        self._untrimmed = _Amount()

    def progress(self, progress: Progress) -> None:
        if self._open:
            self._said = progress

    def line(self, record: logging.LogRecord) -> None:
        try:
            message = clip(words_of(record), LOG_LINE_BYTES)
            level, logger = clip(record.levelname, 50), clip(record.name, 200)
        except Exception:  # noqa: BLE001 - the record belongs to the task, whose mistakes must not end it
            return
        with self._lock:
            if not self._open:
                return
            self._last_number += 1
            self._append(NewLine(self.held, self._last_number, time.monotonic(), level, logger, message))

    def close(self) -> None:
        """Hear no more: whatever still runs of the task is no longer the job's."""
        with self._lock:
            self._open = False

    @property
    def waiting(self) -> int:
        """How many lines are not written."""
        return len(self._lines)

    def news(self) -> tuple[Progress, Said] | None:
        """The progress that is not written yet, if there is one."""
        said = self._said
        if said is None or said == self._written:
            return None
        return said, Said(self.held.id, self.held.attempt, dump(said.as_json()))

    def progress_is_written(self, progress: Progress) -> None:
        self._written = progress

    def lines(self) -> list[NewLine]:
        """What waits, oldest first; it waits on until it is written."""
        with self._lock:
            return list(self._lines)

    def lines_are_written(self, last: int) -> None:
        """Up to this number."""
        with self._lock:
            for _ in range(sum(line.number <= last for line in self._lines)):
                size = self._drop()
                self._stored.add(size)
                self._untrimmed.add(size)

    def needs_trim(self) -> bool:
        """Whether more is stored than is kept, and enough of it to be worth a statement; after the last line, at all.

        An attempt before this one may have filled the log.
        """
        if not self._stored.exceeds() and self.held.attempt == 1:
            return False
        return self._untrimmed.exceeds(_TRIMMED_AFTER) or (not self._open and self._untrimmed.lines > 0)

    def is_trimmed(self) -> None:
        self._untrimmed = _Amount()

    def _append(self, line: NewLine) -> None:
        """Nobody will want more than is kept in the end, however long the database is away."""
        self._lines.append(line)
        self._waiting_bytes += size_of(line)
        while len(self._lines) > LOG_LINES or self._waiting_bytes > LOG_BYTES:
            self._drop()

    def _drop(self) -> int:
        """The bytes of the oldest line, which waits no longer."""
        size = size_of(self._lines.popleft())
        self._waiting_bytes -= size
        return size


def size_of(line: NewLine) -> int:
    return len(line.message) if line.message.isascii() else len(line.message.encode())
