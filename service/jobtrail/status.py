"""The state machine of a job, whole on one page. The table `jobtrail.jobs` enforces the same in PostgreSQL."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Status(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL


TERMINAL: Final = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)

MOVES: Final[Mapping[Status, frozenset[Status]]] = {
    # pending → pending: somebody changed it before it began
    Status.PENDING: frozenset({Status.PENDING, Status.RUNNING, Status.CANCELLED}),
    Status.RUNNING: frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.PENDING}),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset({Status.PENDING}),
    Status.CANCELLED: frozenset({Status.PENDING}),
}

PURGED: Final = "purged"
"""`to_status` in the history of a row that is gone; not a status, since no row has it."""


def is_legal(before: Status, after: Status) -> bool:
    return after in MOVES[before]


def moved_to(said: str) -> str:
    """The status that a job can move to, or purged, by its name. Raises ValueError."""
    if said not in (*Status, PURGED):
        raise ValueError(f"{said!r:.60} is no status: write {', '.join(Status)} or {PURGED}")
    return said
