"""→ pending: a request becomes a committed row. A request that cannot run is refused before anything is stored."""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from jobtrail import errors, tracing
from jobtrail.ids import Trace, new_job_id
from jobtrail.jobs.after import hint_of, require_parents
from jobtrail.jobs.amend import KEY_LIFE
from jobtrail.jobs.insert import Inserted, insert_once, insert_rows, inserts
from jobtrail.jobs.max_pending import count_pending, require_room
from jobtrail.jobs.on_full import hold_keys, make_room
from jobtrail.jobs.query import read
from jobtrail.jobs.services import Services, require_rights
from jobtrail.records import AppKey, Job, NewJob
from jobtrail.status import Status
from jobtrail.task.limit import limited, with_key
from jobtrail.task.storable import dump
from jobtrail.task.submission import Submission, reserved, seconds
from jobtrail.task.task import Task
from jobtrail.task.unique import LIMIT_KEY, NOTHING, UNIQUE_FIELDS, Unique, later, resolve

Placed = tuple[str, NewJob]
"""A job to be stored, after the pointer to its place in the request."""

Beside = Callable[[AsyncConnection], Awaitable[None]]
"""What else is stored in the transaction of new rows."""


async def submit(
    services: Services,
    wanted: Submission,
    *,
    by: str,
    key: str | None = None,
    trace: Trace | None = None,
    only_of: str | None = None,
) -> tuple[Job, bool]:
    """Store one job, once per caller and `key` or per unique key; the job, and whether it was there already. Committed
    when this returns. `only_of`: it may come after jobs of this caller only.

    Raises OverloadedError, also as LimitFullError or BacklogFullError, UnknownTaskError, InvalidArgumentsError,
    InvalidInputError for an unknown id in `after`, IdempotencyKeyReusedError when the key came with another request
    before, UnavailableError: nothing is stored, unless it is an OutcomeUnknownError.
    """
    with services.admission.admit(1):
        new = prepare(services, wanted, by=by, trace=trace)
        if key is not None:
            new = keyed(new, wanted, key)
        await require_rights(services)
        while True:
            found = (await store(services, [("", new)], only_of=only_of))[new.id]
            if isinstance(found, Inserted):
                return born(new, found), False
            with suppress(errors.JobNotFoundError):  # it may have ended and been purged meanwhile, so again
                return await read(services, found), True


async def submit_batch(
    services: Services,
    wanted: Sequence[Submission],
    *,
    by: str,
    trace: Trace | None = None,
    only_of: str | None = None,
) -> Sequence[Job]:
    """Store all of these jobs or none, in one transaction; those whose unique key is taken are the ones that have it.

    Raises as `submit`; pointers begin with `/jobs/INDEX`.
    """
    with services.admission.admit(len(wanted)):
        rows = prepare_all(services, wanted, by=by, trace=trace)
        await require_rights(services)
        stored = await store(services, rows, only_of=only_of)
    there = {each: await read(services, each) for each in {*stored.values()} if isinstance(each, UUID)}
    found = [(new, stored[new.id]) for _, new in rows]
    return [born(new, each) if isinstance(each, Inserted) else there[each] for new, each in found]


def prepare_all(services: Services, wanted: Sequence[Submission], *, by: str, trace: Trace | None) -> Sequence[Placed]:
    """The jobs to store. Raises as `submit`; pointers begin with `/jobs/INDEX`."""
    pointers = [f"/jobs/{index}" for index in range(len(wanted))]
    return [
        (each, prepare_at(services, each, wanted[place], by=by, trace=trace)) for place, each in enumerate(pointers)
    ]


def prepare_at(services: Services, pointer: str, wanted: Submission, *, by: str, trace: Trace | None) -> NewJob:
    """As `prepare`, of a submission that is part of a request."""
    try:
        return prepare(services, wanted, by=by, trace=trace)
    except errors.InvalidInputError as error:
        raise error.under(pointer) from None
    except errors.UnknownTaskError as error:
        raise errors.InvalidInputError([errors.FieldError(f"{pointer}/task", str(error))]) from None


async def store(
    services: Services, rows: Sequence[Placed], *, only_of: str | None = None, beside: Beside | None = None
) -> Mapping[UUID, Inserted | UUID]:
    """Store all of these jobs, and what is stored `beside` them, or nothing. By their ids: when each was born, or which
    job has its key. They may come after each other. Raises as `submit`.
    """
    jobs = [new for _, new in rows]
    stored: dict[UUID, Inserted | UUID] = {}
    with tracing.sends(jobs):
        if services.limits_pending:
            await count_pending(services, jobs)
        if len(jobs) == 1 and beside is None and jobs[0].is_plain:
            new = jobs[0]
            if services.limits_pending:
                require_room(services, jobs)
            try:
                stored = {new.id: await inserts(services).offer(new)}
            except errors.OutcomeUnknownError as error:
                raise errors.OutcomeUnknownError("the database did not answer in time", new.id) from error
            services.meters.tasks[new.task].accepted += 1
            return stored
        async with services.transaction() as session:
            await hold_keys(session, jobs)
            connection = await session.connection()
            stored |= await insert_rows(connection, [new for new in jobs if new.key is None])
            stored |= await _store_keyed(connection, rows)
            added = [(pointer, new) for pointer, new in rows if isinstance(stored[new.id], Inserted)]
            if services.limits_pending:
                require_room(services, [new for _, new in added])
            await require_parents(connection, added, only_of=only_of)
            await make_room(session, [new for _, new in added])
            if beside is not None:
                await beside(connection)
        for _, new in added:
            services.meters.tasks[new.task].accepted += 1
        if any(new.replaceable for _, new in added):
            services.has_limited.set()
        await hint_of(services, jobs)
        return stored


