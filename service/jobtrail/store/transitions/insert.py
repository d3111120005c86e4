"""→ pending."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from jobtrail.job.record import AppKey, NewJob
from jobtrail.store.engine import Database


class Inserted(NamedTuple):
    created_at: datetime
    run_at: datetime


# The arrays are named once here; tags travel as array literals because unnest flattens arrays of arrays.
# statement_timestamp: one group has one birth time, and run_at is not a moment before created_at.
_INSERT: Final = text("""
INSERT INTO jobtrail.jobs (
    id, task, queue, args, trace_id, priority, tags, max_attempts, timeout, run_at, created_at,
    idempotency_key, request_hash, created_by, moved_by, move_reason, ttl, ttl_failed)
SELECT u.id, u.task, u.queue, u.args, u.trace_id, u.priority, u.tags::text[], u.max_attempts, u.timeout,
       coalesce(u.run_at, statement_timestamp()), statement_timestamp(),
       u.idempotency_key, u.request_hash, u.created_by, u.created_by, 'submitted', u.ttl, u.ttl_failed
  FROM unnest(
    CAST(:id AS uuid[]), CAST(:task AS text[]), CAST(:queue AS text[]), CAST(:args AS jsonb[]),
    CAST(:trace_id AS text[]), CAST(:priority AS smallint[]), CAST(:tags AS text[]), CAST(:max_attempts AS int[]),
    CAST(:timeout AS interval[]), CAST(:run_at AS timestamptz[]), CAST(:idempotency_key AS text[]),
    CAST(:request_hash AS bytea[]), CAST(:created_by AS text[]), CAST(:ttl AS interval[]),
    CAST(:ttl_failed AS interval[])
  ) AS u(id, task, queue, args, trace_id, priority, tags, max_attempts, timeout, run_at, idempotency_key,
         request_hash, created_by, ttl, ttl_failed)
ON CONFLICT DO NOTHING
RETURNING id, created_at, run_at
""")

_BIRTHS: Final = text("SELECT id, created_at, run_at FROM jobtrail.jobs WHERE id = ANY(:ids)")

_BY_KEY: Final = text("""
SELECT id, request_hash FROM jobtrail.jobs WHERE created_by = :created_by AND idempotency_key = :key
""").bindparams(bindparam("created_by"), bindparam("key"))

_TAKE_APP_KEY: Final = text("""
INSERT INTO jobtrail.app_keys (key, job_id, request_hash) VALUES (:key, :job_id, :request_hash)
ON CONFLICT DO NOTHING RETURNING job_id
""")

_BY_APP_KEY: Final = text("SELECT job_id, request_hash FROM jobtrail.app_keys WHERE key = :key")


async def insert_group(database: Database, rows: Sequence[NewJob]) -> Sequence[Inserted]:
    """Store jobs without keys in one statement and one commit.

    Repeatable: a row that is there already is one that an earlier try committed before its answer was lost.
    """
    async with database.autocommit() as connection:
        found = await _insert(connection, rows)
        missing = [row.id for row in rows if row.id not in found]
        if missing:
            found |= _births(await connection.execute(_BIRTHS, {"ids": missing}))
    return [found[row.id] for row in rows]


async def insert_all(session: AsyncSession, rows: Sequence[NewJob]) -> Sequence[Inserted]:
    """Store jobs without keys in the caller's transaction: all or none."""
    if not rows:
        return []
    found = await _insert(await session.connection(), rows)
    return [found[row.id] for row in rows]


class KeyHolder(NamedTuple):
    """The job that a key belongs to, and the hash of the request that brought it."""

    id: UUID
    request_hash: bytes


async def insert_keyed(session: AsyncSession, row: NewJob) -> Inserted | KeyHolder:
    """Store a job with a key in the caller's transaction, or find the job that has the key.

    A second statement reads the key, since the first cannot see a row that was committed after it began; the holder
    may have been purged in between, so again.
    """
    connection = await session.connection()
    while True:
        found = await _insert(connection, [row])
        if row.id in found:
            return found[row.id]
        holder = (
            await connection.execute(_BY_KEY, {"created_by": row.created_by, "key": row.idempotency_key})
        ).one_or_none()
        if holder is not None:
            return KeyHolder(holder.id, holder.request_hash)


async def insert_app_keyed(session: AsyncSession, row: NewJob, app_key: AppKey) -> Inserted | KeyHolder:
    """The same for a job with a key of the app's, which is taken before the row is stored."""
    connection = await session.connection()
    taken = {"key": app_key.key, "job_id": row.id, "request_hash": app_key.request_hash}
    while (await connection.execute(_TAKE_APP_KEY, taken)).one_or_none() is None:
        holder = (await connection.execute(_BY_APP_KEY, {"key": app_key.key})).one_or_none()
        if holder is not None:
            return KeyHolder(holder.job_id, holder.request_hash)
    return (await _insert(connection, [row]))[row.id]


async def _insert(connection: AsyncConnection, rows: Sequence[NewJob]) -> dict[UUID, Inserted]:
    columns: dict[str, list[Any]] = {
        "id": [row.id for row in rows],
        "task": [row.task for row in rows],
        "queue": [row.queue for row in rows],
        "args": [row.args_json for row in rows],
        "trace_id": [row.trace_id for row in rows],
        "priority": [row.priority for row in rows],
        "tags": [_array_literal(row.tags) for row in rows],
        "max_attempts": [row.max_attempts for row in rows],
        "timeout": [row.timeout for row in rows],
        "run_at": [row.run_at for row in rows],
        "idempotency_key": [row.idempotency_key for row in rows],
        "request_hash": [row.request_hash for row in rows],
        "created_by": [row.created_by for row in rows],
        "ttl": [row.ttl for row in rows],
        "ttl_failed": [row.ttl_failed for row in rows],
    }
    return _births(await connection.execute(_INSERT, columns))


def _births(rows: Any) -> dict[UUID, Inserted]:
    return {row.id: Inserted(row.created_at, row.run_at) for row in rows}


def _array_literal(texts: Sequence[str]) -> str:
    """PostgreSQL's text form of an array (PostgreSQL, "Array Input and Output Syntax")."""
    quoted = (each.replace("\\", "\\\\").replace('"', '\\"') for each in texts)
    return "{" + ",".join(f'"{each}"' for each in quoted) + "}"
