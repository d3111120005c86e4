"""Errors of jobs and of the service, free of HTTP: each door translates them once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final
from uuid import UUID


@dataclass(frozen=True)
class FieldError:
    """A flaw of an input: its place, as a JSON pointer (RFC 6901), and what is wrong there.

    `names`: the names in the value at that place, at any depth, if the detail was written by the task's own code, which
    may quote their values. Redaction looks at them.
    """

    pointer: str
    detail: str
    names: frozenset[str] = field(default=frozenset(), compare=False, repr=False)

    def under(self, prefix: str) -> "FieldError":
        return replace(self, pointer=prefix + self.pointer)


class JobtrailError(Exception):
    """Base of all errors of Jobtrail. The message is for the person who can fix it."""

    flaws: Sequence[FieldError] = ()
    """Flaws of the input; empty where the input is not at fault."""


class DeclarationError(JobtrailError, TypeError):
    """A function that cannot be a task; the message names the fix."""


class SettingsError(JobtrailError):
    """A setting, or what it points at, is wrong; the message names the setting and the fix."""


class InvalidInputError(JobtrailError):
    """The input is not valid, and nothing was stored. `flaws` has at least one entry."""

    def __init__(self, flaws: Sequence[FieldError]) -> None:
        self.flaws = tuple(flaws)
        super().__init__("; ".join(f"{flaw.pointer or '/'}: {flaw.detail}" for flaw in self.flaws))

    def under(self, prefix: str) -> "InvalidInputError":
        """The same error with `prefix` before each pointer: the input was part of a larger one."""
        return type(self)([flaw.under(prefix) for flaw in self.flaws])


class InvalidArgumentsError(InvalidInputError):
    """The arguments do not fit the signature of the task."""


class NotJsonError(JobtrailError):
    """The text is not JSON (RFC 8259); `line` and `column` count from 1 and say where it stops being JSON."""

    def __init__(self, reason: str, line: int, column: int) -> None:
        self.reason: Final = reason
        self.line: Final = line
        self.column: Final = column
        super().__init__(f"not JSON: {reason} (line {line}, column {column})")


class ResultNotJsonError(JobtrailError):
    """A task returned a value that cannot be stored as JSON."""

    type: ClassVar = "result-not-json"

    def __init__(self, reason: object) -> None:
        super().__init__(f"the result is not JSON: {reason}")


class ResultTooLargeError(JobtrailError):
    """A task returned more than a result may hold; both figures in bytes of JSON text."""

    type: ClassVar = "result-too-large"

    def __init__(self, size: int, limit: int, *, at_least: bool = False) -> None:
        self.size: Final = size
        self.limit: Final = limit
        least = "at least " if at_least else ""
        super().__init__(
            f"the result is {least}{size} bytes of JSON, more than the limit of {limit}; store it elsewhere"
        )


class ContextError(JobtrailError):
    """A task used a part of its context that does not exist where it runs; the message says where it does."""


class CheckpointError(JobtrailError):
    """A task gave a checkpoint what cannot be stored; the message says why. The cursor is as it was before."""

    type: ClassVar = "invalid-checkpoint"


class JobSessionError(JobtrailError):
    """A task tried to end the transaction of its job session, which ends with the attempt."""


class CommitFailedError(JobtrailError):
    """The writes of a task through its job session were not committed, so neither was its success."""

    type: ClassVar = "commit-failed"


class NotStorableError(JobtrailError):
    """The outcome of an attempt has texts that this database can never hold, because of its encoding for example."""

    type: ClassVar = "result-not-storable"


class ProcessDiedError(JobtrailError):
    """The process of a task ended while it ran: a crash, an exit, a kill, no memory left."""

    type: ClassVar = "process-died"


class LeftBehindError(JobtrailError):
    """A task that was asked to end went on for longer than the grace; its outcome no longer counts."""

    type: ClassVar = "left-behind"


class UnknownTaskError(JobtrailError):
    """No task of that name is registered in this process."""

    def __init__(self, name: str, near: Sequence[str]) -> None:
        self.name: Final = name
        self.near: Final = tuple(near)
        super().__init__(f"no task is named {name!r}{_hint(near)}")
        self.flaws = (FieldError("/task", str(self)),)


class UnknownQueueError(JobtrailError):
    """No node serves this queue by name, no task uses it, and no job is in it."""

    def __init__(self, name: str, near: Sequence[str]) -> None:
        self.name: Final = name
        self.near: Final = tuple(near)
        known = "a queue is known once a task, a node or a job names it; is its task's module in JOBTRAIL_TASKS?"
        super().__init__(f"no queue is named {name!r}{_hint(near) or f': {known}'}")


class JobNotFoundError(JobtrailError):
    """No row has this id: it never existed, or it was purged (its history may still be there)."""

    def __init__(self, job_id: UUID) -> None:
        self.job_id: Final = job_id
        super().__init__(f"no job has the id {job_id}")


class BatchNotFoundError(JobtrailError):
    """No batch has this id: it never existed, or it was done long ago."""

    def __init__(self, batch_id: UUID) -> None:
        self.batch_id: Final = batch_id
        super().__init__(f"no batch has the id {batch_id}")


class JobConflictError(JobtrailError):
    """The job's status does not allow the verb; nothing was changed."""

    def __init__(self, job_id: UUID, status: str, verb: str, because: str | None = None) -> None:
        self.job_id: Final = job_id
        self.status: Final = status
        self.verb: Final = verb
        super().__init__(f"job {job_id} is {status} and cannot be {verb}" + (f": {because}" if because else ""))


