"""The tables of jobs as SQLAlchemy sees them, and their schema; those of an operator's nouns are in `ops`.

The migrations make them, and alone have the CHECKs; a test compares the rest. `rights`: what a node's role must have.

One schema is one app's world. Every statement names `jobtrail`, so that it can be found by its words and runs
in psql as it is; for another schema its qualifier is rewritten as the statement is sent. Not by `search_path`: behind
PgBouncer, and on a host's connections, it would belong to the client that set it last.
"""

import json
import re
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    Index,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    cast,
    event,
    text,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.types import TypeDecorator, UserDefinedType

from jobtrail.ranges import DEFAULT_SCHEMA

SCHEMA: Final = DEFAULT_SCHEMA
"""As the statements say it."""

NAME: Final = "(parse_ident('jobtrail.jobs'))[1]"
"""The name of the schema as a text within a statement, where it is rewritten too."""

# `jobtrail.actor` is a session variable; `jobtrail.%` stands in a message of a trigger
_QUALIFIER: Final = re.compile(r"(?<![\w.])jobtrail\.(?!actor\b)(?=[a-z_%])")


@lru_cache(maxsize=1024)
def of_schema(sql: str, schema: str) -> str:
    """The same statement for the tables and functions of `schema`."""
    return sql if schema == SCHEMA else _QUALIFIER.sub(f'"{schema}".', sql)


def keep_to(engine: AsyncEngine, schema: str) -> None:
    """Send all statements of this engine, and of no other on the same pool, to the tables of `schema`."""
    if schema == SCHEMA:
        return

    def rewrite(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> tuple[str, Any]:
        return of_schema(statement, schema), parameters

    event.listen(engine.sync_engine, "before_cursor_execute", rewrite, retval=True)


class Json(TypeDecorator[Any]):
    """jsonb that crosses as text and is parsed here: connections that a host lends decode jsonb as the host likes it,
    which may cost large numbers their digits. In SQL that is written out, `CAST(… AS text)` belongs to it.
    """

    impl = JSONB
    cache_ok = True

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        return type_coerce(cast(column, Text), self)

    def process_result_value(self, value: str | None, _dialect: object) -> Any:
        return None if value is None else json.loads(value)


class Xid8(UserDefinedType[int]):
    """A transaction id of 64 bits (PostgreSQL, "Object Identifier Types")."""

    cache_ok = True

    def get_col_spec(self, **_kw: Any) -> str:
        return "XID8"


class Snapshot(UserDefinedType[str]):
    """A `pg_snapshot` (PostgreSQL, "Transaction ID and Snapshot Information Functions")."""

    cache_ok = True

    def get_col_spec(self, **_kw: Any) -> str:
        return "PG_SNAPSHOT"


metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    },
)

TIME = DateTime(timezone=True)
TEXTS: ARRAY[str] = ARRAY(Text)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("task", Text, nullable=False),
    Column("queue", Text, nullable=False, server_default="default"),
    Column("args", Json, nullable=False, server_default=text("'{}'")),
    Column("status", Text, nullable=False, server_default="pending"),
    Column("result", Json(none_as_null=True)),
    Column("error", Json(none_as_null=True)),
    Column("trace_id", Text, nullable=False, server_default=text("replace(gen_random_uuid()::text, '-', '')")),
    Column("priority", SmallInteger, nullable=False, server_default=text("5")),
    Column("tags", TEXTS, nullable=False, server_default=text("'{}'")),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("max_attempts", Integer, nullable=False, server_default=text("1")),
    Column("timeout", Interval),
    Column("run_at", TIME, server_default=text("clock_timestamp()")),
    Column("progress", Json(none_as_null=True)),
    Column("idempotency_key", Text),
    Column("request_hash", LargeBinary),
    Column("created_by", Text, nullable=False, server_default=text("session_user")),
    Column("node_id", Uuid),
    Column("lease_until", TIME),
    Column("cancel_requested_at", TIME),
    Column("cancel_requested_by", Text),
    Column("cancel_reason", Text),
    Column("seq", Integer, nullable=False, server_default=text("1")),
    Column("moved_by", Text, nullable=False, server_default=text("session_user")),
    Column("move_reason", Text, server_default="sql"),
    Column("created_at", TIME, nullable=False, server_default=text("clock_timestamp()")),
    Column("started_at", TIME),
    Column("finished_at", TIME),
    Column("ttl", Interval, server_default=text("'7 days'")),
    Column("ttl_failed", Interval, server_default=text("'30 days'")),
    Column("expires_at", TIME),
    Column("due_at", TIME),
    Column("limit_keys", TEXTS),
    Column("waits", Boolean, nullable=False, server_default=text("false")),
    Column("cursor", Json(none_as_null=True)),
    Column("given_back", Integer, nullable=False, server_default=text("0")),
    Column("schedule", Text),
    Column("scheduled_for", TIME),
    Column("exclusive", Boolean),
    Column("limit_terms", Json(none_as_null=True)),
    Column("after", ARRAY(Uuid)),
    Column("batch_id", Uuid),
    Column("unique_key", Text),
    Column("replaceable", Boolean, nullable=False, server_default=text("false")),
    Column("trace_parent", Text),
    Column("callback_url", Text),
    Index("ix_jobs_claim", "queue", "priority", "run_at", "id", postgresql_where=text("status = 'pending'")),
    Index("ix_jobs_running", "node_id", postgresql_where=text("status = 'running'")),
    Index("ix_jobs_expiry", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    Index("ix_jobs_created", "created_at"),
    Index(
        "ix_jobs_pending",
        "created_at",
        "task",
        "queue",
        "created_by",
        postgresql_where=text("status = 'pending' AND priority >= 0"),
    ),
    Index(
        "ix_jobs_ended_badly",
        "created_at",
        "id",
        "status",
        "task",
        "queue",
        "created_by",
        postgresql_where=text("status IN ('failed', 'cancelled')"),
    ),
    Index("ix_jobs_batch", "batch_id", "status", postgresql_where=text("batch_id IS NOT NULL")),
    *(
        Index(f"ix_jobs_{name}", *columns, postgresql_where=text("status IN ('succeeded', 'failed', 'cancelled')"))
        for name, *columns in (
            ("ended", "created_at"),
            ("task", "task", "created_at"),
            ("queue", "queue", "created_at"),
            ("created_by", "created_by", "created_at"),
        )
    ),
    Index("ix_jobs_cancel", "cancel_requested_at", postgresql_where=text("cancel_requested_at IS NOT NULL")),
    Index("ix_jobs_tags", "tags", postgresql_using="gin", postgresql_where=text("tags <> '{}'")),
    Index("ix_jobs_trace", "trace_id", postgresql_where=text("trace_id <> replace(id::text, '-', '')")),
    Index(
        "uq_jobs_key",
        "created_by",
        "idempotency_key",
        unique=True,
        postgresql_where=text("idempotency_key IS NOT NULL"),
    ),
    Index("ix_jobs_schedule", "schedule", "created_at", postgresql_where=text("schedule IS NOT NULL")),
    Index(
        "uq_jobs_overlap",
        "schedule",
        unique=True,
        postgresql_where=text("exclusive AND status IN ('pending', 'running')"),
    ),
    Index(
        "ix_jobs_lanes",
        "limit_keys",
        "priority",
        "due_at",
        "id",
        postgresql_where=text("status = 'pending' AND limit_keys IS NOT NULL"),
    ),
    Index("ix_jobs_limited", "limit_keys", postgresql_where=text("status = 'running' AND limit_keys IS NOT NULL")),
    Index(
        "uq_jobs_unique",
        "unique_key",
        unique=True,
        postgresql_where=text("unique_key IS NOT NULL AND NOT replaceable AND status || '' IN ('pending', 'running')"),
    ),
    Index(
        "uq_jobs_replaceable",
        "unique_key",
        unique=True,
        postgresql_where=text("replaceable AND status || '' = 'pending' AND attempt = 0"),
    ),
    Index(
        "ix_jobs_again", "unique_key", postgresql_where=text("replaceable AND status || '' = 'pending' AND attempt > 0")
    ),
    Index("ix_jobs_callback", "id", postgresql_where=text("callback_url IS NOT NULL")),
    info={"rights": "SELECT, INSERT, UPDATE, DELETE"},
)

