"""The context of a running job: its ids, its progress, its session, and the way to submit another job."""

import logging
from collections.abc import Awaitable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import UUID

from jobtrail.records import Claimed
from jobtrail.task.checkpoint import checkpoint_to_json
from jobtrail.task.storable import visible

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from jobtrail.task.task import Task


TASK_LOGGER: Final = "jobtrail.task"
"""The logger above those of all `context.log`."""

MAX_NOTE: Final = 500
_MOST: Final = 10**15
"""Beyond it a double no longer tells one from the next."""


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total`, in whatever unit the task counts; `total` None when it does not know; `note` for people.

    Raises TypeError or ValueError for what cannot be shown; a longer note than 500 characters is cut.
    """

    done: float
    total: float | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        _refuse_other("done", self.done)
        if self.total is not None:
            _refuse_other("total", self.total)
        if self.note is not None and not isinstance(self.note, str):
            raise TypeError(f"progress(note={self.note!r:.60}): write a text")

    def as_json(self) -> dict[str, Any]:
        """In a form that the database can hold."""
        note = None if self.note is None else visible(self.note[:MAX_NOTE])
        return {"done": self.done, "total": self.total, "note": note}


def progress_of(found: object) -> Progress | None:
    """The progress of a row, or None for anything else, which was written there in SQL."""
    if not isinstance(found, Mapping):
        return None
    try:
        return Progress(found.get("done"), found.get("total"), found.get("note"))  # type: ignore[arg-type] # it looks
    except (TypeError, ValueError):
        return None


def _refuse_other(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"progress({name}={value!r:.60}): write a number")
    if not 0 <= value <= _MOST:  # NaN is neither
        raise ValueError(f"progress({name}={value!r:.60}): write a number from 0 to 10^15")


def _refuse_other_cost(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"charge({value!r:.60}): write a number")
    if not 0 <= value <= _MOST:
        raise ValueError(f"charge({value!r:.60}): write a number from 0 to 10^15")


class JobRuntime(Protocol):
    """The node of a running job as its context sees it, on the loop, in a thread or in a process."""

    @property
    def cancelled(self) -> bool:
        """True once the task was asked to end."""

    def report(self, progress: Progress) -> None:
        """Keep it for the next write; the one before is forgotten if it was not written yet."""

    def submit(self, parent: "JobContext", task: "Task[..., Any]", args: dict[str, Any]) -> Awaitable[UUID]:
        """Store a job whose parent is the running one: same trace, `created_by` names the parent."""

    def session(self) -> Awaitable["AsyncSession"]:
        """The session that commits with the end of the attempt."""

    def checkpoint(self, value: str) -> Awaitable[None]:
        """Store a JSON text as the cursor of the job. Where no loop runs it blocks, and the answer is done."""

    def charge(self, cost: float) -> Awaitable[None]:
        """Book the cost of the attempt to its rates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext:
    """Optional first parameter of a task: the running job and the way to the node.

    `attempt` counts from 1. `idempotency_token` is the same in every attempt of the job: pass it to a service that can
    tell a repeat. `log` writes lines that carry the job's ids, as every logger does while the job runs. The last 1,000
    of these lines, or 256 KiB of them, are kept with the job. `cursor` is the last checkpoint of the attempts before
    this one; None where there is none.
    """

    job_id: UUID
    attempt: int
    trace_id: str
    task: str
    log: logging.Logger = field(repr=False)
    runtime: JobRuntime = field(repr=False)
    cursor: Any = None

    @classmethod
    def of(cls, claimed: Claimed, runtime: JobRuntime) -> "JobContext":
        log = logging.getLogger(f"{TASK_LOGGER}.{claimed.task}")
        # logging.config disables existing loggers by default; the log of a job is kept all the same
        log.disabled = False
        return cls(
            job_id=claimed.id,
            attempt=claimed.attempt,
            trace_id=claimed.trace_id,
            task=claimed.task,
            log=log,
            runtime=runtime,
            cursor=claimed.cursor,
        )

    @property
    def idempotency_token(self) -> str:
        return str(self.job_id)

    def token(self, name: str) -> str:
        """A token for one of several effects of the job, the same in every attempt."""
        return f"{self.job_id}:{name}"

    @property
    def cancelled(self) -> bool:
        """True once the job was asked to end: by a cancel, its timeout, or the end of its node.

        An `async def` and a `def` in a process also get a CancelledError where they are; a `def` in a thread has to
        look here. After a grace, a task that goes on is left behind, or killed if it runs in a process.
        """
        return self.runtime.cancelled

    def progress(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """Say how far the job has come. Never awaited; written at most twice a second, and the last one always.

        Raises TypeError, ValueError for what is no number or no text.
        """
        self.runtime.report(Progress(done, total, note))

    def submit(self, task: "Task[..., Any]", /, *args: Any, **kwargs: Any) -> Awaitable[UUID]:
        """Store another job, committed once this was awaited; its id. It inherits the trace, its parent is this job.

        Raises InvalidArgumentsError when the arguments do not fit the signature of the task, and ContextError in a
        `def`, which cannot await.
        """
        return self.runtime.submit(self, task, task.signature.dump(*args, **kwargs))

    def session(self) -> Awaitable["AsyncSession"]:
        """A database session whose writes commit together with `succeeded`, or not at all. One for each attempt.

        The node commits it; `commit()` raises. Do the slow work first: PostgreSQL ends it when it is idle for longer
        than the lease. Raises ContextError in a `def`, which cannot await.
        """
        return self.runtime.session()

    def checkpoint(self, value: Any) -> Awaitable[None]:
        """Store how far the job has come: the `cursor` of its next attempt. It is stored when this returns.

        Await it in an `async def`; a `def` calls it without, and it blocks. `value` is at most 64 KiB of JSON, and is
        the place where the next attempt goes on, not the work itself. With it the task says that what follows may run
        again. So a node that shuts down gives the job back, and the attempt does not count: after its grace, or at the
        next checkpoint, which then ends with a CancelledError.

        Raises CheckpointError for what is not JSON or too large, and ContextError once the attempt is over, or while
        its job session is open.
        """
        return self.runtime.checkpoint(checkpoint_to_json(value))

    def charge(self, cost: float) -> Awaitable[None]:
        """Say what this attempt really costs its `Rate`, where the cost came from an argument; again with a newer sum.

        What was taken too much is given back to the time when it was taken; what is missing is taken now. Booked when
        it was awaited, whatever becomes of the job. Raises TypeError, ValueError for what is no number from 0 on, and
        ContextError where the task has no such rate, or in a `def`, which cannot await.
        """
        _refuse_other_cost(cost)
        return self.runtime.charge(cost)


class Done:
    """Awaitable that has nothing to wait for, so that a `def` need not await it and other code may."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()