class JobFinishedError(JobConflictError):
    """The job has succeeded or failed, so it cannot be cancelled."""


class PreconditionError(JobtrailError):
    """The row changed since the caller read it (RFC 9110, If-Match)."""


class IdempotencyKeyReusedError(JobtrailError):
    """The key belongs to a job that was submitted with another body."""

    words = "another body"

    def __init__(self, key: str, job_id: UUID) -> None:
        self.key: Final = key
        self.job_id: Final = job_id
        super().__init__(f"the idempotency key {key!r} belongs to job {job_id}, which was submitted with {self.words}")
        self.flaws = (FieldError("Idempotency-Key:", str(self)),)


class AppKeyReusedError(IdempotencyKeyReusedError):
    """The key, which a developer gave, belongs to a job of another task or with other arguments."""

    words = (
        "another task or other arguments: such a key stands for one job of the whole app, for all callers; put all "
        "that distinguishes jobs into idempotency_key="
    )


class UnavailableError(JobtrailError):
    """The database cannot be reached, or this process is shutting down; try again after `retry_after` seconds."""

    def __init__(self, reason: str, retry_after: int = 1) -> None:
        self.retry_after: Final = retry_after
        super().__init__(reason)


class OutcomeUnknownError(UnavailableError):
    """The database did not answer, and the request may have been carried out. `job_id`: the job that may be stored, if
    it was a submit; read it once the database is back.
    """

    def __init__(self, reason: str, job_id: UUID | None = None) -> None:
        self.job_id: Final = job_id
        which = "" if job_id is None else f": it is job {job_id}, if it is there"
        super().__init__(f"{reason}; it is not known whether this was done{which}")


class OverloadedError(UnavailableError):
    """Too many submits wait for the database already: this one was refused, so that those end soon."""

    def __init__(self, waiting: int) -> None:
        self.waiting: Final = waiting
        super().__init__(f"{waiting} submits are waiting for the database already")


class LimitFullError(OverloadedError):
    """A limit of the task has no room, and the task does not wait (`on_full="reject"`): nothing was stored."""

    def __init__(self, key: str, number: float, retry_after: int) -> None:
        self.key: Final = key
        self.number: Final = number
        UnavailableError.__init__(self, f"the limit {key!r} of {number:g} is full", retry_after)


