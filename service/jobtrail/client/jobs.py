"""The calls about jobs, each once, as coroutines on whatever connection they are given."""

import math
import time
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, Generic, ParamSpec, TypedDict, TypeVar, Unpack, cast, overload
from uuid import UUID, uuid4

import httpx
from pydantic import BaseModel

from jobtrail.client import parsing
from jobtrail.client.connection import Calls, Connection
from jobtrail.client.parsing import Page, items_of, job_of, parsed
from jobtrail.client.problems import retry_after_of
from jobtrail.client.submitting import Options, asked
from jobtrail.errors import FieldError, InvalidInputError
from jobtrail.ranges import LONGEST_WAIT, MAX_KEY
from jobtrail.records import Job, LogLine, Transition
from jobtrail.task.job_events import Gap, JobEvent
from jobtrail.task.result import result_of, typed
from jobtrail.task.submission import Amendment, Submission, checked
from jobtrail.task.task import Task

P = ParamSpec("P")
R = TypeVar("R")

Id = UUID | str
Names = str | Sequence[str]
Tasks = str | Task[..., Any] | Sequence[str | Task[..., Any]]


class Changes(TypedDict, total=False):
    """What may be changed of a job; priority and run_at of a pending one only. `ttl` in seconds, None keeps the row."""

    ttl: float | None
    priority: int
    run_at: datetime | None
    tags: Sequence[str]