async def _store_keyed(connection: AsyncConnection, rows: Sequence[Placed]) -> Mapping[UUID, Inserted | UUID]:
    """Those of the rows that have a key. They never ride a group, where a caller's open transaction on a key would hold
    up all others. They go in the order of their keys: two callers with the same ones wait for each other, and do not
    deadlock. Of several with a key that is replaced the last one is stored, as the others would be replaced at once.
    """
    once = [(new.key, pointer, new) for pointer, new in rows if new.key is not None]
    latest = {key: new for key, _, new in once if new.replaceable}
    stored: dict[UUID, Inserted | UUID] = {}
    for key, pointer, new in sorted(once, key=itemgetter(0)):
        if latest.get(key, new) is new:
            try:
                stored[new.id] = await insert_once(connection, new)
            except errors.InvalidInputError as error:
                raise error.under(pointer) from None
    for key, _, new in once:
        if new.id not in stored:
            found = stored[latest[key].id]
            stored[new.id] = latest[key].id if isinstance(found, Inserted) else found
    return stored


def prepare(services: Services, wanted: Submission, *, by: str, trace: Trace | None) -> NewJob:
    """The job to store: the caller's word, else the task's, else the service's. Raises as `submit`."""
    if flaws := _flaws(services, wanted):
        raise errors.InvalidInputError(flaws)
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
    new = NewJob(
        id=job_id,
        task=task.name,
        args=args,
        args_json=dump(args),
        trace_id=job_id.hex if trace is None else trace.id,
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
        trace_parent=None if trace is None else trace.parent,
        callback_url=wanted.callback_url,
    )
    if wanted.callback_url is not None:
        new = _remembered(new)
    if task.unique is NOTHING and wanted.model_fields_set.isdisjoint(UNIQUE_FIELDS):
        return new
    return _made_unique(new, task, wanted)


def _flaws(services: Services, wanted: Submission) -> list[errors.FieldError]:
    """What is wrong with a submission whatever its task: a reserved name, a receiver that may not be called."""
    flaws = reserved(wanted.task, wanted.queue)
    if wanted.callback_url is not None:
        flaw = services.outbound.flaw_of(wanted.callback_url)
        if not services.outbound.secrets:
            flaw = "there is no secret to sign it with: set JOBTRAIL_WEBHOOK_SECRET"
        if flaw is not None:
            flaws.append(errors.FieldError("/callback_url", flaw))
    return flaws


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


def _made_unique(new: NewJob, task: Task[..., Any], wanted: Submission) -> NewJob:
    """The same with what task and caller say of its unique key and delay. Raises InvalidInputError."""
    said = Unique(wanted.unique_key, wanted.on_duplicate, wanted.delay, wanted.max_delay)
    try:
        unique = resolve(said, task.unique, task.signature.parameters, partial(task.signature.json_of, new.args))
    except errors.InvalidArgumentsError as error:
        raise error.under("/args") from None
    flaws = []
    if wanted.run_at is not None and wanted.delay is not None:
        flaws.append(errors.FieldError("/delay", "run_at says when: write one of the two"))
    if unique.replaces and new.after:
        flaws.append(errors.FieldError("/after", "a job whose arguments may be replaced comes after no others"))
    if unique.replaces and task.on_full != "wait":
        advice = f"the task has on_full={task.on_full!r}, by which a new job is judged, and a replacement is none"
        flaws.append(errors.FieldError("/on_duplicate", advice))
    if flaws:
        raise errors.InvalidInputError(flaws)
    if unique.replaces:
        new.limit_keys = with_key(new.limit_keys, LIMIT_KEY.format(unique.unique_key), "/unique_key")
    if new.run_at is None and unique.delay:
        new.run_at = later(unique.delay)
    if unique.max_delay is not None:
        new.run_at = min(new.run_at or datetime.now(UTC), later(unique.max_delay))
    new.unique_key, new.replaceable, new.max_delay = unique.unique_key, unique.replaces, seconds(unique.max_delay)
    return new


_TWO_KEYS: Final = (
    "this job has a unique key: a repeat gives the unfinished job of that, and when it has ended, another; take one of "
    "the two keys"
)


def keyed(new: NewJob, wanted: Submission, key: str) -> NewJob:
    """The same with the key of a client, whose repeat is the same in every word."""
    if new.unique_key is not None:
        raise errors.InvalidInputError([errors.FieldError("Idempotency-Key:", _TWO_KEYS)])
    said = wanted.model_dump(mode="json", exclude_unset=True)
    return replace(_remembered(new), idempotency_key=key, request_hash=_digest(said))


def app_keyed(new: NewJob, key: str) -> NewJob:
    """The same with a key of the app's: this task with these arguments, once, for all callers and options."""
    if new.unique_key is not None:
        raise errors.InvalidInputError([errors.FieldError("/idempotency_key", _TWO_KEYS)])
    return replace(_remembered(new), app_key=AppKey(key, _digest({"task": new.task, "args": new.args})))


def _remembered(new: NewJob) -> NewJob:
    """The same, kept for a day at least: a key lives as long as its row, and so does the URL of a callback."""
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
        scheduled_for=new.scheduled_for, unique_key=new.unique_key, callback_url=new.callback_url,
    )  # fmt: skip
