"""Reading jobs without moving them. No list counts, none skips: the cursor is the last row seen.

`only_of` is a caller's name: the jobs of others are then not found, as if they were not there.
"""

import asyncio
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Select,
    and_,
    case,
    func,
    literal_column,
    or_,
    select,
    text,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.db.direct import Statement
from jobtrail.db.errors import unavailable
from jobtrail.db.tables import Json, jobs
from jobtrail.errors import JobNotFoundError
from jobtrail.jobs.services import SILENCE, Services
from jobtrail.records import Job
from jobtrail.status import Status

_TTL: Final = case((jobs.c.status.in_(["failed", "cancelled"]), jobs.c.ttl_failed), else_=jobs.c.ttl)

# a parked job has its time elsewhere: `park` of the migrations
_RUN_AT: Final = func.coalesce(jobs.c.run_at, jobs.c.due_at)

_AFTER: Final = func.coalesce(jobs.c.after, literal_column("'{}'", jobs.c.after.type))

_OTHERS: Final = {"ttl": _TTL.label("ttl"), "run_at": _RUN_AT.label("run_at"), "after": _AFTER.label("after")}
_COLUMNS: Final = tuple(_OTHERS.get(name, jobs.c[name]) for name in Job.__dataclass_fields__)
_LIGHT: Final = tuple(
    func.jsonb_build_object().label(name) if name == "args" else column
    for name, column in zip(Job.__dataclass_fields__, _COLUMNS, strict=True)
    if name != "result"
)


_JSON: Final = tuple(column.name for column in _COLUMNS if isinstance(column.type, Json))

_DIALECT: Final = postgresql.dialect()  # type: ignore[no-untyped-call]
_READ: Final = Statement(
    str(select(*_COLUMNS).compile(dialect=_DIALECT, compile_kwargs={"literal_binds": True}))
    + " WHERE jobtrail.jobs.id = :id AND (CAST(:only_of AS text) IS NULL OR jobtrail.jobs.created_by = :only_of)"
)


class Cursor(NamedTuple):
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
    schedule: Sequence[str] = ()
    batch_id: UUID | None = None

    @property
    def is_empty(self) -> bool:
        return not any(vars(self).values())


@dataclass(frozen=True)
class Page:
    """`heavy` also reads args and result, which a list leaves out unless asked; with large ones a page is shorter."""

    limit: int
    after: Cursor | None = None
    heavy: bool = False
    filter: Filter = field(default_factory=Filter)


class Listed(NamedTuple):
    """`following`: where the next page begins, None after the last one."""

    jobs: Sequence[Job]
    following: Cursor | None


async def get(session: AsyncSession, job_id: UUID, *, lock: bool = False, only_of: str | None = None) -> Job:
    """Raises JobNotFoundError, also for a job that another than `only_of` submitted."""
    statement = select(*_COLUMNS).where(jobs.c.id == job_id)
    if only_of is not None:
        statement = statement.where(jobs.c.created_by == only_of)
    if lock:
        statement = statement.with_for_update()
    row = (await session.execute(statement)).mappings().one_or_none()
    if row is None:
        raise JobNotFoundError(job_id)
    return _job(row)


async def read(services: Services, job_id: UUID, *, only_of: str | None = None) -> Job:
    """Raises JobNotFoundError, UnavailableError."""
    database = services.database
    with unavailable():
        async with asyncio.timeout(SILENCE), database.readers:
            rows = await database.fetch(_READ, SILENCE, id=job_id, only_of=only_of)
    if not rows:
        raise JobNotFoundError(job_id)
    found = dict(zip(Job.__dataclass_fields__, rows[0], strict=True))
    for name in _JSON:
        found[name] = None if found[name] is None else json.loads(found[name])
    return _job(found)


async def are_there(services: Services, ids: Collection[UUID]) -> set[UUID]:
    """Those of these jobs that are stored and committed. Raises UnavailableError."""
    async with services.session() as session:
        return set((await session.execute(select(jobs.c.id).where(jobs.c.id.in_(ids)))).scalars())


async def read_page(services: Services, wanted: Page) -> Listed:
    """At most `limit` jobs, newest first; of large ones fewer, but at least one where there is one."""
    async with services.session() as session:
        rows: Sequence[Mapping[Any, Any]] = (await session.execute(list_statement(wanted))).mappings().all()
        more = len(rows) > wanted.limit
        rows = rows[: wanted.limit]
        found = rows
        if wanted.heavy and rows:
            values = (await session.execute(_VALUES, {"ids": [row["id"] for row in rows]})).all()
            more |= len(values) < len(rows)
            rows = rows[: len(values)]
            # between the two statements a job may have ended, or gone
            found = [
                {**row, "args": args, "result": result if row["status"] == Status.SUCCEEDED else None}
                for row, (args, result) in zip(rows, values, strict=True)
                if args is not None
            ]
    return Listed([_job(each) for each in found], Cursor(rows[-1]["created_at"], rows[-1]["id"]) if more else None)


