"""What the jobs of a node say while they run, written for all of them together: at most two writes a second.

Progress is one fenced update, lines are one insert. What a job says last goes with its end, or just before.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from jobtrail.db.engine import Database
from jobtrail.db.errors import Fault, fault_of, reason
from jobtrail.db.group_commit import GroupCommit
from jobtrail.jobs.log import NewLine, add_lines, trim
from jobtrail.jobs.renew import AttemptRef, report
from jobtrail.worker.periodic import Loop
from jobtrail.worker.report import Report

log = logging.getLogger(__name__)

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
        opened = Report(held)
        self._open.add(opened)
        return opened

    async def close(self, closed: Report) -> str | None:
        """Hear no more of it, and write its last lines; its last progress as JSON text, if that is not written yet.

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
        news = closed.news()
        return None if news is None else news[1].progress

    async def _tick(self) -> None:
        await self._write_progress()
        await asyncio.gather(*(self._write_lines(each) for each in self._open if each.waiting))
        await self._trim()

    async def _write_progress(self) -> None:
        told = [(each, *news) for each in self._open if (news := each.news()) is not None]
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
