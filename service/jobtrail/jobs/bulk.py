"""Many jobs at once: counted first, then moved batch by batch, each as the single verb would move it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Boolean, ColumnElement, Select, and_, func, literal_column, select, tuple_

from jobtrail.db.engine import clock
from jobtrail.db.group_commit import in_batches, recorded
from jobtrail.db.tables import jobs
from jobtrail.errors import FieldError, InvalidInputError
from jobtrail.jobs import cancel, retry
from jobtrail.jobs.query import Cursor, Filter, conditions
from jobtrail.jobs.services import Services
from jobtrail.status import Status

BATCH: Final = 500
"""Rows of one commit, at most. They are locked for about a tenth of a second."""

_LOCKED: Final = 0.25
"""Seconds that the rows of one commit may be locked: half of what a node's own writes wait."""


class Action(StrEnum):
    CANCEL = "cancel"
    RETRY = "retry"

    @property
    def statuses(self) -> Sequence[Status]:
        """The statuses of jobs that this action can be done to."""
        return cancel.CANCELLABLE if self is Action.CANCEL else retry.RETRIABLE


@dataclass(frozen=True, slots=True)
class Bulk:
    """`matched` jobs fitted filter and action at `as_of`. Of these, `changed` were moved or asked to stop, `remaining`
    are as they were: beyond the most that were wanted, or locked by another transaction.
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
    """Cancel or retry the jobs of a filter, batch by batch. After each, which is a commit of its own, `on_batch` is
    called with the number of jobs that are done and of all.

    What comes or ends after `as_of` is left alone, so that each job is met once; give that of a dry run to act on what
    was counted. `reason` is of a cancel. A running job that was asked to stop before does not fit.
    Raises InvalidInputError with pointers into the filter, or for the reason, and UnavailableError: what was committed
    stays.
    """
    reason = cancel.reason_of(reason)
    _refuse(action, wanted)
    async with services.session() as session:
        as_of = as_of or await clock(session)
        scope = scope_of(action, wanted, as_of)
        matched, oldest = (await session.execute(count_statement(scope))).one()
    if dry_run or not matched:
        return Bulk(matched, 0, matched, as_of)
    total = matched if most is None else min(matched, most)
    within = scope & (jobs.c.created_at >= oldest)  # spares the search for what is older than all of them
    changed, after = 0, None

    async def step(size: int) -> bool:
        """One batch of at most `size`, committed; whether there may be another. It never turns back to a row that it
        passed.
        """
        nonlocal changed, after
        if most is not None:
            size = min(size, most - changed)
        async with services.transaction() as session:
            rows = (await session.execute(pick_statement(within, after, size))).all()
            if not rows:
                return False
            ids = [row.id for row in rows]
            if action is Action.CANCEL:
                moved = await cancel.cancel_these(session, ids, actor=by, reason=reason)
            else:
                moved = await retry.retry_these(session, ids, actor=by)
        if action is Action.RETRY:
            services.database.hints.send()
        after = Cursor(*rows[-1])
        changed += moved
        on_batch(changed, total)
        return len(rows) == size and changed != most

    # a batch that has begun is waited for, so that `on_batch` has heard of all that was committed
    await in_batches(lambda size: recorded(step(size)), most=BATCH, within=_LOCKED)
    async with services.session() as session:
        remaining, _ = (await session.execute(count_statement(scope))).one()
    return Bulk(matched, changed, remaining, as_of)


def _refuse(action: Action, wanted: Filter) -> None:
    """Refuse a filter that is more likely a mistake than meant."""
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


def scope_of(action: Action, wanted: Filter, as_of: datetime) -> ColumnElement[bool]:
    """The jobs of a filter that the action fits, as they were at `as_of`: what came or ended later is left alone, so a
    job that is retried and fails again is not met twice.
    """
    found = [*conditions(wanted), jobs.c.created_at <= as_of]
    if action is Action.CANCEL:
        found.append(literal_column(cancel.FIT, Boolean))
    else:
        found += [literal_column(retry.FIT, Boolean), jobs.c.finished_at <= as_of]
    return and_(*found)


def count_statement(scope: ColumnElement[bool]) -> Select[int, Any]:
    """How many there are, and when the oldest was born."""
    return select(func.count(), func.min(jobs.c.created_at)).select_from(jobs).where(scope)


def pick_statement(scope: ColumnElement[bool], after: Cursor | None, most: int) -> Select[Any]:
    """At most `most` jobs after this place, oldest first, locked for the caller's transaction.

    Rows that another transaction has locked are skipped, so no two calls wait for each other.
    """
    statement = select(jobs.c.created_at, jobs.c.id).where(scope)
    if after is not None:
        statement = statement.where(tuple_(jobs.c.created_at, jobs.c.id) > after)
    ordered = statement.order_by(jobs.c.created_at, jobs.c.id).limit(most)
    return ordered.with_for_update(key_share=True, skip_locked=True)
