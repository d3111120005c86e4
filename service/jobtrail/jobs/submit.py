"""→ pending: a request becomes a committed row. A request that cannot run is refused before anything is stored."""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from jobtrail import errors
from jobtrail.ids import new_job_id
from jobtrail.jobs.after import hint_of, require_parents
from jobtrail.jobs.amend import KEY_LIFE
from jobtrail.jobs.backlog import count_pending, require_room
from jobtrail.jobs.insert import Inserted, insert, insert_once, insert_rows
from jobtrail.jobs.query import read
from jobtrail.jobs.room import hold_keys, make_room
from jobtrail.jobs.services import Services, require_rights
from jobtrail.records import AppKey, Job, NewJob
from jobtrail.status import Status
from jobtrail.task.limit import limited
from jobtrail.task.storable import dump
from jobtrail.task.submission import Submission, seconds
from jobtrail.task.task import Task

Beside = Callable[[AsyncConnection], Awaitable[None]]
"""What else is stored in the transaction of new rows."""


async def submit(
    services: Services, wanted: Submission, *, by: str, trace_id: str | None = None, only_of: str | None = None
) -> Job:
    """Store one job; committed when this returns. `only_of`: it may come after jobs of this caller only.

    Raises OverloadedError, also as LimitFullError or BacklogFullError, UnknownTaskError, InvalidArgumentsError,
    InvalidInputError for an unknown id in `after`, UnavailableError: nothing is stored, unless it is an
    OutcomeUnknownError.
    """
    with services.admission.admit(1):
        new = prepare(services, wanted, by=by, trace_id=trace_id)
        await require_rights(services)
        if services.limits_pending:
            await count_pending(services, [new])
            require_room(services, [new])
        if new.after or new.on_full != "wait":
            stored = await insert_all(services, {"": new}, only_of=only_of)
            return born(new, stored[new.id])
        return born(new, await insert(services, new))


async def submit_keyed(
    services: Services,
    wanted: Submission,
    *,
    by: str,
    key: str,
    trace_id: str | None = None,
    only_of: str | None = None,
) -> tuple[Job, bool]:
    """Store a job once per caller and key; the job, and whether it was there already.

    Raises IdempotencyKeyReusedError when the key came with another request before, else as `submit`. Keyed rows never
    ride a group: a caller's open transaction on a key would hold up all the others.
    """
    with services.admission.admit(1):
        new = keyed(prepare(services, wanted, by=by, trace_id=trace_id), wanted, key)
        await require_rights(services)
        await count_pending(services, [new])
        async with services.transaction() as session:
            await hold_keys(session, [new])
            connection = await session.connection()
            stored = await insert_once(connection, new)
            if isinstance(stored, Inserted):
                require_room(services, [new])
                await require_parents(connection, [("", new)], only_of=only_of)
                await make_room(session, [new])
        await hint_of(services, [new])
    return (born(new, stored), False) if isinstance(stored, Inserted) else (await read(services, stored), True)


async def submit_batch(
    services: Services,
    wanted: Sequence[Submission],
    *,
    by: str,
    trace_id: str | None = None,
    only_of: str | None = None,
) -> Sequence[Job]:
    """Store all of these jobs or none, in one transaction. Raises as `submit`; pointers begin with `/jobs/INDEX`."""
    with services.admission.admit(len(wanted)):
        pointers = {f"/jobs/{index}": each for index, each in enumerate(wanted)}
        new = prepare_all(services, pointers, by=by, trace_id=trace_id)
        await require_rights(services)
        stored = await insert_all(services, new, only_of=only_of)
    return [born(each, stored[each.id]) for each in new.values()]


def prepare_all(
    services: Services, wanted: Mapping[str, Submission], *, by: str, trace_id: str | None
) -> Mapping[str, NewJob]:
    """The jobs to store, by the pointers of what is wanted, with which those of all flaws begin. Raises as `submit`."""

    def prepared(pointer: str, each: Submission) -> NewJob:
        try:
            return prepare(services, each, by=by, trace_id=trace_id)
        except errors.InvalidArgumentsError as error:
            raise error.under(pointer) from None
        except errors.UnknownTaskError as error:
            raise errors.InvalidInputError([errors.FieldError(f"{pointer}/task", str(error))]) from None

    return {pointer: prepared(pointer, each) for pointer, each in wanted.items()}


