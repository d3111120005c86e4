"""The client for programs that block. Its calls are those of `jobs` and `nouns`, on connections that block: such a
coroutine never suspends, so it is run to its end without an event loop.
"""

import functools
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar, Unpack, overload

import httpx

from jobtrail.client.connection import Connection
from jobtrail.client.http import LIMITS, BlockingHttp
from jobtrail.client.jobs import AsyncJobHandle, AsyncSubmit
from jobtrail.client.nouns import AllCalls
from jobtrail.client.submitting import Options
from jobtrail.records import Job
from jobtrail.task.job_events import Gap, JobEvent
from jobtrail.task.task import Task

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def run(call: Coroutine[Any, Any, T]) -> T:
    """What the coroutine returns."""
    try:
        call.send(None)
    except StopIteration as ended:
        found: T = ended.value
        return found
    raise RuntimeError("a call on a connection that blocks was suspended")


def each_of(events: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """What the generator yields."""

    async def following() -> T:
        return await anext(events)

    try:
        while True:
            try:
                found = run(following())
            except StopAsyncIteration:
                return
            yield found
    finally:
        run(events.aclose())


def _blocking(
    call: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> "Callable[Concatenate[Client, P], T]":
    @functools.wraps(call)
    def run_it(client: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return run(call(client._calls, *args, **kwargs))  # noqa: SLF001 - it is a method of that class

    return run_it


def _streaming(
    call: Callable[Concatenate[Any, P], AsyncGenerator[T, None]],
) -> "Callable[Concatenate[Client, P], Generator[T]]":
    @functools.wraps(call)
    def run_it(client: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        return each_of(call(client._calls, *args, **kwargs))  # noqa: SLF001 - the same

    return run_it


class Client:
    """As AsyncClient, with an `http` that is an httpx.Client. Threads may share it."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: float = 10,
        retry_for: float = 30,
        http: httpx.Client | None = None,
    ) -> None:
        self._lent = http
        self._client = http or httpx.Client(limits=LIMITS)
        self._calls = AllCalls(Connection(BlockingHttp(self._client), url.rstrip("/"), key, timeout, retry_for))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Idempotent."""
        if self._lent is None:
            self._client.close()

    @overload
    def submit(self, task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> "JobHandle[R]": ...
    @overload
    def submit(self, task: str, /, **kwargs: Any) -> "JobHandle[Any]": ...
    def submit(self, task: Task[..., Any] | str, /, *args: Any, **kwargs: Any) -> "JobHandle[Any]":
        """As that of AsyncClient."""
        return self.options().submit(task, *args, **kwargs)

    def options(self, **options: Unpack[Options]) -> "Submit":
        """As that of AsyncClient."""
        return Submit(self._calls.options(**options))

    submit_all = _blocking(AllCalls.submit_all)
    get = _blocking(AllCalls.get)
    wait = _blocking(AllCalls.wait)
    list = _blocking(AllCalls.list)
    cancel = _blocking(AllCalls.cancel)
    retry = _blocking(AllCalls.retry)
    amend = _blocking(AllCalls.amend)
    transitions = _blocking(AllCalls.transitions)
    log = _blocking(AllCalls.log)
    job_events = _streaming(AllCalls.job_events)
    events = _streaming(AllCalls.events)
    submit_batch = _blocking(AllCalls.submit_batch)
    get_batch = _blocking(AllCalls.get_batch)
    cancel_batch = _blocking(AllCalls.cancel_batch)
    retry_batch = _blocking(AllCalls.retry_batch)
    list_schedules = _blocking(AllCalls.list_schedules)
    get_schedule = _blocking(AllCalls.get_schedule)
    put_schedule = _blocking(AllCalls.put_schedule)
    delete_schedule = _blocking(AllCalls.delete_schedule)
    pause_schedule = _blocking(AllCalls.pause_schedule)
    resume_schedule = _blocking(AllCalls.resume_schedule)
    run_schedule = _blocking(AllCalls.run_schedule)
    backfill_schedule = _blocking(AllCalls.backfill_schedule)
    stats = _blocking(AllCalls.stats)


class Submit:
    """The result of `options`."""

    def __init__(self, submit: AsyncSubmit) -> None:
        self._submit = submit

    @overload
    def submit(self, task: Task[P, R], /, *args: P.args, **kwargs: P.kwargs) -> "JobHandle[R]": ...
    @overload
    def submit(self, task: str, /, **kwargs: Any) -> "JobHandle[Any]": ...
    def submit(self, task: Any, /, *args: Any, **kwargs: Any) -> "JobHandle[Any]":
        """As that of AsyncSubmit."""
        return JobHandle(run(self._submit.submit(task, *args, **kwargs)))


class JobHandle(Generic[R]):
    """As AsyncJobHandle."""

    def __init__(self, handle: AsyncJobHandle[R]) -> None:
        self.id: Final = handle.id
        self.job: Final = handle.job
        self._handle = handle

    def __repr__(self) -> str:
        return repr(self._handle)

    def read(self) -> Job:
        """As `get`."""
        return run(self._handle.read())

    def wait(self, timeout: float | None = None) -> R:
        """As that of AsyncJobHandle."""
        return run(self._handle.wait(timeout))

    def events(self, *, since: str | None = None) -> Generator[JobEvent | Gap]:
        """As `job_events`."""
        return each_of(self._handle.events(since=since))

    def cancel(self, *, reason: str | None = None) -> Job:
        """As that of the client."""
        return run(self._handle.cancel(reason=reason))
