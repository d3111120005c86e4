"""Progress and log lines of the jobs of a node, written for all of them together: at most two writes a second.

Progress is one fenced update, lines are one insert. The last progress goes with the outcome, the last lines before.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from jobtrail.db.engine import Database
from jobtrail.db.errors import Fault, fault_of, reason
from jobtrail.db.group_commit import GroupCommit
from jobtrail.db.loop import Loop
from jobtrail.jobs.fence import AttemptRef
from jobtrail.jobs.log import NewLine, add_lines, trim
from jobtrail.jobs.progress import NewProgress, report
from jobtrail.logs import words_of
from jobtrail.ranges import LOG_BYTES, LOG_LINE_BYTES, LOG_LINES
from jobtrail.task.context import Progress
from jobtrail.task.storable import clip, dump

log = logging.getLogger(__name__)


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
        """Take no more: whatever still runs of the task is no longer the job's."""
        with self._lock:
            self._open = False

    @property
    def waiting(self) -> int:
        """Number of lines that are not written."""
        return len(self._lines)

    def news(self) -> tuple[Progress, NewProgress] | None:
        """The progress that is not written yet, if there is one."""
        said = self._said
        if said is None or said == self._written:
            return None
        return said, NewProgress(self.held.id, self.held.attempt, dump(said.as_json()))

    def progress_is_written(self, progress: Progress) -> None:
        self._written = progress

    def lines(self) -> list[NewLine]:
        """The lines that are not written, oldest first; they stay until they are."""
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
        """Keeps no more than the limits of a job's log, however long the database is away."""
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


__all__ = ["Report", "Reports"]

_PATIENCE: Final = 2.0
"""Seconds that an end waits for the last lines of its attempt, should the database be away."""

_OVERHEAD: Final = 200
"""Bytes of a line beside its message, about."""


class Reports:
    """`every`: seconds between two writes, at least."""

    def __init__(self, database: Database, node_id: UUID, *, every: float = 0.5) -> None:
        self._database = database
        self._node_id = node_id
        self._open: set[Report] = set()
        self._untrimmed: set[UUID] = set()
        self._lines: GroupCommit[Sequence[NewLine], None] = GroupCommit(self._add, weigh=_weigh, patience=_PATIENCE)
        # the pauses of a loop vary by a tenth
        self.loop: Final = Loop("reports", self._tick, every=every / 0.9)

    def open(self, held: AttemptRef) -> Report:
        """Callable from any thread."""
        opened = Report(held)
        self._open.add(opened)
        return opened

    def forget(self, closed: Report) -> None:
        self._open.discard(closed)

    async def close(self, closed: Report) -> None:
        """Hear no more of it, and write its last lines.

        Lines for which the database has no answer within two seconds are dropped, and the log says how many.
        """
        closed.close()
        try:
            if closed.waiting:
                await asyncio.wait_for(self._write_lines(closed), _PATIENCE)
        except Exception as error:  # the end of the attempt is worth more than its last words
            lost = closed.waiting, closed.held.id, reason(error)
            log.warning("jobtrail: the last %d lines of the log of job %s were not stored: %s", *lost)
            log.debug("jobtrail: lines were not stored", exc_info=error)
        finally:
            self._open.discard(closed)

    async def _tick(self) -> None:
        await self._write_progress()
        await asyncio.gather(*(self._write_lines(each) for each in list(self._open) if each.waiting))
        await self._trim()

    async def _write_progress(self) -> None:
        told = [(each, *news) for each in list(self._open) if (news := each.news()) is not None]
        if not told:
            return
        async with self._database.autocommit() as connection:
            written = await report(connection, [said for _, _, said in told], node=self._node_id)
        for each, progress, _ in told:
            if each.held in written:
                each.progress_is_written(progress)

    async def _write_lines(self, spoken: Report) -> None:
        lines = spoken.lines()
        if not lines:  # it was closed meanwhile
            return
        try:
            await self._lines.put(lines)
        except Exception as error:
            if fault_of(error) is not Fault.DATA:
                raise
            lost = len(lines), spoken.held.id, reason(error)
            log.warning("jobtrail: %d lines of the log of job %s cannot be stored: %s", *lost)
            log.debug("jobtrail: lines cannot be stored", exc_info=error)
        spoken.lines_are_written(lines[-1].number)
        if spoken.needs_trim():
            spoken.is_trimmed()
            self._untrimmed.add(spoken.held.id)

    async def _add(self, said: Sequence[Sequence[NewLine]]) -> Sequence[None]:
        """All in one statement. What is no longer ours is not written, and forgotten."""
        async with self._database.autocommit() as connection:
            await add_lines(connection, [line for lines in said for line in lines], node=self._node_id)
        return [None] * len(said)

    async def _trim(self) -> None:
        if ids := frozenset(self._untrimmed):
            async with self._database.autocommit() as connection:
                await trim(connection, ids)
            self._untrimmed -= ids


def _weigh(lines: Sequence[NewLine]) -> int:
    return sum(len(line.message) + _OVERHEAD for line in lines)
