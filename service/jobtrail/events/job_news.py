"""News of single jobs: their transitions, progress and log lines, after a place, of any number of jobs at once.

A job's own history needs no feed: `seq` is given under the lock of its row, so none can come late.
"""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, Self
from uuid import UUID

from jobtrail.db.direct import Statement
from jobtrail.db.engine import Database
from jobtrail.db.errors import unavailable
from jobtrail.errors import JobNotFoundError
from jobtrail.jobs.services import Services
from jobtrail.records import LogLine, Transition
from jobtrail.status import PURGED, Status
from jobtrail.task.context import progress_of
from jobtrail.task.job_events import JobEvent

_MOST: Final = 200
"""Transitions, and lines, of one job that are read at once."""


@dataclass(frozen=True, slots=True)
class JobPlace:
    """How far a reader of a job has come: after the transition `seq`, which was of the attempt `known`, and after the
    line `number` of an `attempt`. `progress`: what was said last, with its attempt.
    """

    job_id: UUID
    seq: int = 0
    known: int = 0
    attempt: int = 0
    number: int = 0
    progress: tuple[int, str] | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return f"{self.seq}.{self.known}.{self.attempt}.{self.number}"

    @classmethod
    def read(cls, job_id: UUID, said: str) -> Self | None:
        """None for what is no place."""
        if not _PLACE.fullmatch(said):
            return None
        seq, known, attempt, number = map(int, said.split("."))
        return cls(job_id, seq, known, attempt, number)


_PLACE: Final = re.compile(r"\d{1,9}(\.\d{1,9}){3}", re.ASCII)


class JobNews(NamedTuple):
    """`following`: the place after them. `is_over`: the job has ended, and there is no more."""

    items: Sequence[JobEvent]
    following: JobPlace
    is_over: bool


_MOVES: Final = Statement(f"""
SELECT u.n, t.job_id, t.seq, t.attempt, t.from_status, t.to_status, t.at, t.actor, t.node_id, t.reason,
       CAST(t.error AS text), t.trace_id, t.task
  FROM unnest(CAST(:ids AS uuid[]), CAST(:seqs AS int[])) WITH ORDINALITY AS u(id, seq, n)
 CROSS JOIN LATERAL (
       SELECT * FROM jobtrail.transitions WHERE job_id = u.id AND seq > u.seq ORDER BY seq LIMIT {_MOST + 1}) t
 ORDER BY u.n, t.seq
""")

_LINES: Final = Statement(f"""
SELECT u.n, l.attempt, l.number, l.at, l.level, l.logger, l.message
  FROM unnest(CAST(:ids AS uuid[]), CAST(:attempts AS int[]), CAST(:numbers AS int[])) WITH ORDINALITY
       AS u(id, attempt, number, n)
 CROSS JOIN LATERAL (
       SELECT * FROM jobtrail.log_lines WHERE job_id = u.id AND (attempt, number) > (u.attempt, u.number)
        ORDER BY attempt, number LIMIT {_MOST + 1}) l
 ORDER BY u.n, l.attempt, l.number
""")

_PROGRESS: Final = Statement("""
SELECT u.n, p.attempt, p.progress FROM unnest(CAST(:ids AS uuid[])) WITH ORDINALITY AS u(id, n)
 CROSS JOIN LATERAL (
       SELECT attempt, CAST(progress AS text) AS progress FROM jobtrail.jobs
        WHERE id = u.id AND progress IS NOT NULL LIMIT 1) p
""")


_FIND: Final = Statement("""
SELECT t.seq, t.to_status,
       coalesce((SELECT created_by FROM jobtrail.jobs WHERE id = :id),
                (SELECT actor FROM jobtrail.transitions WHERE job_id = :id AND seq = 1))
  FROM jobtrail.transitions t WHERE t.job_id = :id ORDER BY t.seq DESC LIMIT 1
""")


class Known(NamedTuple):
    """The last transition of a job: its number, and whether the job ended with it."""

    seq: int
    is_end: bool


async def find(services: Services, job_id: UUID, *, only_of: str | None = None) -> Known:
    """Where the history of a job ends now, also of one that was purged. Raises JobNotFoundError, UnavailableError."""
    with unavailable():
        rows = await services.database.fetch(_FIND, id=job_id)
    if not rows or only_of not in (None, rows[0][2]):
        raise JobNotFoundError(job_id)
    return Known(rows[0][0], _is_end(rows[0][1]))


async def look(database: Database, places: Sequence[JobPlace]) -> Sequence[JobNews]:
    """What is new after each place; nothing, where nothing is. Raises as `Database.fetch`."""
    ids = [each.job_id for each in places]
    moves = await database.fetch(_MOVES, ids=ids, seqs=[each.seq for each in places])
    # after the transitions: the lines of an attempt are all there before its end is
    lines = await database.fetch(
        _LINES, ids=ids, attempts=[each.attempt for each in places], numbers=[each.number for each in places]
    )
    progress = await database.fetch(_PROGRESS, ids=ids)
    found = defaultdict[int, list[Any]](list)
    for n, *row in moves:
        error = row[9]
        row[9] = None if error is None else json.loads(error)
        found[n].append(Transition(*row))
    for n, attempt, *row in lines:
        found[n].append(LogLine(attempt, *row))
    for n, attempt, text in progress:
        found[n].append((attempt, text))
    return [_news(place, found[n]) for n, place in enumerate(places, 1)]


def _news(place: JobPlace, found: Sequence[Any]) -> JobNews:
    moves = [each for each in found if isinstance(each, Transition)]
    lines = [each for each in found if isinstance(each, LogLine)]
    # one more than that tells that there are more
    cuts = [_turn_of_move(moves[_MOST - 1])] if len(moves) > _MOST else []
    cuts += [(lines[_MOST - 1].attempt, 1, lines[_MOST - 1].number)] if len(lines) > _MOST else []
    known = moves[-1].attempt if moves else place.known
    # what was said after the look at the transitions comes with the next one
    kept: list[tuple[tuple[int, int, int], Any]] = [(_turn_of_move(each), each) for each in moves]
    kept += [((each.attempt, 1, each.number), each) for each in lines if each.attempt <= known]
    kept += [((each[0], 2, 0), each) for each in found if isinstance(each, tuple) and each[0] <= known]
    if cuts:
        kept = [each for each in kept if each[0] <= min(cuts)]
    items = list[JobEvent]()
    for _, each in sorted(kept, key=lambda pair: pair[0]):
        place = _add(items, place, each)
    last = next((each.data for each in reversed(items) if each.kind == "transition"), None)
    is_over = isinstance(last, Transition) and _is_end(last.to_status) and not cuts
    return JobNews(items, place, is_over)


def _turn_of_move(move: Transition) -> tuple[int, int, int]:
    """An attempt begins before all that it says, and all else of it comes after."""
    return move.attempt, 0 if move.to_status == Status.RUNNING else 3, move.seq


def _add(items: list[JobEvent], place: JobPlace, each: Any) -> JobPlace:
    match each:
        case Transition():
            place = replace(place, seq=each.seq, known=each.attempt)
            items.append(JobEvent("transition", place.job_id, each.attempt, each, str(place)))
        case LogLine():
            place = replace(place, attempt=each.attempt, number=each.number)
            items.append(JobEvent("log", place.job_id, each.attempt, each))
        case _:
            attempt, text = each
            said = progress_of(json.loads(text))
            if place.progress != (attempt, text) and said is not None:
                items.append(JobEvent("progress", place.job_id, attempt, said))
            place = replace(place, progress=(attempt, text))
    return place


def _is_end(status: str) -> bool:
    return status == PURGED or Status(status).is_terminal