MOST_BYTES: Final = 8 * 1024 * 1024
"""Bytes of JSON in a page, give or take its last item. As Python's objects it may be ten times as large, until the
answer is written, and parsing it holds up the event loop for about a tenth of a second.
"""

# How large a value is shows when it is written out, which for a large one takes as long as reading it. So the jobs are
# gone through one by one, and no further than to the one that fills the page. What was purged meanwhile has no args.
_VALUES: Final = text(
    f"""
WITH RECURSIVE walk AS (
    SELECT 0 AS place, CAST(0 AS bigint) AS bytes
    UNION ALL
    SELECT w.place + 1, w.bytes + 1000 + coalesce(octet_length(CAST(j.args AS text)), 0)
           + coalesce(octet_length(CAST(j.result AS text)), 0) + coalesce(octet_length(CAST(j.error AS text)), 0)
      FROM walk w LEFT JOIN jobtrail.jobs j ON j.id = (CAST(:ids AS uuid[]))[w.place + 1]
     WHERE w.bytes < {MOST_BYTES} AND w.place < cardinality(CAST(:ids AS uuid[])))
SELECT CAST(j.args AS text) AS args, CAST(j.result AS text) AS result
  FROM walk w LEFT JOIN jobtrail.jobs j ON j.id = (CAST(:ids AS uuid[]))[w.place]
 WHERE w.place > 0 ORDER BY w.place
"""
).columns(args=Json, result=Json)


_PARTS: Final = ((Status.SUCCEEDED, Status.FAILED, Status.CANCELLED), (Status.PENDING,), (Status.RUNNING,))
"""The jobs of a list as the indexes divide them: a job enters most of them only when it ends."""


def list_statement(wanted: Page) -> Select[Any]:
    found = wanted.filter
    if not (found.task or found.queue or found.created_by):
        return _newest(_LIGHT, wanted, found)
    parts = ([each for each in part if each in (found.status or Status)] for part in _PARTS)
    newest = [_newest([jobs.c.id], wanted, replace(found, status=part)) for part in parts if part]
    ids = union_all(*(select(each.subquery()) for each in newest))
    return _newest(_LIGHT, replace(wanted, after=None), Filter()).where(jobs.c.id.in_(ids))


def _newest(columns: Sequence[ColumnElement[Any]], wanted: Page, found: Filter) -> Select[Any]:
    statement = select(*columns).where(and_(true(), *conditions(found)))
    if wanted.after is not None:
        place = tuple_(wanted.after.created_at, wanted.after.id)
        statement = statement.where(tuple_(jobs.c.created_at, jobs.c.id) < place)
    # one more tells whether there is another page
    return statement.order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(wanted.limit + 1)


def _job(row: Mapping[Any, Any]) -> Job:
    return Job(**{"result": None, **row, "status": Status(row["status"])})


def conditions(wanted: Filter) -> Sequence[ColumnElement[bool]]:
    """What a row must fulfil, in the words of the indexes; none for a filter that names nothing."""
    found: list[ColumnElement[bool]] = []
    if wanted.status:
        found.append(or_(*(jobs.c.status == status.value for status in wanted.status)))
        if set(wanted.status) == {Status.PENDING}:  # the predicate of the index, as with the tags
            found.append(literal_column("jobtrail.jobs.priority >= 0", Boolean))
    if wanted.task:
        found.append(jobs.c.task.in_(wanted.task))
    if wanted.queue:
        found.append(jobs.c.queue.in_(wanted.queue))
    if wanted.schedule:
        found.append(or_(*(jobs.c.schedule == name for name in wanted.schedule)))
    if wanted.tags:
        # the second condition is the predicate of the index
        found += [jobs.c.tags.contains(list(wanted.tags)), literal_column("jobtrail.jobs.tags <> '{}'", Boolean)]
    if wanted.trace_id:
        found.append(or_(*(_in_trace(trace_id) for trace_id in wanted.trace_id)))
    if wanted.created_after is not None:
        found.append(jobs.c.created_at > wanted.created_after)
    if wanted.created_before is not None:
        found.append(jobs.c.created_at < wanted.created_before)
    exact = ((jobs.c.created_by, wanted.created_by), (jobs.c.batch_id, wanted.batch_id))
    return [*found, *(column == value for column, value in exact if value is not None)]


def _in_trace(trace_id: str) -> ColumnElement[bool]:
    """A trace from outside is found by its partial index, whose predicate is repeated here to the letter; a job's own
    trace id is its id.
    """
    foreign = literal_column("jobtrail.jobs.trace_id <> replace(jobtrail.jobs.id::text, '-', '')", Boolean)
    same = jobs.c.trace_id == trace_id
    return or_(and_(same, foreign), and_(same, jobs.c.id == UUID(hex=trace_id)))