class BacklogFullError(OverloadedError):
    """A queue or a limit key has as many pending jobs as it may have (`max_pending`): nothing was stored."""

    def __init__(self, place: str, most: int) -> None:
        self.place: Final = place
        UnavailableError.__init__(self, f"{place} has no room: at most {most} pending")


class UnauthorizedError(JobtrailError):
    """The access key is missing, wrong, expired or revoked; the answer does not disclose which."""


class ForbiddenError(JobtrailError):
    """The caller is known but may not do this; any one of the scopes in `needs` would allow it."""

    def __init__(self, name: str, needs: Sequence[str]) -> None:
        self.name: Final = name
        self.needs: Final = tuple(needs)
        super().__init__(f"{name} may not do this: it takes the scope {' or '.join(needs)}")


class AccessKeyNotFoundError(JobtrailError):
    """No access key has this id or prefix."""

    def __init__(self, key: str) -> None:
        self.key: Final = key
        super().__init__(f"no access key has the id or prefix {key!r:.100}; `jobtrail keys list` shows them")


class ScheduleNotFoundError(JobtrailError):
    """No schedule has this name."""

    def __init__(self, name: str) -> None:
        self.name: Final = name
        super().__init__(f"no schedule is named {name!r:.220}; `jobtrail schedules list` shows them")


class ScheduleBusyError(JobtrailError):
    """A job of the schedule has not ended, and the schedule allows one at a time."""

    def __init__(self, name: str) -> None:
        self.name: Final = name
        super().__init__(f"a job of the schedule {name} has not ended; wait for it, cancel it, or let them overlap")


class LimitNotFoundError(JobtrailError):
    """No unfinished job has this key, and nothing overrides its number."""

    def __init__(self, key: str) -> None:
        self.key: Final = key
        super().__init__(f"no unfinished job has the limit {key!r:.300}, and it has no override")


class NotRunningError(JobtrailError):
    """No Jobtrail is running in this process, or not this one; the message names the fix."""


class AlreadyRunningError(JobtrailError):
    """Another Jobtrail is running in this process: one process has one."""


class JobFailedError(JobtrailError):
    """An awaited job has failed; `type`, `message` and `traceback` are those of its last attempt."""

    def __init__(self, job_id: UUID, error_type: str, message: str, traceback: str | None) -> None:
        self.job_id: Final = job_id
        self.type: Final = error_type
        self.message: Final = message
        self.traceback: Final = traceback
        super().__init__(f"job {job_id} failed with {error_type}: {message}")


class JobCancelledError(JobtrailError):
    """An awaited job was cancelled, for `reason` if one was given."""

    def __init__(self, job_id: UUID, reason: str | None) -> None:
        self.job_id: Final = job_id
        self.reason: Final = reason
        super().__init__(f"job {job_id} was cancelled" + (f": {reason}" if reason else ""))


class UnknownQuestionError(JobtrailError):
    """No audit question has this name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name: Final = name
        self.known: Final = tuple(known)
        super().__init__(f"no audit question is named {name!r}; there are: {', '.join(known)}")


class AuditTimeoutError(JobtrailError):
    """An audit question took longer than `seconds` and was stopped."""

    def __init__(self, name: str, seconds: float) -> None:
        self.name: Final = name
        self.seconds: Final = seconds
        super().__init__(
            f"the audit question {name!r} took longer than {seconds:g} s; narrow it: a shorter time, one task"
        )


def _hint(near: Sequence[str]) -> str:
    return f"; did you mean {' or '.join(near)}?" if near else ""


class PurgeRefusedError(JobtrailError):
    """The database refused to delete these expired jobs, each with its reason; all others were purged."""

    def __init__(self, refused: Mapping[UUID, str]) -> None:
        self.refused: Final = refused
        job_id, why = next(iter(refused.items()))
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        super().__init__(f"job {job_id} cannot be purged{more}: {why}")
