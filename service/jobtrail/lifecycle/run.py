"""One attempt: claimed → performed → judged → finished. No connection is held while the task runs."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from jobtrail.job.outcome import Outcome, Performance, Succeeded, judge
from jobtrail.job.record import Claimed
from jobtrail.job.task import Task
from jobtrail.lifecycle.finish import ending_of
from jobtrail.store.transitions.finish import Ending, Landing

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Run:
    """An attempt and the ways to carry it out, handed in by the node that claimed it."""

    claimed: Claimed
    task: Task[..., Any]
    perform: Callable[[], Awaitable[Performance]]
    finish: Callable[[Ending], Awaitable[Landing]]
    cancel_delivered: Callable[[], bool]
    max_result: int


async def run(attempt: Run) -> Landing:
    """Never raises for what the task did. A stale end is told in the log by whoever finds it."""
    claimed = attempt.claimed
    log.debug("started")
    began = time.monotonic()
    performance = await attempt.perform()
    outcome = judge(
        performance,
        claimed,
        attempt.task.retry,
        cancel_delivered=attempt.cancel_delivered(),
        max_result=attempt.max_result,
    )
    landing = await recorded(attempt.finish(ending_of(claimed, outcome)))
    if landing is Landing.LANDED:  # a stale end was told by whoever found it out, with what the row says instead
        _tell(outcome, time.monotonic() - began)
    return landing


async def recorded(write: Awaitable[Landing]) -> Landing:
    """Wait for the write even when this task is cancelled meanwhile; `shield` alone would return before it landed."""
    writing = asyncio.ensure_future(write)
    try:
        return await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait({writing})
        raise


def _tell(outcome: Outcome, seconds: float) -> None:
    word = type(outcome).__name__.lower()
    facts: dict[str, object] = {"seconds": round(seconds, 3)}
    if isinstance(outcome, Succeeded):
        log.info("succeeded", extra=facts)
        return
    log.warning("%s", word, extra={**facts, "error_type": outcome.failure.type, "reason": outcome.failure.message})