class JobCalls(Calls):
    """/jobs and what lies below."""

    @overload
    async def submit(self, task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> "AsyncJobHandle[R]": ...
    @overload
    async def submit(self, task: str, /, **kwargs: Any) -> "AsyncJobHandle[Any]": ...
    async def submit(self, task: Task[..., Any] | str, /, *args: Any, **kwargs: Any) -> "AsyncJobHandle[Any]":
        """Store a job; committed when this returns. The task, or its name where its code is not at hand.

        Raises InvalidArgumentsError, UnknownTaskError, UnavailableError: nothing is stored, unless it is an
        OutcomeUnknownError; LimitFullError, BacklogFullError.
        """
        return await AsyncSubmit(self, self._connection, {}).submit(task, *args, **kwargs)

    def options(self, **options: Unpack[Options]) -> "AsyncSubmit":
        """The same with a queue, priority, run_at, ttl, timeout, tags, max_attempts, or others of Options."""
        return AsyncSubmit(self, self._connection, options)

    async def submit_all(self, jobs: Sequence[Submission]) -> Sequence[Job]:
        """All of these jobs or none. Raises as `submit`."""
        answer = await self._connection.call("POST", "/jobs/batch", {"jobs": [said_of(each) for each in jobs]})
        return parsed(answer, items_of(job_of))

    async def get(self, job_id: Id) -> Job:
        """Raises JobNotFoundError, UnavailableError."""
        return parsed(await self._connection.call("GET", _job(job_id)), job_of)

    async def wait(self, job_id: Id, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - as of a job's handle
        """The result of the job as JSON, once it has ended; `timeout` in seconds.

        Raises JobFailedError, JobCancelledError, TimeoutError (the job goes on), JobNotFoundError, UnavailableError.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            began = time.monotonic()
            seconds = int(min(LONGEST_WAIT, max(0.0, deadline - began)))
            prefer = {"Prefer": f"wait={seconds}"} if seconds else {}
            answer = await self._connection.call(
                "GET", _job(job_id), headers=prefer, patience=seconds, within=deadline - began
            )
            job = parsed(answer, job_of)
            if job.status.is_terminal:
                return result_of(job)
            now = time.monotonic()
            if now >= deadline:
                raise TimeoutError(f"job {job_id} has not ended within {timeout:g} s; it is {job.status}")
            if now - began < seconds or not seconds:  # it does not let requests wait, or not this one
                await self._connection.http.sleep(min(retry_after_of(answer), deadline - now))

    async def list(
        self,
        *,
        status: Names = (),
        task: Tasks = (),
        queue: Names = (),
        tags: Names = (),
        trace_id: Names = (),
        schedule: Names = (),
        batch_id: Id | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[Job]:
        """Jobs, newest first, with args and result: 1 to 200, or fewer where these are large. `cursor`: the next_cursor
        of the page before. Raises InvalidInputError, UnavailableError.
        """
        query = {
            **_filters(status, task, queue, tags), "trace_id": trace_id, "schedule": schedule, "batch_id": batch_id,
            "created_after": text_of(created_after), "created_before": text_of(created_before), "limit": limit,
            "cursor": cursor, "include": "args,result,traceback",
        }  # fmt: skip
        answer = await self._connection.call("GET", "/jobs", query=query)
        return parsed(answer, lambda said: Page(items_of(job_of)(said), said["next_cursor"]))

    async def cancel(self, job_id: Id, *, reason: str | None = None) -> Job:
        """The job: cancelled, or running and asked to stop.

        Raises JobNotFoundError, JobFinishedError, ForbiddenError, UnavailableError.
        """
        body = {} if reason is None else {"reason": reason}
        return parsed(await self._connection.call("POST", _job(job_id, "cancel"), body, may_repeat=True), job_of)

    async def retry(self, job_id: Id) -> Job:
        """The failed or cancelled job, pending again. Raises JobNotFoundError, JobConflictError, UnavailableError."""
        return parsed(await self._connection.call("POST", _job(job_id, "retry"), {}), job_of)

    async def amend(self, job_id: Id, **changes: Unpack[Changes]) -> Job:
        """Change only what is given. Raises InvalidInputError, JobNotFoundError, JobConflictError, UnavailableError."""
        said = said_of(checked(Amendment, changes))
        return parsed(await self._connection.call("PATCH", _job(job_id), said), job_of)

    async def transitions(self, job_id: Id) -> Sequence[Transition]:
        """Every move of the job, also after its row was purged. Raises JobNotFoundError, UnavailableError."""
        return await self._connection.pages(_job(job_id, "transitions"), partial(parsing.transition_of, job_id))

    async def log(self, job_id: Id, *, attempt: int | None = None) -> Sequence[LogLine]:
        """What the job said while it ran, oldest first. Raises JobNotFoundError, UnavailableError."""
        answer = await self._connection.call("GET", _job(job_id, "log"), query={"attempt": attempt})
        return parsed(answer, items_of(partial(parsing.read, LogLine)))

    def job_events(self, job_id: Id, *, since: str | None = None) -> AsyncGenerator[JobEvent | Gap]:
        """All that has happened to a job, and what happens, until it has ended: its transitions, its progress and the
        lines of its log. `since`: the `id` of an event, to go on after it; lines have no id, so those that followed
        it are told again. Goes on by itself where a connection breaks.

        Raises ValueError for what can be no id, JobNotFoundError, UnavailableError.
        """
        return self._connection.events(_job(job_id, "events"), {}, since)

    def events(
        self, *, status: Names = (), task: Tasks = (), queue: Names = (), tags: Names = (), since: str | None = None
    ) -> AsyncGenerator[JobEvent | Gap]:
        """Every transition of every job, in the order of commits, without an end: from when the first one is asked for,
        or after the event with the id `since`. What happens between this call and the first `anext` is not told; of a
        job that was submitted before, `job_events` tells all. Of filters the values are alternatives, except tags;
        `status` is the one that a job moves to. Goes on by itself where a connection breaks.

        A Gap comes where the feed does not go on there, as when that was too long ago. Raises ValueError for what can
        be no id, InvalidInputError, UnavailableError.
        """
        return self._connection.events("/events", _filters(status, task, queue, tags), since)


class AsyncSubmit:
    """The result of `options`."""

    def __init__(self, calls: JobCalls, connection: Connection, options: Options) -> None:
        self._calls = calls
        self._connection = connection
        self._options = options

    @overload
    async def submit(self, task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> "AsyncJobHandle[R]": ...
    @overload
    async def submit(self, task: str, /, **kwargs: Any) -> "AsyncJobHandle[Any]": ...
    async def submit(self, task: Task[..., Any] | str, /, *args: Any, **kwargs: Any) -> "AsyncJobHandle[Any]":
        """As that of the client. Raises InvalidInputError too, for an option that is out of its range."""
        body = said_of(asked(task, args, kwargs, self._options))
        known = task if isinstance(task, Task) else None
        is_unique = "unique_key" in self._options or (known is not None and known.unique.unique_key is not None)
        key = self._options.get("idempotency_key", None if is_unique else uuid4().hex)
        try:
            answer = await self._store(body, key)
        except InvalidInputError as error:
            # whether a task has a unique key, which goes with no other key, the service alone knows by its name
            if "idempotency_key" in self._options or not any(flaw.pointer == _OF_KEY for flaw in error.flaws):
                raise
            answer = await self._store(body, None)
        return AsyncJobHandle(self._calls, known, parsed(answer, job_of))

    async def _store(self, body: object, key: str | None) -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": quoted(key)}
        return await self._connection.call("POST", "/jobs", body, headers=headers, may_repeat=key is not None)


_OF_KEY: Final = "Idempotency-Key:"


class AsyncJobHandle(Generic[R]):
    """A submitted job. R: what the task returns; `job`: the record that answered the submit."""

    def __init__(self, calls: JobCalls, task: Task[..., R] | None, job: Job) -> None:
        self.id: Final = job.id
        self.job: Final = job
        self._calls = calls
        self._task = task

    def __repr__(self) -> str:
        return f"<job {self.id} of task {self.job.task!r}>"

    async def read(self) -> Job:
        """As `get`."""
        return await self._calls.get(self.id)

    async def wait(self, timeout: float | None = None) -> R:  # noqa: ASYNC109 - the word of asyncio and of the embedded
        """The result of the task, once the job has ended, in the type that the task declares; `timeout` in seconds.

        Raises JobFailedError, JobCancelledError, TimeoutError (the job goes on), JobNotFoundError, UnavailableError.
        """
        result = await self._calls.wait(self.id, timeout)
        return cast("R", result if self._task is None else typed(self._task, result))

    def events(self, *, since: str | None = None) -> AsyncGenerator[JobEvent | Gap]:
        """As `job_events`."""
        return self._calls.job_events(self.id, since=since)

    async def cancel(self, *, reason: str | None = None) -> Job:
        """As that of the client."""
        return await self._calls.cancel(self.id, reason=reason)


def _job(job_id: Id, call: str = "") -> str:
    """Raises ValueError for what is no id."""
    return f"/jobs/{UUID(str(job_id))}" + (f"/{call}" if call else "")


def said_of(request: BaseModel) -> dict[str, Any]:
    """What was said, as JSON."""
    return request.model_dump(mode="json", exclude_unset=True)


def quoted(key: str) -> str:
    """An idempotency key as a string of RFC 8941. Raises InvalidInputError."""
    if not (key.isascii() and key.isprintable() and 1 <= len(key) <= MAX_KEY):
        detail = f"a key is a text of 1 to {MAX_KEY} printable ASCII characters"
        raise InvalidInputError([FieldError("/idempotency_key", detail)])
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _filters(status: Names, task: Tasks, queue: Names, tags: Names) -> dict[str, Any]:
    named = (task,) if isinstance(task, str | Task) else task
    names = [each.name if isinstance(each, Task) else each for each in named]
    return {"status": status, "task": names or (), "queue": queue, "tag": tags}


def text_of(moment: datetime | None) -> str | None:
    """Raises ValueError for one without a zone."""
    if moment is not None and moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone")
    return None if moment is None else moment.isoformat()
