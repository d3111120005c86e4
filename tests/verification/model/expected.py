"""What a job should be: the rules of its life once more, in memory, in other words than the statements use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from uuid import UUID

from jobtrail.status import Status

PAST: Final = "past"
FUTURE: Final = "future"
DAY: Final = 86_400


class Move(NamedTuple):
    """One row of the history, but for its times."""

    seq: int
    attempt: int
    before: str | None
    after: str
    actor: str
    node: UUID | None
    reason: str | None
    error: Any


class End(NamedTuple):
    """How an attempt ended; `ours` when its node said so, and not rescue or psql."""

    node: UUID | None
    status: str
    error: Any
    ours: bool


@dataclass
class Expected:
    """One job. `ttl` in seconds, None keeps the row; `since` orders what is due, 0 is not due; `given` are fences.
    `edges`: those of the jobs that it comes `after` for which it waits. `parked`: no claim may take it for them.
    """

    id: UUID
    created_by: str
    queue: str
    priority: int
    max_attempts: int
    ttl: float | None
    since: int
    key: str | None = None
    unique: str | None = None
    after: Sequence[UUID] = ()
    edges: set[UUID] = field(default_factory=set)
    parked: bool = False
    tags: Sequence[str] = ()
    status: Status = Status.PENDING
    attempt: int = 0
    node: UUID | None = None
    result: Any = None
    error: Any = None
    progress: Any = None
    cancel: tuple[str, str | None] | None = None
    silent: bool | None = None
    expiry: str | None = None
    gone: bool = False
    history: list[Move] = field(default_factory=list)
    given: list[tuple[UUID, int]] = field(default_factory=list)
    ends: dict[int, End] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.history.append(Move(1, 0, None, Status.PENDING, self.created_by, None, "submitted", None))

    def holds(self, node: UUID, attempt: int) -> bool:
        return (self.status, self.node, self.attempt) == (Status.RUNNING, node, attempt) and not self.gone

    def claim(self, node: UUID) -> None:
        self.attempt += 1
        self.max_attempts = max(self.max_attempts, self.attempt)
        self.node, self.silent, self.error, self.progress = node, False, None, None
        self.given.append((node, self.attempt))
        self._move(Status.RUNNING, "node", "claimed")

    def finish(self, to: Status, reason: str, *, result: Any = None, error: Any = None, more: int = 0) -> None:
        """By the attempt that holds it."""
        asked = self.cancel is not None
        if to is Status.PENDING and asked:
            to = Status.CANCELLED
        actor = "node"
        if to is Status.CANCELLED and self.cancel is not None:
            actor, reason = self.cancel[0], self.cancel[1] or reason
        self.result, self.error = result, error
        self.max_attempts += more
        self._end(to, actor, reason, ours=True)

    def rescue(self, actor: str) -> None:
        to = Status.PENDING if self.attempt < self.max_attempts else Status.FAILED
        reason = "rescued"
        if self.cancel is not None:
            to, actor, reason = Status.CANCELLED, self.cancel[0], self.cancel[1] or reason
        said = f"the node {self.node} that ran attempt {self.attempt} went silent"
        self.error = {"type": "lost", "traceback": None, "attempt": self.attempt, "message": said}
        self._end(to, actor, reason, ours=False)

    def ask_to_stop(self, by: str, reason: str | None) -> None:
        """A cancel of a pending or a running job."""
        self.cancel = self.cancel or (by, reason)
        if self.status is Status.PENDING:
            self.expiry = self._expiry()
            self._move(Status.CANCELLED, by, reason or "cancelled")

    def allow_one_more(self, now: int) -> None:
        self.max_attempts = max(self.max_attempts, self.attempt + 1)
        self.since, self.progress = now, None

    def retry(self, by: str, now: int) -> None:
        self.allow_one_more(now)
        ran = self.node
        self.result = self.error = self.node = self.cancel = self.expiry = None
        self._move(Status.PENDING, by, "retried by hand", node=ran)

    def release(self, by: str, now: int) -> None:
        self.parked, self.since = False, self.since and now
        self._move(Status.PENDING, by, "after: all succeeded")

    def change(self, by: str) -> None:
        """Only of a pending job is it a move."""
        if self.status is Status.PENDING:
            self._move(Status.PENDING, by, "changed")

    def move_in_sql(self, to: Status, user: str, changed: Mapping[str, Any]) -> None:
        """Somebody writes the row anew in psql."""
        ran, was = self.node, self.status
        for name, value in changed.items():
            setattr(self, name, value)
        if was is Status.RUNNING:
            self.ends[self.attempt] = End(ran, to, self.error, ours=False)
        self.silent, self.expiry = None, self._expiry() if to.is_terminal else None
        self._move(to, user, "sql", node=ran, error=self.error if was is Status.RUNNING else None)

    def purge(self, by: str) -> None:
        self._record("purged", by, "expired", self.node, None)
        self.gone = True

    def keep_for(self, ttl: float | None) -> None:
        self.ttl = ttl if ttl is None or self.key is None else max(ttl, DAY)
        if self.status.is_terminal:
            self.expiry = self._expiry()

    def was_ended_by(self, node: UUID, attempt: int, status: Status, error: Any) -> bool:
        """Whether the history has this very end already: a repeat after a lost answer is told so."""
        end = self.ends.get(attempt)
        if end is None or not end.ours or (end.node, end.error) != (node, error):
            return False
        if end.status == Status.CANCELLED:
            return status in (Status.CANCELLED, Status.PENDING)
        return end.status == status

    def _end(self, to: Status, actor: str, reason: str, *, ours: bool) -> None:
        self.ends[self.attempt] = End(self.node, to, self.error, ours)
        ran, self.silent = self.node, None
        if to is Status.PENDING or not ours:
            self.node = None
        self.expiry = self._expiry() if to.is_terminal else None
        self._move(to, actor, reason, node=ran, error=self.error)

    def _expiry(self) -> str | None:
        return None if self.ttl is None else PAST if self.ttl == 0 else FUTURE

    def _move(self, to: Status, actor: str, reason: str, *, node: UUID | None = None, error: Any = None) -> None:
        self._record(to, actor, reason, node or self.node, error)
        self.status = to

    def _record(self, to: str, actor: str, reason: str, node: UUID | None, error: Any) -> None:
        last = self.history[-1]
        self.history.append(Move(last.seq + 1, self.attempt, last.after, to, actor, node, reason, error))
