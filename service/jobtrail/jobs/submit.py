"""→ pending: a request becomes a committed row. A request that cannot run is refused before anything is stored."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from jobtrail import errors
from jobtrail.db.direct import Statement, fetch_on
from jobtrail.db.engine import Database
from jobtrail.db.group_commit import GroupCommit
from jobtrail.db.tables import SCHEMA
from jobtrail.ids import new_job_id
from jobtrail.jobs.amend import KEY_LIFE
from jobtrail.jobs.query import read
from jobtrail.jobs.room import hold_keys, make_room
from jobtrail.jobs.services import Services, require_rights
from jobtrail.records import AppKey, Job, NewJob
from jobtrail.status import Status
from jobtrail.task.limit import limited
from jobtrail.task.storable import dump
from jobtrail.task.submission import Submission, seconds
from jobtrail.task.task import Task


class Inserted(NamedTuple):
    created_at: datetime
    run_at: datetime


async def submit(services: Services, wanted: Submission, *, by: str, trace_id: str | None = None) -> Job:
    """Store one job; committed when this returns.

    Raises OverloadedError, also as LimitFullError, UnknownTaskError, InvalidArgumentsError, UnavailableError: nothing
    is stored, unless it is an OutcomeUnknownError.
    """
    with services.admission.admit(1):
        new = prepare(services, wanted, by=by, trace_id=trace_id)
        await require_rights(services)
        if new.on_full != "wait":
            async with services.transaction() as session:
                return born(new, (await _insert_all(session, [new]))[new.id])
        return born(new, await insert(services, new))


async def submit_keyed(
    services: Services, wanted: Submission, *, by: str, key: str, trace_id: str | None = None
) -> tuple[Job, bool]:
    """Store a job once per caller and key; the job, and whether it was there already.

    Raises IdempotencyKeyReusedError when the key came with another request before, else as `submit`. Keyed rows never
    ride a group: a caller's open transaction on a key would hold up all the others.
    """
    with services.admission.admit(1):
        new = keyed(prepare(services, wanted, by=by, trace_id=trace_id), wanted, key)
        await require_rights(services)
        async with services.transaction() as session:
            await hold_keys(session, [new])
            stored = await _insert_once(await session.connection(), new)
            if isinstance(stored, Inserted):
                await make_room(session, [new])
    return (born(new, stored), False) if isinstance(stored, Inserted) else (await read(services, stored), True)


async def submit_batch(
    services: Services, wanted: Sequence[Submission], *, by: str, trace_id: str | None = None
) -> Sequence[Job]:
    """Store all of these jobs or none, in one transaction. Raises as `submit`; pointers begin with `/jobs/INDEX`."""

    def prepared(pointer: str, each: Submission) -> NewJob:
        try:
            return prepare(services, each, by=by, trace_id=trace_id)
        except errors.InvalidArgumentsError as error:
            raise error.under(pointer) from None
        except errors.UnknownTaskError as error:
            raise errors.InvalidInputError([errors.FieldError(f"{pointer}/task", str(error))]) from None

    with services.admission.admit(len(wanted)):
        new = [prepared(f"/jobs/{index}", each) for index, each in enumerate(wanted)]
        await require_rights(services)
        async with services.transaction() as session:
            stored = await _insert_all(session, new)
    return [born(each, stored[each.id]) for each in new]


async def submit_together(services: Services, jobs: Sequence[NewJob]) -> Sequence[UUID]:
    """The ids under which they are stored, in their order; committed when this returns.

    An id is another than that of the NewJob where its key was there already.
    Raises IdempotencyKeyReusedError, OverloadedError, UnavailableError: nothing is stored, unless it is an
    OutcomeUnknownError.
    """
    with services.admission.admit(len(jobs)):
        await require_rights(services)
        if len(jobs) == 1 and jobs[0].app_key is None and jobs[0].on_full == "wait":
            await insert(services, jobs[0])
            return [jobs[0].id]
        found: dict[UUID, UUID] = {}
        async with services.transaction() as session:
            await hold_keys(session, jobs)
            connection = await session.connection()
            await _insert(connection, [job for job in jobs if job.app_key is None])
            # in the order of their keys: two callers with the same ones wait for each other, and do not deadlock
            for _, job in sorted(((job.app_key.key, job) for job in jobs if job.app_key), key=lambda each: each[0]):
                stored = await _insert_once(connection, job)
                if not isinstance(stored, Inserted):
                    found[job.id] = stored
            await make_room(session, [job for job in jobs if job.id not in found])
    return [found.get(job.id, job.id) for job in jobs]


def prepare(services: Services, wanted: Submission, *, by: str, trace_id: str | None) -> NewJob:
    """The job to store: the caller's word, else the task's, else the service's. Raises as `submit`."""
    task = services.catalog[wanted.task]
    try:
        args = task.signature.settle(wanted.args)
        keys, terms = _limits(task, args)
    except errors.InvalidArgumentsError as error:
        raise error.under("/args") from None
    job_id = new_job_id()
    if "ttl" in wanted.model_fields_set:
        ttl = ttl_failed = seconds(wanted.ttl)
    elif task.has_ttl:
        ttl = ttl_failed = seconds(task.ttl)
    else:
        ttl, ttl_failed = services.defaults.ttl, services.defaults.ttl_failed
    return NewJob(
        id=job_id,
        task=task.name,
        args=args,
        args_json=dump(args),
        trace_id=trace_id or job_id.hex,
        created_by=by,
        queue=wanted.queue or task.queue,
        priority=task.priority if wanted.priority is None else wanted.priority,
        max_attempts=wanted.max_attempts or task.max_attempts,
        tags=wanted.tags,
        ttl=ttl,
        ttl_failed=ttl_failed,
        timeout=seconds(wanted.timeout if "timeout" in wanted.model_fields_set else task.timeout),
        run_at=wanted.run_at,
        limit_keys=keys,
        limit_terms=terms,
        on_full=task.on_full,
    )