app_keys = Table(
    "app_keys",
    metadata,
    Column("key", Text, primary_key=True),
    Column("job_id", Uuid, nullable=False, unique=True),
    Column("request_hash", LargeBinary, nullable=False),
    info={"rights": "SELECT, INSERT"},
)

edges = Table(
    "edges",
    metadata,
    Column("child", Uuid, primary_key=True),
    Column("parent", Uuid, primary_key=True),
    Index("ix_edges_parent", "parent", "child"),
    # UPDATE is for rows that are locked before they are deleted
    info={"rights": "SELECT, INSERT, UPDATE, DELETE"},
)

transitions = Table(
    "transitions",
    metadata,
    Column("job_id", Uuid, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("from_status", Text),
    Column("to_status", Text, nullable=False),
    Column("at", TIME, nullable=False, server_default=text("clock_timestamp()")),
    Column("actor", Text, nullable=False),
    Column("node_id", Uuid),
    Column("reason", Text),
    Column("error", Json(none_as_null=True)),
    Column("trace_id", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("xact", Xid8, nullable=False, server_default=text("pg_current_xact_id()")),
    Index("ix_transitions_at", "at", postgresql_using="brin"),
    Index("ix_transitions_xact", "xact"),
    Index("ix_transitions_purged", "at", postgresql_where=text("to_status = 'purged'")),
    Index("ix_transitions_cancelled", "at", postgresql_where=text("to_status = 'cancelled'")),
    Index("ix_transitions_lost", "at", postgresql_where=text("from_status = 'running' AND error ->> 'type' = 'lost'")),
    Index(
        "ix_transitions_trace",
        "trace_id",
        postgresql_where=text("to_status = 'purged' AND trace_id <> replace(job_id::text, '-', '')"),
    ),
    # triggers write it, with the rights of its owner; DELETE is for what is older than history_ttl
    info={"rights": "SELECT, DELETE"},
)

log_lines = Table(
    "log_lines",
    metadata,
    Column("job_id", Uuid, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", TIME, nullable=False),
    Column("level", Text, nullable=False),
    Column("logger", Text, nullable=False),
    Column("message", Text, nullable=False),
    info={"rights": "SELECT, INSERT, DELETE"},
)

feed_marks = Table(
    "feed_marks",
    metadata,
    Column("no", BigInteger, primary_key=True, autoincrement=False),
    Column("tag", Text, nullable=False, server_default=text("left(md5(gen_random_uuid()::text), 8)")),
    Column("snapshot", Snapshot, nullable=False),
    Column("at", TIME, nullable=False, server_default=text("clock_timestamp()")),
    Column("since", TIME, nullable=False),
    Column("system", Text, nullable=False),
    info={"rights": "SELECT, INSERT, DELETE"},
)

feed_cursors = Table(
    "feed_cursors",
    metadata,
    Column("name", Text, primary_key=True),
    Column("no", BigInteger, nullable=False),
    info={"rights": "SELECT, UPDATE"},
)
