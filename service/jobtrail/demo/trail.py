"""The history of all jobs as it is written: one SELECT, a line for each move, and what survived a kill or a stop."""

import asyncio
import json
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text

from jobtrail.demo.mail import Caught
from jobtrail.errors import UnavailableError
from jobtrail.jobs.services import Services

EVERY: Final = 0.2
"""Seconds between two looks."""

LATE: Final = timedelta(seconds=5)
"""How long after its time a move may be committed, and still be shown."""

# `lost` is the attempt before, where that was lost with the process of `node`, which may have signed off
_MOVES: Final = text("""
SELECT moved.job_id, moved.seq, moved.task, moved.from_status, moved.to_status, moved.attempt, moved.at, moved.reason,
       moved.error, job.result, lost.reason AS lost, node.pid,
       extract(epoch FROM moved.at - node.heartbeat_at)::float AS silent
  FROM jobtrail.transitions moved
  LEFT JOIN jobtrail.jobs job ON job.id = moved.job_id
  LEFT JOIN jobtrail.transitions lost
         ON lost.job_id = moved.job_id AND lost.attempt = moved.attempt - 1
        AND lost.from_status = 'running' AND lost.to_status = 'pending' AND lost.error ->> 'type' = 'lost'
        AND moved.to_status IN ('running', 'succeeded')
  LEFT JOIN jobtrail.transitions claim
         ON claim.job_id = lost.job_id AND claim.attempt = lost.attempt AND claim.to_status = 'running'
  LEFT JOIN jobtrail.nodes node ON node.id = claim.node_id
 WHERE moved.at >= :since
 ORDER BY moved.at, moved.job_id, moved.seq
""")


class Trail:
    """Shows a line for each move since `since`, of all jobs, in the order in which they happened."""

    def __init__(self, services: Services, show: Callable[[str], None], since: datetime) -> None:
        self._services = services
        self._show = show
        self._since = since
        self._shown: set[tuple[UUID, int]] = set()
        self._status: dict[UUID, str] = {}
        self._notes: list[tuple[datetime, str]] = []

    async def until(self, fact: Callable[[], bool]) -> None:
        while not fact():
            with suppress(UnavailableError):
                await self.look()
            await asyncio.sleep(EVERY)

    async def look(self) -> None:
        async with self._services.session() as session:
            found = (await session.execute(_MOVES, {"since": self._since})).all()
        lines, self._notes = self._notes, []
        for move in found:
            if (move.job_id, move.seq) not in self._shown:
                self._status[move.job_id] = move.to_status
                lines += [(move.at, line) for line in lines_of(move)]
        for at, line in sorted(lines, key=lambda each: each[0]):
            self._show(f"{at.astimezone().strftime('%H:%M:%S.%f')[:-3]}  {line}")
        if found:
            self._shown = {(move.job_id, move.seq) for move in found}
            self._since = max(self._since, found[-1].at - LATE)

    def have_begun(self, ids: Collection[UUID]) -> bool:
        return all(self._status.get(each, "pending") != "pending" for each in ids)

    def have_ended(self, ids: Collection[UUID]) -> bool:
        return all(self._status.get(each, "pending") not in {"pending", "running"} for each in ids)

    def note(self, mail: Caught) -> None:
        """A mail that came in now is shown among the moves."""
        how = "came again: known by its" if mail.is_repeat else "was caught, with the"
        line = f"the mail {mail.subject!a} to {mail.to!a} {how} Message-ID {mail.message_id!a}"
        self._notes.append((datetime.now(UTC), line))


def lines_of(move: Any) -> list[str]:
    """A row of the SELECT; and whether by this move a job survives the process that ran it."""
    way = f"{move.from_status or '':>9} → {move.to_status}"
    attempt = f"attempt {move.attempt}" if move.attempt else ""
    came_of_it = outcome(move.to_status, move.result, move.error, move.reason)
    lines = [f"…{str(move.job_id)[-8:]}  {move.task:<14}  {way:<21}  {attempt:<10}  {came_of_it}".rstrip()]
    if move.lost is not None:
        survived = f"survived a {'kill' if move.lost == 'rescued' else 'stop'}: {name_of(move.job_id, move.task)}"
        silent = "" if move.pid is None else f" {move.silent:.1f} s after process {move.pid} fell silent"
        if move.to_status == "succeeded":
            lines.append(f"{survived} succeeded in attempt {move.attempt}")
        else:
            lines.append(f"{survived}, attempt {move.attempt} began{silent}")
    return lines


def outcome(status: str, result: object, error: Mapping[str, Any] | None, reason: str | None, width: int = 100) -> str:
    """What came of a job, or of its last attempt, in at most `width` characters of one line.

    With JSON's own escapes: nothing that a result holds reaches the terminal as a control character.
    """
    if status == "succeeded":
        found = json.dumps(result)
    elif status == "cancelled":
        found = json.dumps(reason) if reason else ""
    else:
        found = json.dumps(f"{error['type']}: {error['message']}")[1:-1] if error else ""
    return found if len(found) <= width else f"{found[: width - 1]}…"


def name_of(job_id: UUID, task: str) -> str:
    return f"{task} …{str(job_id)[-8:]}"
