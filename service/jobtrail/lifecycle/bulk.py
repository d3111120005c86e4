"""Many jobs at once: counted first, then moved batch by batch, each as the single verb would move it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.job.errors import FieldError, InvalidInputError
from jobtrail.job.status import Status
from jobtrail.lifecycle.desk import Desk
from jobtrail.lifecycle.run import recorded
from jobtrail.store import diagnosis
from jobtrail.store.batches import in_batches
from jobtrail.store.jobs import Cursor, Filter
from jobtrail.store.transitions import pick
from jobtrail.store.transitions.cancel import CANCELLABLE, cancel_these
from jobtrail.store.transitions.pick import Scope
from jobtrail.store.transitions.retry import RETRIABLE, retry_these

BATCH: Final = 500
"""Rows of one commit, at most. They are locked for about a tenth of a second."""

_LOCKED: Final = 0.25
"""Seconds that the rows of one commit may be locked: half of what a node's own writes wait."""


class Action(StrEnum):
    CANCEL = "cancel"
    RETRY = "retry"

    @property
    def statuses(self) -> Sequence[Status]:
        """Of the jobs that it fits."""
        match self:
            case Action.CANCEL:
                return CANCELLABLE
            case Action.RETRY:
                return RETRIABLE


@dataclass(frozen=True, slots=True)
class Bulk:
    """`matched` jobs fitted filter and action at `as_of`. Of these, `changed` were moved or asked to stop, `remaining`
    are as they were: beyond the most that were wanted, or locked by somebody else.
    """

    matched: int
    changed: int
    remaining: int
    as_of: datetime


async def bulk(
    desk: Desk,
    action: Action,
    wanted: Filter,
    *,
    by: str,
    reason: str | None = None,
    dry_run: bool = False,
    most: int | None = None,
    as_of: datetime | None = None,
    on_batch: Callable[[int, int], None] = lambda _done, _total: None,
) -> Bulk:
    """Each batch is a commit of its own, of which `on_batch` hears: how many jobs are done, of how many.

    What comes or ends after `as_of` is left alone, so that each job is met once; give that of a dry run to act on what
    was counted. `reason` is of a cancel. A running job that was asked to stop before does not fit.
    Raises InvalidInputError with pointers into the filter, and UnavailableError: what was committed stays.
    """
    _refuse(action, wanted)
    async with desk.session() as session:
        as_of = as_of or await diagnosis.clock(session)
        scope = _scope(action, wanted, as_of)
        matched, oldest = await pick.count(session, scope)
    if dry_run or not matched:
        return Bulk(matched, 0, matched, as_of)
    total = matched if most is None else min(matched, most)
    walk = _Walk(
        desk, replace(scope, since=oldest), _move(action, by, reason), most, lambda done: on_batch(done, total)
    )
    # a batch that has begun is waited for: what was told is what was committed
    await in_batches(lambda size: recorded(walk.step(size)), most=BATCH, within=_LOCKED)
    async with desk.session() as session:
        remaining, _ = await pick.count(session, scope)
    return Bulk(matched, walk.changed, remaining, as_of)


def _refuse(action: Action, wanted: Filter) -> None:
    """What is more likely a mistake than meant."""
    if wanted.is_empty:
        raise InvalidInputError([FieldError("", "name something: an empty filter would mean every job")])
    fitting = " or ".join(action.statuses)
    flaws = [
        FieldError(f"/status/{place}", f"a {action} never fits a job that is {status}, only one that is {fitting}")
        for place, status in enumerate(wanted.status)
        if status not in action.statuses
    ]
    if flaws:
        raise InvalidInputError(flaws)


def _scope(action: Action, wanted: Filter, as_of: datetime) -> Scope:
    match action:
        case Action.CANCEL:
            return pick.to_cancel(wanted, as_of)
        case Action.RETRY:
            return pick.to_retry(wanted, as_of)


Move = Callable[[AsyncSession, Sequence[UUID]], Awaitable[int]]


def _move(action: Action, by: str, reason: str | None) -> Move:
    match action:
        case Action.CANCEL:
            return partial(cancel_these, actor=by, reason=reason)
        case Action.RETRY:
            return partial(retry_these, actor=by)


@dataclass
class _Walk:
    """Through the jobs of a scope, oldest first; it never turns back to a row that it passed."""

    desk: Desk
    scope: Scope
    move: Move
    most: int | None
    tell: Callable[[int], None]
    after: Cursor | None = None
    changed: int = 0

    async def step(self, size: int) -> bool:
        """One batch of at most `size`, committed; whether there may be another."""
        if self.most is not None:
            size = min(size, self.most - self.changed)
        async with self.desk.transaction() as session:
            places = await pick.pick(session, self.scope, after=self.after, most=size)
            moved = await self.move(session, [place.id for place in places]) if places else 0
        if not places:
            return False
        self.after = places[-1]
        self.changed += moved
        self.tell(self.changed)
        return len(places) == size and self.changed != self.most
