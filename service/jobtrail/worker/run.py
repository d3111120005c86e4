"""One attempt: claimed → performed → judged → finished. No connection is held while the task runs, but the one of a job
session that the task asked for.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from jobtrail.db.group_commit import recorded
from jobtrail.errors import CommitFailedError, NotStorableError
from jobtrail.jobs.finish import OutcomeRecord, Recorded, record_of
from jobtrail.records import AttemptEnd, Claimed, Failure
from jobtrail.status import Status
from jobtrail.task.context import TASK_LOGGER
from jobtrail.task.outcome import (
    Again,
    Cancelled,
    Failed,
    Outcome,
    Performance,
    Released,
    Succeeded,
    exception_of,
    in_ascii,
    judge,
    raised,
)
from jobtrail.task.task import Task

log = logging.getLogger(__name__)
of_tasks = logging.getLogger(TASK_LOGGER)


class Handover(Protocol):
    """How an end reaches the row."""

    async def complete(self, ending: OutcomeRecord) -> Recorded | None:
        """Commit what the task wrote through its job session together with the ending; None: it opened none.

        Raises CommitFailedError: neither is there.
        """

    async def abandon(self) -> None:
        """Undo what the task wrote through its job session."""

    async def finish(self, ending: OutcomeRecord) -> Recorded:
        """Record an ending that has no such effects.

        Raises NotStorableError for one that this database can never hold.
        """


@dataclass(frozen=True, slots=True)
class Run:
    """An attempt and the ways to carry it out, handed in by the node that claimed it."""

    claimed: Claimed
    task: Task[..., Any]
    perform: Callable[[], Awaitable[Performance]]
    handover: Handover
    cancel_delivered: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Ran:
    """`seconds` that the task took."""

    claimed: Claimed
    outcome: Outcome
    landing: Recorded
    seconds: float


async def run(attempt: Run) -> Ran:
    """Never raises for what the task did. A stale end is told in the log by whoever finds it."""
    log.debug("started")
    began = time.monotonic()
    performance = await attempt.perform()
    took = time.monotonic() - began
    landing, outcome = await recorded(_record(attempt, _judge(attempt, performance)))
    return Ran(attempt.claimed, outcome, landing, took)


async def _record(attempt: Run, outcome: Outcome) -> tuple[Recorded, Outcome]:
    """Success goes with its effects, in their transaction; any other end after they are undone."""
    if isinstance(outcome, Succeeded):
        try:
            landing = await attempt.handover.complete(record_of(attempt.claimed, outcome))
        except CommitFailedError as error:
            outcome = _judge(attempt, raised(error, attempt.claimed.attempt, attempt.task.retry))
        else:
            if landing is not None:
                return landing, outcome
    else:
        await attempt.handover.abandon()
    try:
        landing = await attempt.handover.finish(record_of(attempt.claimed, outcome))
    except NotStorableError as error:
        outcome = in_ascii(outcome, error, attempt.claimed.attempt)
        landing = await attempt.handover.finish(record_of(attempt.claimed, outcome))
    if landing is Recorded.CANCELLED and isinstance(outcome, Again):
        outcome = Cancelled(outcome.failure)
    return landing, outcome


def _judge(attempt: Run, performance: Performance) -> Outcome:
    return judge(performance, attempt.claimed, attempt.task.retry, cancel_delivered=attempt.cancel_delivered())


def tell(ran: Ran) -> None:
    """Log a recorded end. In a host the line may be shown without any field, so it says by itself what it is about.

    A failure goes with its exception to the logger of tasks, as ERROR when it is final and WARNING when another attempt
    follows: error trackers that listen to logging have it from there.
    """
    claimed, outcome = ran.claimed, ran.outcome
    of = claimed.task, claimed.attempt, claimed.id
    facts: dict[str, object] = {"seconds": round(ran.seconds, 3)}
    match outcome:
        case Succeeded():
            log.info("%s: attempt %d of job %s succeeded", *of, extra=facts)
        case Released():
            log.info("%s: attempt %d of job %s released", *of, extra=facts)
        case Cancelled(failure):
            told = failure.type, failure.message
            log.warning("%s: attempt %d of job %s was cancelled: %s: %s", *of, *told, extra=facts)
        case Failed(failure):
            _tell_failure(logging.ERROR, "%s: attempt %d of job %s failed: %s: %s", of, failure, facts)
        case Again(failure):
            _tell_failure(logging.WARNING, _ANOTHER, of, failure, facts)


def _tell_failure(
    level: int, words: str, of: tuple[object, ...], failure: Failure, facts: Mapping[str, object]
) -> None:
    """An exception is shown by its own `__str__`, which may do anything, SystemExit included."""
    told = failure.type, failure.message
    try:
        of_tasks.log(level, words, *of, *told, extra=facts, exc_info=exception_of(failure))
    except BaseException:  # noqa: BLE001 - nothing is awaited here: it is the exception's own doing, or a handler's
        of_tasks.log(level, words, *of, *told, extra=facts)


_ANOTHER: Final = "%s: attempt %d of job %s failed, another one follows: %s: %s"


def end_of(ran: Ran) -> AttemptEnd:
    claimed, outcome = ran.claimed, ran.outcome
    failure = None if isinstance(outcome, Succeeded | Released) else outcome.failure
    return AttemptEnd(
        job_id=claimed.id,
        task=claimed.task,
        attempt=claimed.attempt,
        trace_id=claimed.trace_id,
        status=Status.CANCELLED if ran.landing is Recorded.CANCELLED else _STATUSES[type(outcome)],
        error=None if failure is None else failure.as_json(),
        exception=None if failure is None else exception_of(failure),
        seconds=ran.seconds,
    )


_STATUSES: Final[Mapping[type[Outcome], Status]] = {
    Succeeded: Status.SUCCEEDED,
    Failed: Status.FAILED,
    Cancelled: Status.CANCELLED,
    Again: Status.PENDING,
    Released: Status.PENDING,
}
