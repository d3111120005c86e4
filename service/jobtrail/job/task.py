"""A task: a function of the host, and what it says of its jobs when the caller says nothing."""

import functools
import inspect
from collections.abc import Callable, Coroutine
from enum import Enum, auto
from typing import Any, Concatenate, Final, Generic, Literal, ParamSpec, Protocol, TypeVar, overload

from jobtrail.job import options
from jobtrail.job.arguments import Signature
from jobtrail.job.context import JobContext
from jobtrail.job.limits import DEFAULT_PRIORITY
from jobtrail.job.retry import NotRepeated, Retry

P = ParamSpec("P")
R = TypeVar("R")

RunsIn = Literal["loop", "thread", "process"]


class Unset(Enum):
    """Says that nothing was said, where None has a meaning of its own."""

    UNSET = auto()


UNSET: Final = Unset.UNSET


class Task(NotRepeated, Generic[P, R]):
    """P: the parameters without the JobContext; R: what the function returns, once awaited.

    `timeout` and `ttl` in seconds. `timeout` None: no limit; `retry` None: errors are final; `ttl` None: rows are kept,
    but only if `has_ttl`, else the service decides.
    """

    def __init__(
        self,
        function: Callable[..., object],
        *,
        name: str | None = None,
        runs_in: RunsIn | None = None,
        queue: str = "default",
        priority: int = DEFAULT_PRIORITY,
        max_attempts: int = 1,
        timeout: float | None = None,
        retry: Retry | Unset | None = UNSET,
        ttl: float | Unset | None = UNSET,
    ) -> None:
        """Raises DeclarationError, whose message names the fix."""
        self.signature: Final = Signature(function)
        check = options.Check(f"task {function.__module__}.{function.__qualname__}")
        self.function: Final = function
        self.name: Final = check.name(function.__name__ if name is None else name)
        self.description: Final = _first_paragraph(function)
        self.runs_in: Final = check.runs_in(runs_in, is_async=inspect.iscoroutinefunction(function))
        self.queue: Final = check.queue(queue)
        self.priority: Final = check.priority(priority)
        self.max_attempts: Final = check.max_attempts(max_attempts)
        self.timeout: Final = check.timeout(timeout)
        # Without a word about it errors are retried, as soon as the task or one of its jobs allows more attempts.
        self.retry: Final = Retry() if retry is UNSET else check.retry(retry, max_attempts)
        self.has_ttl: Final = ttl is not UNSET
        self.ttl: Final = None if ttl is UNSET else check.ttl(ttl)
        functools.update_wrapper(self, function, updated=())
        # Starlette looks here to see whether a callable object is async: a host may still hand it to BackgroundTasks.
        vars(self)["__call__"] = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself, here and now: no job, no retry, no record."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<task {self.name!r} {self.place}>"

    @property
    def place(self) -> str:
        """Where the function is written."""
        return f"{self.function.__module__}:{self.function.__qualname__} ({self.written})"

    @property
    def written(self) -> str:
        """File and line."""
        code = inspect.unwrap(self.function).__code__
        return f"{code.co_filename}:{code.co_firstlineno}"


class _Anything:
    """Only a parameter that takes everything takes this too: a function that begins with one has no JobContext."""


class Declare(Protocol):
    """What `@task(…)` with options gives: it makes a Task of a function."""

    @overload
    def __call__(self, function: Callable[Concatenate[_Anything, ...], Coroutine[Any, Any, R]], /) -> Task[..., R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[_Anything, ...], R], /) -> Task[..., R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[JobContext, P], Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[JobContext, P], R], /) -> Task[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


@overload
def task(function: Callable[Concatenate[_Anything, ...], Coroutine[Any, Any, R]], /) -> Task[..., R]: ...
@overload
def task(function: Callable[Concatenate[_Anything, ...], R], /) -> Task[..., R]: ...
@overload
def task(function: Callable[Concatenate[JobContext, P], Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
@overload
def task(function: Callable[Concatenate[JobContext, P], R], /) -> Task[P, R]: ...
@overload
def task(function: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *,
    name: str | None = None,
    runs_in: RunsIn | None = None,
    queue: str = "default",
    priority: int = DEFAULT_PRIORITY,
    max_attempts: int = 1,
    timeout: float | None = None,
    retry: Retry | Unset | None = UNSET,
    ttl: float | Unset | None = UNSET,
) -> Declare: ...
def task(function: Callable[..., object] | None = None, /, **said: Any) -> object:
    """Make a task of a function: `@task`, or `@task(max_attempts=5, timeout=30)`.

    `async def` runs on the loop, `def` in a thread, with `runs_in="process"` in a process of its own. `max_attempts` is
    how often a job may be started; with more than one, errors are retried as `retry` says, and with `retry=None` only
    attempts that were lost with their node.
    Raises DeclarationError when the function cannot be a task.
    """
    return (
        Task[..., Any](function, **said) if function is not None else lambda function: Task[..., Any](function, **said)
    )


def _first_paragraph(function: Callable[..., object]) -> str:
    return " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())
