"""What is in the database, in the words of the model; and what must be true of any history, whatever the model says."""

import itertools
import json
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from jobtrail.status import MOVES, PURGED, TERMINAL, Status
from model.expected import Expected, Move
from support.world import Place

_ROWS: Final = """
SELECT id, created_by, queue, priority, max_attempts, idempotency_key AS key, after, tags, status, attempt,
       node_id AS node, result::text, error::text, progress::text, cancel_requested_by AS by, cancel_reason AS why, seq,
       lease_until < clock_timestamp() AS silent, run_at <= clock_timestamp() AS due,
       CASE WHEN expires_at <= clock_timestamp() THEN 'past' WHEN expires_at IS NOT NULL THEN 'future' END AS expiry
  FROM jobtrail.jobs
"""

_MOVES: Final = """
SELECT job_id, seq, attempt, from_status, to_status, actor, node_id, reason, error::text
  FROM jobtrail.transitions ORDER BY job_id, seq
"""


def said_of(job: Expected) -> dict[str, Any]:
    """The row as `rows` would find it."""
    names = ("id", "created_by", "queue", "priority", "max_attempts", "key", "attempt", "node")
    by, why = job.cancel or (None, None)
    return {
        **{name: getattr(job, name) for name in names},
        "after": list(job.after) or None,
        "tags": list(job.tags),
        "status": job.status.value,
        "result": job.result,
        "error": job.error,
        "progress": job.progress,
        "by": by,
        "why": why,
        "seq": job.history[-1].seq,
        "silent": job.silent,
        "due": None if job.parked else bool(job.since),
        "expiry": job.expiry,
    }


async def rows(place: Place) -> dict[UUID, dict[str, Any]]:
    return {row["id"]: {name: _parsed(name, value) for name, value in row.items()} for row in await place.rows(_ROWS)}


async def histories(place: Place) -> dict[UUID, list[Move]]:
    found: dict[UUID, list[Move]] = {}
    for row in await place.rows(_MOVES):
        job_id, *said, error = row.values()
        found.setdefault(job_id, []).append(Move(*said, _parsed("error", error)))
    return found


def is_lawful(history: Sequence[Move]) -> bool:
    """Gapless, each move legal, the attempts rise by one with each start, and each life ends at most once."""
    first = history[0]
    assert (first.seq, first.attempt, first.before, first.after) == (1, 0, None, Status.PENDING), first
    for last, move in itertools.pairwise(history):
        assert (move.seq, move.before) == (last.seq + 1, last.after), (last, move)
        assert move.attempt == last.attempt + (move.after == Status.RUNNING), (last, move)
        if move.after == PURGED:
            assert move.before in TERMINAL, move
        else:
            assert Status(move.after) in MOVES[Status(last.after)], (last, move)
    lives = [list(life) for _, life in itertools.groupby(history, key=_Lives())]
    assert all(sum(move.after in TERMINAL for move in life) <= 1 for life in lives), history
    return True


class _Lives:
    """Counts them: a new one begins where somebody retries a job that had ended."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, move: Move) -> int:
        self.count += move.before in TERMINAL and move.after == Status.PENDING
        return self.count


def _parsed(name: str, value: Any) -> Any:
    return json.loads(value) if name in ("result", "error", "progress") and value is not None else value
