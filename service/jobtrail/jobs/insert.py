"""The INSERT of new jobs: of many in one group commit, in a caller's transaction, or once per key."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Interval, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from jobtrail import errors
from jobtrail.db.direct import Statement, arrays, fetch_on
from jobtrail.db.engine import Database
from jobtrail.db.group_commit import GroupCommit
from jobtrail.db.tables import SCHEMA, TEXTS, TIME
from jobtrail.jobs.services import Services
from jobtrail.records import NewJob


class Inserted(NamedTuple):
    created_at: datetime
    run_at: datetime


# The arrays are named once here; those with arrays travel as array literals, because unnest flattens them.
# statement_timestamp: one group has one birth time, and run_at is not a moment before created_at.
_INSERT: Final = Statement("""
INSERT INTO jobtrail.jobs (
    id, task, queue, args, trace_id, priority, tags, max_attempts, timeout, run_at, created_at,
    idempotency_key, request_hash, created_by, moved_by, move_reason, ttl, ttl_failed, after, batch_id, limit_keys,
    limit_terms, unique_key, replaceable, trace_parent, callback_url)
SELECT u.id, u.task, u.queue, u.args, u.trace_id, u.priority, u.tags::text[], u.max_attempts, u.timeout,
       coalesce(u.run_at, statement_timestamp()), statement_timestamp(),
       u.idempotency_key, u.request_hash, u.created_by, u.created_by, 'submitted', u.ttl, u.ttl_failed,
       u.after::uuid[], u.batch_id, u.limit_keys::text[], u.limit_terms, u.unique_key, u.replaceable,
       u.trace_parent, u.callback_url
  FROM unnest(
    CAST(:id AS uuid[]), CAST(:task AS text[]), CAST(:queue AS text[]), CAST(:args AS jsonb[]),
    CAST(:trace_id AS text[]), CAST(:priority AS smallint[]), CAST(:tags AS text[]), CAST(:max_attempts AS int[]),
    CAST(:timeout AS interval[]), CAST(:run_at AS timestamptz[]), CAST(:idempotency_key AS text[]),
    CAST(:request_hash AS bytea[]), CAST(:created_by AS text[]), CAST(:ttl AS interval[]),
    CAST(:ttl_failed AS interval[]), CAST(:after AS text[]), CAST(:batch_id AS uuid[]), CAST(:limit_keys AS text[]),
    CAST(:limit_terms AS jsonb[]), CAST(:unique_key AS text[]), CAST(:replaceable AS boolean[]),
    CAST(:trace_parent AS text[]), CAST(:callback_url AS text[])
  ) AS u(id, task, queue, args, trace_id, priority, tags, max_attempts, timeout, run_at, idempotency_key,
         request_hash, created_by, ttl, ttl_failed, after, batch_id, limit_keys, limit_terms, unique_key, replaceable,
         trace_parent, callback_url)
ON CONFLICT DO NOTHING
RETURNING id, created_at, coalesce(run_at, due_at)
""")

_BIRTHS: Final = Statement("""
SELECT j.id, j.created_at, coalesce(j.run_at, j.due_at)
  FROM unnest(CAST(:ids AS uuid[])) AS u(id) JOIN jobtrail.jobs j ON j.id = ANY(ARRAY[u.id])
""")

_BY_KEY: Final = text("""
SELECT id, request_hash FROM jobtrail.jobs WHERE created_by = :created_by AND idempotency_key = :key
""")

_TAKE_APP_KEY: Final = text("""
INSERT INTO jobtrail.app_keys (key, job_id, request_hash) VALUES (:key, :job_id, :request_hash)
ON CONFLICT DO NOTHING RETURNING job_id
""")

_BY_APP_KEY: Final = text("SELECT job_id AS id, request_hash FROM jobtrail.app_keys WHERE key = :key")

_UNFINISHED: Final = text("""
SELECT id, task FROM jobtrail.jobs
 WHERE unique_key = :key AND NOT replaceable AND status || '' IN ('pending', 'running')
""")

# A claim of it is waited for: then it is not the one that waits any more.
_WAITING: Final = text("""
SELECT id, task FROM jobtrail.jobs
 WHERE unique_key = :key AND replaceable AND status || '' = 'pending' AND attempt = 0 FOR NO KEY UPDATE
""")

# Its id and its trace stay. It is that of who submitted it last, whose arguments it has: who did so before may not be
# allowed to read them.
_REPLACE: Final = text("""
UPDATE jobtrail.jobs
   SET seq = seq + 1, moved_by = :created_by, move_reason = 'replaced', created_by = :created_by,
       args = CAST(CAST(:args AS text) AS jsonb), queue = :queue, priority = :priority, tags = :tags,
       max_attempts = :max_attempts, timeout = :timeout, ttl = :ttl, ttl_failed = :ttl_failed, limit_keys = :limit_keys,
       limit_terms = CAST(CAST(:limit_terms AS text) AS jsonb), callback_url = :callback_url,
       run_at = least(coalesce(:run_at, statement_timestamp()),
                      greatest(created_at + :max_delay, statement_timestamp()))
 WHERE id = :id