def _limits(task: Task[..., Any], args: Mapping[str, Any]) -> tuple[Sequence[str] | None, str | None]:
    """The keys of the job's limits, and their terms as JSON text. Raises InvalidArgumentsError."""
    if not task.limits:
        return None, None
    found = limited(task.limits, partial(task.signature.json_of, args))
    return found.keys, dump(found.terms)


def keyed(new: NewJob, wanted: Submission, key: str) -> NewJob:
    """The same with the key of a client, whose repeat is the same in every word."""
    said = wanted.model_dump(mode="json", exclude_unset=True)
    return replace(_remembered(new), idempotency_key=key, request_hash=_digest(said))


def app_keyed(new: NewJob, key: str) -> NewJob:
    """The same with a key of the app's: this task with these arguments, once, for all callers and options."""
    return replace(_remembered(new), app_key=AppKey(key, _digest({"task": new.task, "args": new.args})))


def _remembered(new: NewJob) -> NewJob:
    """The same, kept for a day at least: a key lives as long as its row."""
    ttl, ttl_failed = (None if each is None else max(each, KEY_LIFE) for each in (new.ttl, new.ttl_failed))
    return replace(new, ttl=ttl, ttl_failed=ttl_failed)


def _digest(said: Mapping[str, Any]) -> bytes:
    """The same for the same JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(said, sort_keys=True, ensure_ascii=False).encode()).digest()


def born(new: NewJob, times: Inserted) -> Job:
    """The row as it was committed, without reading it again."""
    return Job(
        id=new.id, task=new.task, queue=new.queue, args=new.args, status=Status.PENDING, result=None, error=None,
        trace_id=new.trace_id, priority=new.priority, tags=new.tags, attempt=0, max_attempts=new.max_attempts,
        timeout=new.timeout, progress=None, run_at=times.run_at, created_at=times.created_at, started_at=None,
        finished_at=None, ttl=new.ttl, expires_at=None, cancel_requested_at=None, cancel_reason=None,
        created_by=new.created_by, node_id=None, seq=1, schedule=new.schedule, scheduled_for=new.scheduled_for,
    )  # fmt: skip


# The arrays are named once here; tags travel as array literals because unnest flattens arrays of arrays.
# statement_timestamp: one group has one birth time, and run_at is not a moment before created_at.
_INSERT: Final = Statement("""
INSERT INTO jobtrail.jobs (
    id, task, queue, args, trace_id, priority, tags, max_attempts, timeout, run_at, created_at,
    idempotency_key, request_hash, created_by, moved_by, move_reason, ttl, ttl_failed, limit_keys, limit_terms)
SELECT u.id, u.task, u.queue, u.args, u.trace_id, u.priority, u.tags::text[], u.max_attempts, u.timeout,
       coalesce(u.run_at, statement_timestamp()), statement_timestamp(),
       u.idempotency_key, u.request_hash, u.created_by, u.created_by, 'submitted', u.ttl, u.ttl_failed,
       u.limit_keys::text[], u.limit_terms
  FROM unnest(
    CAST(:id AS uuid[]), CAST(:task AS text[]), CAST(:queue AS text[]), CAST(:args AS jsonb[]),
    CAST(:trace_id AS text[]), CAST(:priority AS smallint[]), CAST(:tags AS text[]), CAST(:max_attempts AS int[]),
    CAST(:timeout AS interval[]), CAST(:run_at AS timestamptz[]), CAST(:idempotency_key AS text[]),
    CAST(:request_hash AS bytea[]), CAST(:created_by AS text[]), CAST(:ttl AS interval[]),
    CAST(:ttl_failed AS interval[]), CAST(:limit_keys AS text[]), CAST(:limit_terms AS jsonb[])
  ) AS u(id, task, queue, args, trace_id, priority, tags, max_attempts, timeout, run_at, idempotency_key,
         request_hash, created_by, ttl, ttl_failed, limit_keys, limit_terms)
