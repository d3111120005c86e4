"""A new job as an object that a caller's own session stores: in its transaction, and undone with it.

It is mapped in a registry of its own, which a host's metadata and classes never meet, when the first one is made; once
for each schema that this process writes to.
"""

import threading
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, DateTime, MetaData, Table, Text, cast, func, inspect
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Mapper, Session, registry, scoped_session
from sqlalchemy.types import TypeDecorator, TypeEngine

from jobtrail.db.tables import SCHEMA, jobs
from jobtrail.jobs.insert import AS_THEY_ARE
from jobtrail.records import NewJob

AnySession = AsyncSession | Session | async_scoped_session[AsyncSession] | scoped_session[Session]
"""A session of the caller's, asynchronous or not."""


class JobRow:
    """One row to be inserted, nothing more: it is not to be read, changed or deleted by a session.

    What is mapped is a class below it for each schema: binds that name this one hold for all of them.
    """


def add(session: AnySession, new: NewJob, schema: str = SCHEMA) -> JobRow:
    """The session inserts the row when it flushes. Raises TypeError for a session that has no PostgreSQL to do so."""
    try:
        bind = session.get_bind(mapper=_mapper(schema))
    except UnboundExecutionError as error:
        raise TypeError(
            "this session does not know where Jobtrail's table is: give it an engine, or name the row in its binds, "
            "binds={…, JobRow: engine}, with `from jobtrail.jobs.host_session import JobRow`"
        ) from error
    if bind.dialect.name != "postgresql":
        raise TypeError(f"this session is on {bind.dialect.name}: Jobtrail's table is in a PostgreSQL")
    row = row_of(new, schema)
    session.add(row)
    return row


def row_of(new: NewJob, schema: str = SCHEMA) -> JobRow:
    """A row with the same values as `submit` stores of the job."""
    row = _mapper(schema).class_()
    values = {name: getattr(new, name) for name in AS_THEY_ARE}
    values |= {"args": new.args_json, "tags": list(new.tags), "created_at": None}
    values["limit_keys"] = None if new.limit_keys is None else list(new.limit_keys)
    values |= {"moved_by": new.created_by, "move_reason": "submitted"}
    for name, value in values.items():
        setattr(row, name, value)
    return row


class _JsonText(TypeDecorator[str]):
    """JSON text for a jsonb column, whatever the serializer of the session's engine makes of values."""

    impl = Text
    cache_ok = True

    def bind_expression(self, bindparam: Any) -> ColumnElement[Any]:
        return cast(bindparam, JSONB)


class _TimeOrNow(TypeDecorator[datetime]):
    """None is now by the database's clock: the same in all columns of a row."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def bind_expression(self, bindparam: Any) -> ColumnElement[Any]:
        return func.coalesce(bindparam, func.statement_timestamp())


_OTHER_TYPES: Final[dict[str, type[TypeEngine[Any]]]] = {
    "args": _JsonText, "limit_terms": _JsonText, "run_at": _TimeOrNow, "created_at": _TimeOrNow
}  # fmt: skip

_ONE_AT_A_TIME: Final = threading.Lock()

_CLASSES: Final[dict[str, type[JobRow]]] = {}
"""By schema."""


def _mapper(schema: str) -> Mapper[JobRow]:
    with _ONE_AT_A_TIME:  # endpoints that are no coroutines run in threads
        if (mapped := _CLASSES.get(schema)) is None:
            mapped = _CLASSES[schema] = type(JobRow.__name__, (JobRow,), {})
        # asked each time, as tests of a host may clear all mappers
        known: Mapper[JobRow] | None = inspect(mapped, raiseerr=False)
        if known is not None:
            return known
        # without the defaults of `tables`, which would stand in for a NULL that is meant, as with `ttl`, and would be
        # read back row by row
        names = (*AS_THEY_ARE, "args", "tags", "limit_keys", "created_at", "moved_by", "move_reason")
        columns = [Column(name, _OTHER_TYPES.get(name, jobs.c[name].type), primary_key=name == "id") for name in names]
        return registry().map_imperatively(mapped, Table("jobs", MetaData(schema=schema), *columns))
