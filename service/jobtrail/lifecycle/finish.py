"""The end of an attempt is offered until the database says whose attempt it was."""

import asyncio
import logging
from dataclasses import replace
from functools import partial
from typing import Final
from uuid import UUID

from jobtrail.job.errors import NotStorableError, UnavailableError
from jobtrail.job.outcome import Again, Cancelled, Failed, Outcome, Released, Succeeded
from jobtrail.job.record import Claimed, Failure
from jobtrail.job.status import Status
from jobtrail.job.storable import dump
from jobtrail.store.engine import Database
from jobtrail.store.faults import Fault, fault_of, reason
from jobtrail.store.group import Group
from jobtrail.store.transitions.finish import Ending, Landing, finish_group, settle, unfit
from jobtrail.store.transitions.renew import Held

log = logging.getLogger(__name__)

_FOREVER: Final = float("inf")
_LONGEST_PAUSE: Final = 1.0


class Endings:
    """The way of a node's ends to their rows, together where it can be."""

    def __init__(self, database: Database, node: UUID) -> None:
        self._database = database
        self._node = node
        self._group = Group(partial(finish_group, database, node=node), weigh=_weigh, patience=_FOREVER)

    async def finish(self, ending: Ending) -> Landing:
        """LANDED, or STALE when the attempt was no longer ours: offered until the database says one of the two,
        however long that takes and whatever it says meanwhile.

        Raises NotStorableError when it holds what this database never will: it is to be ended in another way.
        """
        try:
            landing = await self._group.put(ending)
        except Exception as error:
            log.debug("the end of attempt %d of job %s goes alone now", ending.attempt, ending.id, exc_info=error)
            landing = Landing.UNSETTLED
        return await self.finish_alone(ending) if landing is Landing.UNSETTLED else landing

    async def finish_alone(self, ending: Ending) -> Landing:
        """The same without others, where the group's own task is not there any more."""
        pause, is_told = 0.05, False
        while True:
            try:
                landing = await settle(self._database, ending, node=self._node)
                if landing is not Landing.UNSETTLED:
                    return landing
            except Exception as error:  # as above
                if fault_of(error) is Fault.DATA:
                    ending = await self._that_fits(ending)
                if not is_told and not isinstance(error, UnavailableError):
                    is_told = True
                    log.warning(_OFFERED, ending.attempt, ending.id, reason(error))
                    log.debug("the end of an attempt is refused", exc_info=error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _that_fits(self, ending: Ending) -> Ending:
        """The ending, without a progress that the database cannot hold. Raises NotStorableError for any other text."""
        try:
            found = await unfit(self._database, ending)
        except Exception as error:
            log.debug("what the database can hold could not be asked", exc_info=error)
            return ending
        if found is None:
            return ending
        if found.names != {"progress"}:
            raise NotStorableError(f"the database cannot hold it: {found.said}")
        return replace(ending, progress=None)


_OFFERED: Final = "the end of attempt %d of job %s is not recorded yet, and is offered until it is: %s"


def _weigh(ending: Ending) -> int:
    return len(ending.result or "") + len(ending.error or "")


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