ON CONFLICT DO NOTHING
RETURNING id, created_at, coalesce(run_at, due_at)
""")

_BIRTHS: Final = Statement("""
SELECT j.id, j.created_at, coalesce(j.run_at, j.due_at)
  FROM unnest(CAST(:ids AS uuid[])) AS u(id) JOIN jobtrail.jobs j ON j.id = ANY(ARRAY[u.id])
""")

_BY_KEY: Final = text("""
SELECT id, request_hash FROM jobtrail.jobs WHERE created_by = :created_by AND idempotency_key = :key
""").bindparams(bindparam("created_by"), bindparam("key"))

_TAKE_APP_KEY: Final = text("""
INSERT INTO jobtrail.app_keys (key, job_id, request_hash) VALUES (:key, :job_id, :request_hash)
ON CONFLICT DO NOTHING RETURNING job_id
""")

_BY_APP_KEY: Final = text("SELECT job_id AS id, request_hash FROM jobtrail.app_keys WHERE key = :key")


def inserts(services: Services) -> GroupCommit[NewJob, Inserted]:
    """The group commit that carries the submits of this process."""
    return services.group(insert_group, weigh=lambda row: len(row.args_json), lanes=2)


async def insert(services: Services, new: NewJob) -> Inserted:
    """Store a row without a key, together with others. Raises UnavailableError, as `submit`."""
    try:
        return await inserts(services).offer(new)
    except errors.OutcomeUnknownError as error:
        raise errors.OutcomeUnknownError("the database did not answer in time", new.id) from error


async def insert_group(database: Database, rows: Sequence[NewJob]) -> Sequence[Inserted]:
    """Store jobs without keys in one statement and one commit.

    Repeatable: a row that is there already is one that an earlier try committed before its answer was lost.
    """
    found = _births(await database.fetch(_INSERT, **columns(rows)))
    if missing := [row.id for row in rows if row.id not in found]:
        found |= _births(await database.fetch(_BIRTHS, ids=missing))
    return [found[row.id] for row in rows]


async def _insert_once(connection: AsyncConnection, new: NewJob) -> Inserted | UUID:
    """Store a job with a key in the caller's transaction; where the key came with the same request before, the id of
    the job that has it. Raises IdempotencyKeyReusedError.

    A key of the app's is taken before the row is stored. A second statement reads who has a key, since the first cannot
    see a row that was committed after it began; that job may have been purged in between, so again.
    """
    key, request_hash = new.idempotency_key or "", new.request_hash
    if (app_key := new.app_key) is not None:
        key, request_hash = app_key.key, app_key.request_hash
    taken = {"key": key, "job_id": new.id, "request_hash": request_hash}
    while True:
        if app_key is None or (await connection.execute(_TAKE_APP_KEY, taken)).one_or_none() is not None:
            stored = (await _insert(connection, [new])).get(new.id)
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


async def _insert_all(session: AsyncSession, rows: Sequence[NewJob]) -> dict[UUID, Inserted]:
    """In the caller's transaction, which began with this. Raises LimitFullError."""
    await hold_keys(session, rows)
    stored = await _insert(await session.connection(), rows)
    await make_room(session, rows)
    return stored


async def _insert(connection: AsyncConnection, rows: Sequence[NewJob]) -> dict[UUID, Inserted]:
    return _births(await fetch_on(connection, _INSERT, SCHEMA, **columns(rows))) if rows else {}


def columns(rows: Sequence[NewJob]) -> dict[str, Sequence[Any]]:
    """The new rows as arrays, one for each column."""
    values = zip(*map(_as_they_are, rows), strict=True) if rows else [()] * len(AS_THEY_ARE)
    found: dict[str, Sequence[Any]] = dict(zip(AS_THEY_ARE, values, strict=True))
    found["args"] = [row.args_json for row in rows]
    found["tags"] = [_array_literal(row.tags) for row in rows]
    found["limit_keys"] = [None if row.limit_keys is None else _array_literal(row.limit_keys) for row in rows]
    return found


AS_THEY_ARE: Final = (
    "id", "task", "queue", "trace_id", "priority", "max_attempts", "timeout", "run_at", "idempotency_key",
    "request_hash", "created_by", "ttl", "ttl_failed", "limit_terms",
)  # fmt: skip
"""The columns of a new row that are its fields; args, tags and limit keys go in another form."""

_as_they_are: Final = attrgetter(*AS_THEY_ARE)


def _births(rows: Sequence[Any]) -> dict[UUID, Inserted]:
    return {job_id: Inserted(created_at, run_at) for job_id, created_at, run_at in rows}


def _array_literal(texts: Sequence[str]) -> str:
    """PostgreSQL's text form of an array (PostgreSQL, "Array Input and Output Syntax")."""
    quoted = (each.replace("\\", "\\\\").replace('"', '\\"') for each in texts)
    return "{" + ",".join(f'"{each}"' for each in quoted) + "}"