""").bindparams(
    bindparam("tags", type_=TEXTS), bindparam("limit_keys", type_=TEXTS), bindparam("timeout", type_=Interval),
    bindparam("ttl", type_=Interval), bindparam("ttl_failed", type_=Interval), bindparam("run_at", type_=TIME),
    bindparam("max_delay", type_=Interval),
)  # fmt: skip


def inserts(services: Services) -> GroupCommit[NewJob, Inserted]:
    """The group commit that carries the submits of this process."""
    return services.group(insert_group, weigh=lambda row: len(row.args_json), lanes=2)


async def insert_group(database: Database, rows: Sequence[NewJob]) -> Sequence[Inserted]:
    """Store jobs without keys in one statement and one commit.

    Repeatable: a row that is there already is one that an earlier try committed before its answer was lost.
    """
    found = _births(await database.fetch(_INSERT, **columns(rows)))
    if missing := [row.id for row in rows if row.id not in found]:
        found |= _births(await database.fetch(_BIRTHS, ids=missing))
    return [found[row.id] for row in rows]


async def insert_once(connection: AsyncConnection, new: NewJob) -> Inserted | UUID:
    """Store a job with a key in the caller's transaction; where the key came with the same request before, the id of
    the job that has it. Raises IdempotencyKeyReusedError, and InvalidInputError for a unique key of another task.

    A key of the app's is taken before the row is stored. A second statement reads who has a key, since the first cannot
    see a row that was committed after it began; that job may have been purged in between, so again.
    """
    if new.unique_key is not None:
        return await _insert_unique(connection, new)
    key, request_hash = new.idempotency_key or "", new.request_hash
    if (app_key := new.app_key) is not None:
        key, request_hash = app_key.key, app_key.request_hash
    taken = {"key": key, "job_id": new.id, "request_hash": request_hash}
    while True:
        if app_key is None or (await connection.execute(_TAKE_APP_KEY, taken)).one_or_none() is not None:
            stored = (await insert_rows(connection, [new])).get(new.id)
            if stored is not None:
                return stored
        if app_key is None:
            held = await connection.execute(_BY_KEY, {"created_by": new.created_by, "key": key})
        else:
            held = await connection.execute(_BY_APP_KEY, {"key": key})
        if (holder := held.one_or_none()) is None:
            continue
        if holder.request_hash != request_hash:
            reused = errors.IdempotencyKeyReusedError if app_key is None else errors.AppKeyReusedError
            raise reused(key, holder.id)
        found: UUID = holder.id
        return found


async def _insert_unique(connection: AsyncConnection, new: NewJob) -> Inserted | UUID:
    """Store a job with a unique key in the caller's transaction; where another one has the key, the id of that, which
    takes the values of the new one if it is replaceable. Raises InvalidInputError where it is of another task.

    The insert waits for a transaction that is storing the key, and sees its row then. That may be finished, or begun,
    before it is read: so again.
    """
    key = {"key": new.unique_key}
    while True:
        if (stored := (await insert_rows(connection, [new])).get(new.id)) is not None:
            return stored
        holder = (await connection.execute(_WAITING if new.replaceable else _UNFINISHED, key)).one_or_none()
        if holder is None:
            continue
        if holder.task != new.task:
            flaw = "an unfinished job of another task has it: begin the keys of each task in another way"
            raise errors.InvalidInputError([errors.FieldError("/unique_key", flaw)])
        if new.replaceable:
            values = {name: getattr(new, name) for name in _REPLACED}
            await connection.execute(_REPLACE, values | {"id": holder.id, "args": new.args_json})
        found: UUID = holder.id
        return found


async def insert_rows(connection: AsyncConnection, rows: Sequence[NewJob]) -> dict[UUID, Inserted]:
    """In the caller's transaction; without those that are there already."""
    return _births(await fetch_on(connection, _INSERT, SCHEMA, **columns(rows))) if rows else {}


def columns(rows: Sequence[NewJob]) -> dict[str, Sequence[Any] | None]:
    """The new rows as arrays, one for each column; None for one of NULLs."""
    values = zip(*map(_as_they_are, rows), strict=True) if rows else [()] * len(AS_THEY_ARE)
    found: dict[str, Sequence[Any]] = dict(zip(AS_THEY_ARE, values, strict=True))
    found["args"] = [row.args_json for row in rows]
    found["tags"] = [_array_literal(row.tags) for row in rows]
    found["after"] = [_array_literal(map(str, row.after)) if row.after else None for row in rows]
    found["limit_keys"] = [None if row.limit_keys is None else _array_literal(row.limit_keys) for row in rows]
    return arrays(found)


AS_THEY_ARE: Final = (
    "id", "task", "queue", "trace_id", "priority", "max_attempts", "timeout", "run_at", "idempotency_key",
    "request_hash", "created_by", "ttl", "ttl_failed", "batch_id", "limit_terms", "unique_key", "replaceable",
    "trace_parent", "callback_url",
)  # fmt: skip
"""The columns of a new row that are its fields; args and those with arrays go in another form."""

_REPLACED: Final = (
    "created_by", "queue", "priority", "tags", "max_attempts", "timeout", "ttl", "ttl_failed", "limit_keys",
    "limit_terms", "run_at", "max_delay", "callback_url",
)  # fmt: skip

_as_they_are: Final = attrgetter(*AS_THEY_ARE)


def _births(rows: Sequence[Any]) -> dict[UUID, Inserted]:
    return {job_id: Inserted(created_at, run_at) for job_id, created_at, run_at in rows}


def _array_literal(texts: Iterable[str]) -> str:
    """PostgreSQL's text form of an array (PostgreSQL, "Array Input and Output Syntax")."""
    quoted = (each.replace("\\", "\\\\").replace('"', '\\"') for each in texts)
    return "{" + ",".join(f'"{each}"' for each in quoted) + "}"
