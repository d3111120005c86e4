"""A submitted job: its id, its row, and its result once it has ended."""

import asyncio
import math
import time
import typing
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, Generic, Literal, TypeVar
from uuid import UUID

from jobtrail import errors
from jobtrail.events.hub import Hub
from jobtrail.events.readers import job_events
from jobtrail.jobs.query import read
from jobtrail.jobs.services import Services
from jobtrail.ops import batches, nodes
from jobtrail.records import Batch, Job, NewJob
from jobtrail.status import Status
from jobtrail.task.job_events import JobEvent
from jobtrail.task.result import result_of, typed
from jobtrail.task.task import Task

R = TypeVar("R")

_AWAY: Final = 0.5
"""Seconds until a database that is away is asked again."""

_GRACE: Final = 0.5
"""Seconds that a database has to answer when no time is left to wait for the job."""


class JobHandle(Generic[R]):
    """R: what the task returns. It is bound to the Jobtrail that submitted the job, and useless once that has ended."""

    def __init__(
        self, task: Task[..., R], new: NewJob, services: Callable[[], Services], *, is_in_session: bool
    ) -> None:
        """For `AddedJobs`, as `became`."""
        self.task: Final = task.name
        self.trace_id: Final = new.trace_id
        self._task = task
        self._services = services
        self._id = None if new.key else new.id
        self._state: Literal["waits", "in a session", "stored"] = "in a session" if is_in_session else "waits"

    @property
    def id(self) -> UUID:
        """Known at once, except for a job with an idempotency key or a unique key: until it is stored, another job may
        have the key.

        Raises RuntimeError.
        """
        if self._id is None:
            raise RuntimeError(
                "whether this job is a new one is known once it is stored, since it has a key: "
                "`await jobs.commit()` before you ask for its id"
            )
        return self._id

    def __repr__(self) -> str:
        return f"<job {self._id} of task {self.task!r}>"

    async def read(self) -> Job:
        """The row as it is now. Raises JobNotFoundError, UnavailableError, and RuntimeError before it is stored."""
        with self._stored() as job_id:
            return await read(self._services(), job_id)

    async def wait(self, timeout: float | None = None) -> R:  # noqa: ASYNC109 - the contract's own word, as asyncio's
        """Wait until the job has ended, and return the result of the task; `timeout` in seconds.

        Raises JobFailedError, JobCancelledError, TimeoutError (the job goes on), JobNotFoundError (purged meanwhile),
        and RuntimeError for a job that is not stored. A database that is away is waited for.
        """
        with self._stored() as job_id:
            return typing.cast("R", typed(self._task, await ended(self._services(), job_id, timeout)))

    async def events(self, *, since: str | None = None) -> AsyncIterator[JobEvent]:
        """All that has happened to the job, and what happens, until it has ended: its transitions, its progress and the
        lines of its log. `since`: the `id` of an event, to go on after it.

        Raises ValueError for what is no id of this job's events, JobNotFoundError, UnavailableError, and RuntimeError
        for a job that is not stored.
        """
        with self._stored() as job_id:
            async for event in job_events(self._services(), job_id, since=since):
                yield event

    def became(self, job_id: UUID) -> None:
        self._id, self._state = job_id, "stored"

    @contextmanager
    def _stored(self) -> Iterator[UUID]:
        if self._state == "waits":
            raise RuntimeError(
                "this job is stored when the endpoint returns: before that it cannot be read or waited for; "
                "`await jobs.commit()` stores it at once"
            )
        try:
            yield self.id
        except errors.JobNotFoundError as error:
            if self._state == "stored":
                raise
            raise RuntimeError(
                "this job is not there: it is stored when its session commits, and that has not happened, or was undone"
            ) from error


class BatchHandle:
    """A batch of jobs, by its id; bound to the Jobtrail that submitted it."""

    def __init__(self, batch_id: UUID, services: Callable[[], Services]) -> None:
        self.id: Final = batch_id
        self._services = services

    async def read(self) -> Batch:
        """Its numbers as they are now. Raises BatchNotFoundError before it is stored, UnavailableError."""
        return await batches.read(self._services(), self.id)

    async def wait(self, timeout: float | None = None) -> Batch:  # noqa: ASYNC109 - as JobHandle.wait
        """Wait until all of its jobs have ended; `timeout` in seconds.

        Raises TimeoutError (the jobs go on), BatchNotFoundError. A database that is away is waited for.
        """
        services = self._services()
        async with asyncio.timeout(timeout):
            while True:
                try:
                    if (found := await self.read()).done_at is not None:
                        return found
                    await services.once(Hub).batch_done(self.id)
                except errors.UnavailableError:
                    await asyncio.sleep(_AWAY)


async def ended(services: Services, job_id: UUID, seconds: float | None) -> Any:
    """The result of the job as JSON. Raises as `JobHandle.wait`."""
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    status = "not known: the database did not answer"
    while True:
        left, is_away = max(0.0, deadline - time.monotonic()), False
        try:
            async with asyncio.timeout(None if seconds is None else left + _GRACE):
                job = await read(services, job_id)
        except (errors.UnavailableError, TimeoutError):
            is_away = True
        else:
            if job.status.is_terminal:
                return result_of(job)
            status = job.status
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(
                f"job {job_id} has not ended within {seconds:g} s; it is {status}{await _why(services, job_id)}"
            )
        if is_away:
            await asyncio.sleep(min(_AWAY, left))
            continue
        with suppress(TimeoutError):
            async with asyncio.timeout(None if seconds is None else left):
                await services.once(Hub).job_ended(job_id)


async def _why(services: Services, job_id: UUID) -> str:
    """The reason why a pending job has not begun, where it is known."""
    try:
        async with asyncio.timeout(_GRACE):
            job = await read(services, job_id)
            is_served = await nodes.is_served(services, job.task, job.queue)
    except Exception:  # noqa: BLE001 - the caller gets the TimeoutError, whatever happens here
        return ""
    if is_served or job.status is not Status.PENDING:
        return ""
    return f", and no node serves the queue {job.queue!r} and knows {job.task!r}: start the app, or `jobtrail work`"
