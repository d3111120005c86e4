"""Many jobs at once: counted first, then moved batch by batch, each as the single verb would move it."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Boolean, ColumnElement, Select, and_, func, literal_column, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.db.engine import clock
from jobtrail.db.group_commit import in_batches, recorded
from jobtrail.db.tables import jobs
from jobtrail.errors import FieldError, InvalidInputError
from jobtrail.jobs import cancel, retry
from jobtrail.jobs.query import Cursor, Filter, conditions
from jobtrail.jobs.services import Services
from jobtrail.status import Status


@dataclass(frozen=True)
class Scope:
    """The jobs of a filter that a move fits, as they were at `as_of`: what came or ended later is left alone, so a job
    that is retried and fails again is not met twice. `since` spares the search whatever is older than all of them.
    """

    filter: Filter
    fit: ColumnElement[bool]
    as_of: datetime
    since: datetime | None = None


class Counted(NamedTuple):
    """`oldest` is the birth of the oldest one, None where there is none."""

    jobs: int
    oldest: datetime | None


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
                return cancel.CANCELLABLE
            case Action.RETRY:
                return retry.RETRIABLE


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
    services: Services,
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
    async with services.session() as session:
        as_of = as_of or await clock(session)
        scope = scope_of(action, wanted, as_of)
        matched, oldest = await count(session, scope)
    if dry_run or not matched:
        return Bulk(matched, 0, matched, as_of)
    total = matched if most is None else min(matched, most)
    walk = _Walk(
        services, replace(scope, since=oldest), _move(action, by, reason), most, lambda done: on_batch(done, total)
    )
    # a batch that has begun is waited for: what was told is what was committed
    await in_batches(lambda size: recorded(walk.step(size)), most=BATCH, within=_LOCKED)
    async with services.session() as session:
        remaining, _ = await count(session, scope)
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


def scope_of(action: Action, wanted: Filter, as_of: datetime) -> Scope:
    match action:
        case Action.CANCEL:
            return Scope(wanted, literal_column(cancel.FIT, Boolean), as_of)
        case Action.RETRY:
            fit = and_(literal_column(retry.FIT, Boolean), jobs.c.finished_at <= as_of)
            return Scope(wanted, fit, as_of)


Move = Callable[[AsyncSession, Sequence[UUID]], Awaitable[int]]


def _move(action: Action, by: str, reason: str | None) -> Move:
    match action:
        case Action.CANCEL:
            return partial(cancel.cancel_these, actor=by, reason=reason)
        case Action.RETRY:
            return partial(retry.retry_these, actor=by)


@dataclass
class _Walk:
    """Through the jobs of a scope, oldest first; it never turns back to a row that it passed."""

    services: Services
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
        async with self.services.transaction() as session:
            places = await pick(session, self.scope, after=self.after, most=size)
            moved = await self.move(session, [place.id for place in places]) if places else 0
        if not places:
            return False
        self.after = places[-1]
        self.changed += moved
        self.tell(self.changed)
        return len(places) == size and self.changed != self.most


async def count(session: AsyncSession, scope: Scope) -> Counted:
    return Counted(*(await session.execute(count_statement(scope))).one())


async def pick(session: AsyncSession, scope: Scope, *, after: Cursor | None, most: int) -> Sequence[Cursor]:
    """At most `most` jobs after this place, oldest first, locked for the caller's transaction.

    Rows that somebody else has locked are stepped over: nobody waits, so no two calls wait for each other.
    """
    return [Cursor(*row) for row in await session.execute(pick_statement(scope, after, most))]


def count_statement(scope: Scope) -> Select[int, Any]:
    return select(func.count(), func.min(jobs.c.created_at)).select_from(jobs).where(_within(scope))


def pick_statement(scope: Scope, after: Cursor | None, most: int) -> Select[Any]:
    statement = select(jobs.c.created_at, jobs.c.id).where(_within(scope))
    if after is not None:
        statement = statement.where(tuple_(jobs.c.created_at, jobs.c.id) > after)
    ordered = statement.order_by(jobs.c.created_at, jobs.c.id).limit(most)
    return ordered.with_for_update(key_share=True, skip_locked=True)


def _within(scope: Scope) -> ColumnElement[bool]:
    born = jobs.c.created_at <= scope.as_of
    if scope.since is not None:
        born &= jobs.c.created_at >= scope.since
    return and_(*conditions(scope.filter), scope.fit, born)
