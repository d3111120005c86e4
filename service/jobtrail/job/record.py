"""The records that travel between the floors: frozen, plain, without behaviour that needs a database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from jobtrail.job.status import Status


@dataclass(frozen=True, slots=True)
class Failure:
    """The error of an attempt as the row and the history keep it; texts are clipped before they come here."""

    type: str
    message: str
    traceback: str | None
    attempt: int
    cause: BaseException | None = field(default=None, compare=False, repr=False)
    """The exception itself, in the process in which it was raised; it is not stored."""

    def as_json(self) -> dict[str, Any]:
        return {"type": self.type, "message": self.message, "traceback": self.traceback, "attempt": self.attempt}


@dataclass(frozen=True, slots=True)
class AppKey:
    """A key that a developer gave to a job, of the whole app, whoever asks; and the hash of its task and arguments."""

    key: str
    request_hash: bytes


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job that was checked and may be stored. `run_at` None means now, by the database's clock.

    `ttl` is kept for a job that succeeds, `ttl_failed` for one that fails or is cancelled; None keeps the row.
    `idempotency_key` is one that a client sent and belongs to `created_by`, `request_hash` is that of the client's
    request; `app_key` is one that a developer wrote. A job has at most one of them.
    """

    id: UUID
    task: str
    args: Mapping[str, Any]
    trace_id: str
    created_by: str
    queue: str
    priority: int
    max_attempts: int
    tags: Sequence[str]
    ttl: timedelta | None
    ttl_failed: timedelta | None
    timeout: timedelta | None
    run_at: datetime | None
    args_json: str
    idempotency_key: str | None = None
    request_hash: bytes | None = None
    app_key: AppKey | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One row. Times are the database's; `ttl` is the one that counts for the row's status."""

    id: UUID
    task: str
    queue: str
    args: Mapping[str, Any]
    status: Status
    result: Any
    error: Mapping[str, Any] | None
    trace_id: str
    priority: int
    tags: Sequence[str]
    attempt: int
    max_attempts: int
    timeout: timedelta | None
    progress: Any
    run_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    ttl: timedelta | None
    expires_at: datetime | None
    cancel_requested_at: datetime | None
    cancel_reason: str | None
    created_by: str
    node_id: UUID | None
    seq: int


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How an attempt ended, as it was recorded. `status` is the job's then: pending where another attempt follows, or
    where the attempt is given back. `error` as in the row; `exception` is the task's own, or, of a task in a process,
    one that has its traceback as text. `seconds` that it took.
    """

    job_id: UUID
    task: str
    attempt: int
    trace_id: str
    status: Status
    error: Mapping[str, Any] | None
    exception: BaseException | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Claimed:
    """An attempt that this node holds: what its runner needs to know. `id` and `attempt` are the fence."""

    id: UUID
    attempt: int
    task: str
    args: Mapping[str, Any]
    trace_id: str
    max_attempts: int
    timeout: timedelta | None
    created_by: str


@dataclass(frozen=True, slots=True)
class Transition:
    """One row of a job's history; `from_status` None is the birth, `to_status` may be `purged`."""

    job_id: UUID
    seq: int
    attempt: int
    from_status: str | None
    to_status: str
    at: datetime
    actor: str
    node_id: UUID | None
    reason: str | None
    error: Mapping[str, Any] | None
    trace_id: str
    task: str


@dataclass(frozen=True, slots=True)
class LogLine:
    """What a job said: `number` counts from 1 in each attempt, and skips the lines that were not kept."""

    attempt: int
    number: int
    at: datetime
    level: str
    logger: str
    message: str


PauseKind = Literal["queue", "task"]


@dataclass(frozen=True, slots=True)
class Pause:
    """A queue or a task of which no job is started for now; what runs already goes on."""

    kind: PauseKind
    name: str
    paused_at: datetime
    paused_by: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """One process that runs jobs. `slots` by kind (loop, thread, process), `tasks` those that have one; `running` is
    counted from the jobs it holds, `left_behind` and `stale_ends` by itself.
    """

    id: UUID
    host: str
    pid: int
    version: str
    queues: Sequence[str]
    tasks: Sequence[str]
    slots: Mapping[str, int]
    started_at: datetime
    heartbeat_at: datetime
    running: int = field(default=0)
    left_behind: int = field(default=0)
    stale_ends: int = field(default=0)
    lease: timedelta = field(default=timedelta(seconds=30))
