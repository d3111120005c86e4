"""What a task may know of its own run, and do from it."""

import logging
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

if TYPE_CHECKING:
    from jobtrail.job.task import Task


class SubmitFromJob(Protocol):
    """Stores a job whose parent is the running one: same trace, `created_by` names the parent."""

    def __call__(self, parent: "JobContext", task: "Task[..., Any]", args: dict[str, Any]) -> Awaitable[UUID]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JobContext:
    """First parameter of a task that wants to know its job; a task without it takes none.

    `attempt` counts from 1. `idempotency_token` is the same in every attempt of the job: hand it to whoever can tell
    a repeat. `log` writes lines that carry the job's ids, as every logger does while the job runs.
    """

    job_id: UUID
    attempt: int
    trace_id: str
    task: str
    log: logging.Logger = field(repr=False)
    submitter: SubmitFromJob = field(repr=False)

    @property
    def idempotency_token(self) -> str:
        return str(self.job_id)

    def token(self, name: str) -> str:
        """A token for one of several effects of the job, the same in every attempt."""
        return f"{self.job_id}:{name}"

    async def submit(self, task: "Task[..., Any]", /, *args: Any, **kwargs: Any) -> UUID:
        """Store another job, committed when this returns; its id. It inherits the trace and names this job as parent.

        Raises InvalidArgumentsError when the arguments do not fit the signature of the task.
        """
        return await self.submitter(self, task, task.signature.dump(*args, **kwargs))
