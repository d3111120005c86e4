"""Reading jobs and their history. No list counts, none skips: the cursor is the last row seen."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Boolean, ColumnElement, Select, and_, case, func, literal_column, or_, select, true, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from jobtrail.job.record import Job, Transition
from jobtrail.job.status import Status
from jobtrail.store.tables import jobs, transitions

_TTL: Final = case((jobs.c.status.in_(["failed", "cancelled"]), jobs.c.ttl_failed), else_=jobs.c.ttl)

_COLUMNS: Final = tuple(_TTL.label("ttl") if name == "ttl" else jobs.c[name] for name in Job.__dataclass_fields__)
_LIGHT: Final = tuple(
    func.jsonb_build_object().label(name) if name == "args" else column
    for name, column in zip(Job.__dataclass_fields__, _COLUMNS, strict=True)
    if name != "result"
)


class Place(NamedTuple):
    """Where a list goes on: after this row, towards older ones."""

    created_at: datetime
    id: UUID


@dataclass(frozen=True)
class Filter:
    """Which jobs: the values of a field are alternatives, the fields add up; empty means any. `tags`: all of them."""

    status: Sequence[Status] = ()
    task: Sequence[str] = ()
    queue: Sequence[str] = ()
    tags: Sequence[str] = ()
    trace_id: Sequence[str] = ()
    created_after: datetime | None = None
    created_before: datetime | None = None
    created_by: str | None = None

    @property
    def is_empty(self) -> bool:
        return not any(vars(self).values())


@dataclass(frozen=True)
class Page:
    """`heavy` also reads args and result, which a list leaves out unless asked."""

    limit: int
    after: Place | None = None
    heavy: bool = False
    filter: Filter = field(default_factory=Filter)


async def get(session: AsyncSession, job_id: UUID, *, lock: bool = False, only_of: str | None = None) -> Job | None:
    """None also for a job that another than `only_of` submitted."""
    statement = select(*_COLUMNS).where(jobs.c.id == job_id)
    if only_of is not None:
        statement = statement.where(jobs.c.created_by == only_of)
    if lock:
        statement = statement.with_for_update()
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else job_of(row._mapping)  # noqa: SLF001 - the documented way to a row's mapping


async def committed_of(session: AsyncSession | AsyncConnection, ids: Collection[UUID]) -> set[UUID]:
    """Those of these jobs that are there now, as everybody else sees it."""
    return set((await session.execute(select(jobs.c.id).where(jobs.c.id.in_(ids)))).scalars())


async def page(session: AsyncSession, wanted: Page) -> Sequence[Job]:
    """At most `limit` jobs, newest first."""
    rows = (await session.execute(list_statement(wanted))).all()
    return [job_of(row._mapping) for row in rows]  # noqa: SLF001 - the documented way to a row's mapping


def list_statement(wanted: Page) -> Select[Any]:
    statement = select(*(_COLUMNS if wanted.heavy else _LIGHT)).where(and_(true(), *conditions(wanted.filter)))
    if wanted.after is not None:
        place = tuple_(wanted.after.created_at, wanted.after.id)
        statement = statement.where(tuple_(jobs.c.created_at, jobs.c.id) < place)
    return statement.order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(wanted.limit)


async def history(session: AsyncSession, job_id: UUID, *, only_of: str | None = None) -> Sequence[Transition]:
    """Every move of a job from its birth, also after the row was purged; empty when nothing is known of the id.

    Empty also for a job that another than `only_of` submitted: after its row only its birth tells who.
    """
    columns = [transitions.c[name] for name in Transition.__dataclass_fields__]
    statement = select(*columns).where(transitions.c.job_id == job_id).order_by(transitions.c.seq)
    if only_of is not None:
        row = select(jobs.c.created_by).where(jobs.c.id == job_id).scalar_subquery()
        births = transitions.alias("births")
        birth = select(births.c.actor).where(births.c.job_id == job_id, births.c.seq == 1).scalar_subquery()
        statement = statement.where(func.coalesce(row, birth) == only_of)
    return [Transition(*row) for row in (await session.execute(statement)).all()]


def job_of(row: Mapping[Any, Any]) -> Job:
    fields = {"result": None, **row}
    fields["status"] = Status(fields["status"])
    return Job(**fields)


def conditions(wanted: Filter) -> Sequence[ColumnElement[bool]]:
    """What a row must fulfil, in the words of the indexes; none for a filter that names nothing."""
    found: list[ColumnElement[bool]] = []
    if wanted.status:
        found.append(or_(*(jobs.c.status == status.value for status in wanted.status)))
    if wanted.task:
        found.append(jobs.c.task.in_(wanted.task))
    if wanted.queue:
        found.append(jobs.c.queue.in_(wanted.queue))
    if wanted.tags:
        # the second condition is the predicate of the index
        found += [jobs.c.tags.contains(list(wanted.tags)), literal_column("jobtrail.jobs.tags <> '{}'", Boolean)]
    if wanted.trace_id:
        found.append(or_(*(_in_trace(trace_id) for trace_id in wanted.trace_id)))
    if wanted.created_after is not None:
        found.append(jobs.c.created_at > wanted.created_after)
    if wanted.created_before is not None:
        found.append(jobs.c.created_at < wanted.created_before)
    if wanted.created_by is not None:
        found.append(jobs.c.created_by == wanted.created_by)
    return found


def _in_trace(trace_id: str) -> ColumnElement[bool]:
    """A trace from outside is found by its partial index, whose predicate is repeated here to the letter; a job's own
    trace id is its id.
    """
    foreign = literal_column("jobtrail.jobs.trace_id <> replace(jobtrail.jobs.id::text, '-', '')", Boolean)
    same = jobs.c.trace_id == trace_id
    return or_(and_(same, foreign), and_(same, jobs.c.id == UUID(hex=trace_id)))
