"""The jobs that a bulk move is about: counted, and picked batch by batch under a lock that waits for nobody."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Boolean, ColumnElement, Select, and_, func, literal_column, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.store.jobs import Cursor, Filter, conditions
from jobtrail.store.tables import jobs
from jobtrail.store.transitions import cancel, retry


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


def to_retry(wanted: Filter, as_of: datetime) -> Scope:
    return Scope(wanted, and_(literal_column(retry.FIT, Boolean), jobs.c.finished_at <= as_of), as_of)


def to_cancel(wanted: Filter, as_of: datetime) -> Scope:
    return Scope(wanted, literal_column(cancel.FIT, Boolean), as_of)


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
