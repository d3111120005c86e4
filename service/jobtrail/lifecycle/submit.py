"""A request becomes a committed row. What cannot run is refused before anything is stored."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.job.errors import (
    AppKeyReusedError,
    FieldError,
    IdempotencyKeyReusedError,
    InvalidArgumentsError,
    InvalidInputError,
    OutcomeUnknownError,
    UnknownTaskError,
)
from jobtrail.job.ids import new_job_id
from jobtrail.job.record import AppKey, Job, NewJob
from jobtrail.job.status import Status
from jobtrail.job.storable import dump
from jobtrail.job.submission import Submission, seconds
from jobtrail.job.task import Task
from jobtrail.lifecycle.desk import Desk
from jobtrail.lifecycle.read import read
from jobtrail.lifecycle.rights import require_rights
from jobtrail.store.amend import KEY_LIFE
from jobtrail.store.transitions.insert import Inserted, insert_all, insert_app_keyed, insert_keyed


async def submit(desk: Desk, wanted: Submission, *, by: str, trace_id: str | None = None) -> Job:
    """Store one job; committed when this returns.

    Raises OverloadedError, UnknownTaskError, InvalidArgumentsError, UnavailableError: nothing is stored, unless it is
    an OutcomeUnknownError.
    """
    with desk.waiting.room_for(1):
        new = prepare(desk, wanted, by=by, trace_id=trace_id)
        await require_rights(desk)
        return born(new, await insert(desk, new))


async def insert(desk: Desk, new: NewJob) -> Inserted:
    """Store a row without a key, together with others. Raises UnavailableError, as `submit`."""
    try:
        return await desk.inserts.put(new)
    except OutcomeUnknownError as error:
        raise OutcomeUnknownError("the database did not answer in time", new.id) from error


async def submit_keyed(
    desk: Desk, wanted: Submission, *, by: str, key: str, trace_id: str | None = None
) -> tuple[Job, bool]:
    """Store a job once per caller and key; the job, and whether it was there already.

    Raises IdempotencyKeyReusedError when the key came with another request before, else as `submit`. Keyed rows never
    ride a group: a caller's open transaction on a key would hold up all the others.
    """
    with desk.waiting.room_for(1):
        new = keyed(prepare(desk, wanted, by=by, trace_id=trace_id), wanted, key)
        await require_rights(desk)
        async with desk.transaction() as session:
            stored = await insert_once(session, new)
    return (born(new, stored), False) if isinstance(stored, Inserted) else (await read(desk, stored), True)


async def submit_batch(
    desk: Desk, wanted: Sequence[Submission], *, by: str, trace_id: str | None = None
) -> Sequence[Job]:
    """Store all of these jobs or none, in one transaction. Raises as `submit`; pointers begin with `/jobs/INDEX`."""
    with desk.waiting.room_for(len(wanted)):
        new = [_prepare_at(f"/jobs/{index}", desk, each, by=by, trace_id=trace_id) for index, each in enumerate(wanted)]
        await require_rights(desk)
        async with desk.transaction() as session:
            stored = await insert_all(session, new)
    return [born(each, times) for each, times in zip(new, stored, strict=True)]


def prepare(desk: Desk, wanted: Submission, *, by: str, trace_id: str | None) -> NewJob:
    """What will be stored: the caller's word, else the task's, else the service's. Raises as `submit`."""
    task = desk.catalog[wanted.task]
    try:
        args = task.signature.settle(wanted.args)
    except InvalidArgumentsError as error:
        raise error.under("/args") from None
    job_id = new_job_id()
    ttl, ttl_failed = _ttls(desk, wanted, task)
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
    )


async def insert_once(session: AsyncSession, new: NewJob) -> Inserted | UUID:
    """A keyed row in the caller's transaction; the id of the job that was there with the same key and request already.

    Raises IdempotencyKeyReusedError.
    """
    stored = await insert_keyed(session, new)
    if isinstance(stored, Inserted):
        return stored
    if stored.request_hash != new.request_hash:
        raise IdempotencyKeyReusedError(new.idempotency_key or "", stored.id)
    return stored.id


async def insert_once_in_app(session: AsyncSession, new: NewJob, app_key: AppKey) -> Inserted | UUID:
    """The same for a key of the app's. Raises AppKeyReusedError."""
    stored = await insert_app_keyed(session, new, app_key)
    if isinstance(stored, Inserted):
        return stored
    if stored.request_hash != app_key.request_hash:
        raise AppKeyReusedError(app_key.key, stored.id)
    return stored.id


def keyed(new: NewJob, wanted: Submission, key: str) -> NewJob:
    """The same with the key of a client, whose repeat is the same in every word."""
    said = wanted.model_dump(mode="json", exclude_unset=True)
    return replace(_remembered(new), idempotency_key=key, request_hash=_digest(said))


def app_keyed(new: NewJob, key: str) -> NewJob:
    """The same with a key of the app's: this task with these arguments, once, whoever asks and with which options."""
    return replace(_remembered(new), app_key=AppKey(key, _digest({"task": new.task, "args": new.args})))


def born(new: NewJob, times: Inserted) -> Job:
    """The row as it was committed, without reading it again."""
    return Job(
        id=new.id, task=new.task, queue=new.queue, args=new.args, status=Status.PENDING, result=None, error=None,
        trace_id=new.trace_id, priority=new.priority, tags=new.tags, attempt=0, max_attempts=new.max_attempts,
        timeout=new.timeout, progress=None, run_at=times.run_at, created_at=times.created_at, started_at=None,
        finished_at=None, ttl=new.ttl, expires_at=None, cancel_requested_at=None, cancel_reason=None,
        created_by=new.created_by, node_id=None, seq=1,
    )  # fmt: skip


def _prepare_at(pointer: str, desk: Desk, wanted: Submission, *, by: str, trace_id: str | None) -> NewJob:
    try:
        return prepare(desk, wanted, by=by, trace_id=trace_id)
    except InvalidArgumentsError as error:
        raise error.under(pointer) from None
    except UnknownTaskError as error:
        raise InvalidInputError([FieldError(f"{pointer}/task", str(error))]) from None


def _ttls(desk: Desk, wanted: Submission, task: Task[..., Any]) -> tuple[timedelta | None, timedelta | None]:
    if "ttl" in wanted.model_fields_set:
        ttl = seconds(wanted.ttl)
        return ttl, ttl
    if task.has_ttl:
        return seconds(task.ttl), seconds(task.ttl)
    return desk.defaults.ttl, desk.defaults.ttl_failed


def _remembered(new: NewJob) -> NewJob:
    """The same, kept for a day at least: a key lives as long as its row."""
    ttl, ttl_failed = (None if each is None else max(each, KEY_LIFE) for each in (new.ttl, new.ttl_failed))
    return replace(new, ttl=ttl, ttl_failed=ttl_failed)


def _digest(said: Mapping[str, Any]) -> bytes:
    """The same for the same JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(said, sort_keys=True, ensure_ascii=False).encode()).digest()
