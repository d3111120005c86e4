"""One attempt: claimed → performed → judged → finished. No connection is held while the task runs, but the one of a job
session that the task asked for.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from jobtrail.job.errors import CommitFailedError, NotStorableError
from jobtrail.job.outcome import Outcome, Performance, Released, Succeeded, in_ascii, judge, raised
from jobtrail.job.record import Claimed
from jobtrail.job.task import Task
from jobtrail.lifecycle.finish import ending_of
from jobtrail.store.transitions.finish import Ending, Landing

log = logging.getLogger(__name__)

Written = TypeVar("Written")


class Handover(Protocol):
    """How an end reaches the row."""

    async def complete(self, ending: Ending) -> Landing | None:
        """Commit what the task wrote through its job session together with the ending; None: it opened none.

        Raises CommitFailedError: neither is there.
        """

    async def abandon(self) -> None:
        """Undo what the task wrote through its job session."""

    async def finish(self, ending: Ending) -> Landing:
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


async def run(attempt: Run) -> Landing:
    """Never raises for what the task did. A stale end is told in the log by whoever finds it."""
    log.debug("started")
    began = time.monotonic()
    performance = await attempt.perform()
    took = time.monotonic() - began
    landing, outcome = await recorded(_record(attempt, _judge(attempt, performance)))
    if landing is Landing.LANDED:  # a stale end was told by whoever found it out, with what the row says instead
        _tell(attempt.claimed, outcome, took)
    return landing


async def _record(attempt: Run, outcome: Outcome) -> tuple[Landing, Outcome]:
    """Success goes with its effects, in their transaction; any other end after they are undone."""
    if isinstance(outcome, Succeeded):
        try:
            landing = await attempt.handover.complete(ending_of(attempt.claimed, outcome))
        except CommitFailedError as error:
            outcome = _judge(attempt, raised(error, attempt.claimed.attempt, attempt.task.retry))
        else:
            if landing is not None:
                return landing, outcome
    else:
        await attempt.handover.abandon()
    try:
        return await attempt.handover.finish(ending_of(attempt.claimed, outcome)), outcome
    except NotStorableError as error:
        outcome = in_ascii(outcome, error, attempt.claimed.attempt)
        return await attempt.handover.finish(ending_of(attempt.claimed, outcome)), outcome


def _judge(attempt: Run, performance: Performance) -> Outcome:
    return judge(performance, attempt.claimed, attempt.task.retry, cancel_delivered=attempt.cancel_delivered())


async def recorded(write: Awaitable[Written]) -> Written:
    """Wait for the write even when this task is cancelled meanwhile; `shield` alone would return before it landed."""
    writing = asyncio.ensure_future(write)
    try:
        return await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait({writing})
        raise


def _tell(claimed: Claimed, outcome: Outcome, seconds: float) -> None:
    """In a host the line may be shown without any field, so it says by itself what it is about."""
    of = f"{claimed.task}: attempt {claimed.attempt} of job {claimed.id}"
    word = type(outcome).__name__.lower()
    facts: dict[str, object] = {"seconds": round(seconds, 3)}
    if isinstance(outcome, Succeeded | Released):
        log.info("%s %s", of, word, extra=facts)
        return
    failure = outcome.failure
    log.warning("%s %s: %s: %s", of, _WORDS[word], failure.type, failure.message, extra={**facts, "outcome": word})


_WORDS: Final = {"failed": "failed", "again": "failed, another one follows", "cancelled": "was cancelled"}