async def insert_all(
    services: Services, rows: Mapping[str, NewJob], *, only_of: str | None, beside: Beside | None = None
) -> Mapping[UUID, Inserted]:
    """Store rows without keys in one transaction of their own, and what is stored `beside` them; the pointers are those
    of flaws in `after`. Raises LimitFullError, BacklogFullError.
    """
    new = list(rows.values())
    await count_pending(services, new)
    require_room(services, new)
    async with services.transaction() as session:
        await hold_keys(session, new)
        connection = await session.connection()
        stored = await insert_rows(connection, new)
        await require_parents(connection, rows.items(), only_of=only_of)
        await make_room(session, new)
        if beside is not None:
            await beside(connection)
    await hint_of(services, new)
    return stored


async def submit_together(
    services: Services, jobs: Sequence[NewJob], *, beside: Beside | None = None
) -> Sequence[UUID]:
    """The ids under which they are stored, in their order, with what is stored `beside` them; committed when this
    returns.

    An id is another than that of the NewJob where its key was there already. Jobs may come after each other.
    Raises IdempotencyKeyReusedError, InvalidInputError for an unknown id in `after`, OverloadedError,
    UnavailableError: nothing is stored, unless it is an OutcomeUnknownError.
    """
    with services.admission.admit(len(jobs)):
        await require_rights(services)
        if services.limits_pending:
            await count_pending(services, jobs)
        if len(jobs) == 1 and jobs[0].app_key is None and jobs[0].on_full == "wait" and not (jobs[0].after or beside):
            if services.limits_pending:
                require_room(services, jobs)
            await insert(services, jobs[0])
            return [jobs[0].id]
        found: dict[UUID, UUID] = {}
        async with services.transaction() as session:
            await hold_keys(session, jobs)
            connection = await session.connection()
            await insert_rows(connection, [job for job in jobs if job.app_key is None])
            # in the order of their keys: two callers with the same ones wait for each other, and do not deadlock
            for _, job in sorted(((job.app_key.key, job) for job in jobs if job.app_key), key=lambda each: each[0]):
                stored = await insert_once(connection, job)
                if not isinstance(stored, Inserted):
                    found[job.id] = stored
            added = [job for job in jobs if job.id not in found]
            require_room(services, added)
            await require_parents(connection, [("", job) for job in added], only_of=None)
            await make_room(session, added)
            if beside is not None:
                await beside(connection)
        await hint_of(services, jobs)
    return [found.get(job.id, job.id) for job in jobs]


def prepare(services: Services, wanted: Submission, *, by: str, trace_id: str | None) -> NewJob:
    """The job to store: the caller's word, else the task's, else the service's. Raises as `submit`."""
    task = services.catalog[wanted.task]
    try:
        args = task.signature.settle(wanted.args)
        keys, terms, max_pending = _limits(task, args)
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
        after=wanted.after,
        limit_keys=keys,
        limit_terms=terms,
        on_full=task.on_full,
        max_pending=max_pending,
    )


def _limits(
    task: Task[..., Any], args: Mapping[str, Any]
) -> tuple[Sequence[str] | None, str | None, Mapping[str, int] | None]:
    """The keys of the job's limits, their terms as JSON text, and how many of a key may be pending. Raises
    InvalidArgumentsError.
    """
    if not task.limits:
        return None, None, None
    found = limited(task.limits, partial(task.signature.json_of, args))
    return found.keys, dump(found.terms), found.max_pending


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
        timeout=new.timeout, progress=None, run_at=times.run_at, after=new.after, created_at=times.created_at,
        started_at=None, finished_at=None, ttl=new.ttl, expires_at=None, cancel_requested_at=None, cancel_reason=None,
        created_by=new.created_by, node_id=None, batch_id=new.batch_id, seq=1, schedule=new.schedule,
        scheduled_for=new.scheduled_for,
    )  # fmt: skip
