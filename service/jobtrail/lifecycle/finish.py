"""The end of an attempt is offered until the database says whose attempt it was."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from jobtrail.job.errors import UnavailableError
from jobtrail.job.outcome import Again, Cancelled, Failed, Outcome, Released, Succeeded
from jobtrail.job.record import Claimed, Failure
from jobtrail.job.status import Status
from jobtrail.job.storable import dump
from jobtrail.store.group import Group
from jobtrail.store.transitions.finish import Ending, Landing
from jobtrail.store.transitions.renew import Held

log = logging.getLogger(__name__)

Settle = Callable[[Ending], Awaitable[Landing]]


async def finish(endings: Group[Ending, Landing], settle: Settle, ending: Ending) -> Landing:
    """LANDED, or STALE when the attempt was no longer ours. However long a lock or an outage lasts, it waits."""
    landing = await endings.put(ending)
    return await finish_alone(settle, ending) if landing is Landing.UNSETTLED else landing


async def finish_alone(settle: Settle, ending: Ending) -> Landing:
    """The same without others, where the group's own task is not there any more."""
    landing, pause = Landing.UNSETTLED, 0.05
    while landing is Landing.UNSETTLED:
        try:
            landing = await settle(ending)
        except UnavailableError:
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)
    return landing


def ending_of(claimed: Claimed, outcome: Outcome) -> Ending:
    match outcome:
        case Succeeded(result):
            return Ending(claimed.id, claimed.attempt, Status.SUCCEEDED, "succeeded", result=result)
        case Failed(failure):
            return Ending(claimed.id, claimed.attempt, Status.FAILED, failure.type, error=_json(failure))
        case Cancelled(failure):
            return Ending(claimed.id, claimed.attempt, Status.CANCELLED, "cancelled", error=_json(failure))
        case Again(failure, delay):
            return Ending(claimed.id, claimed.attempt, Status.PENDING, failure.type, error=_json(failure), delay=delay)
        case Released():
            return released(claimed)


def released(claimed: Claimed | Held) -> Ending:
    """An attempt that never began goes back whole."""
    return Ending(claimed.id, claimed.attempt, Status.PENDING, "released", more=1)


def _json(failure: Failure) -> str:
    return dump(failure.as_json())
