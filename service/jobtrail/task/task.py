"""A task: a function of the host, and what it says of its jobs when the caller says nothing."""

import functools
import inspect
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Concatenate, Final, Generic, Literal, ParamSpec, Protocol, TypeVar, overload

from jobtrail import limits
from jobtrail.errors import DeclarationError
from jobtrail.task.arguments import Signature
from jobtrail.task.context import JobContext
from jobtrail.task.retry import NotRepeated, Retry

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
        priority: int = limits.DEFAULT_PRIORITY,
        max_attempts: int = 1,
        timeout: float | None = None,
        retry: Retry | Unset | None = UNSET,
        ttl: float | Unset | None = UNSET,
    ) -> None:
        """Raises DeclarationError, whose message names the fix."""
        self.signature: Final = Signature(function)
        check = _Check(f"task {function.__module__}.{function.__qualname__}")
        self.function: Final = function
        self.name: Final = check.matching(
            "name",
            function.__name__ if name is None else name,
            limits.TASK_PATTERN,
            "letters, digits and _ . : - after a letter or _, at most 200 of them",
        )
        self.description: Final = " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())
        self.runs_in: Final = check.runs_in(runs_in, is_async=inspect.iscoroutinefunction(function))
        self.queue: Final = check.matching(
            "queue", queue, limits.QUEUE_PATTERN, "letters, digits and _ . : -, 1 to 100 of them"
        )
        self.priority: Final = check.whole(
            "priority", priority, limits.MIN_PRIORITY, limits.MAX_PRIORITY, "higher goes first"
        )
        self.max_attempts: Final = check.whole(
            "max_attempts", max_attempts, 1, limits.MAX_ATTEMPTS, "how often a job may be started"
        )
        self.timeout: Final = check.seconds(
            "timeout", timeout, limits.MIN_TIMEOUT, limits.MAX_TIMEOUT, "None for no limit"
        )
        # Without a word about it errors are retried, as soon as the task or one of its jobs allows more attempts.
        self.retry: Final = Retry() if retry is UNSET else check.retry(retry, max_attempts)
        self.has_ttl: Final = ttl is not UNSET
        self.ttl: Final = (
            None if ttl is UNSET else check.seconds("ttl", ttl, 0, limits.MAX_TTL, "None to keep the rows")
        )
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


@dataclass(frozen=True)
class _Check:
    """Each check gives the value back, or raises DeclarationError."""

    where: str

    def retry(self, value: Retry | None, max_attempts: int) -> Retry | None:
        if not isinstance(value, Retry | None):
            raise self._refusal("retry", value, "write Retry(…), or None if errors are final")
        if value is not None and value.max_attempts is not None:
            told = f"max_attempts={value.max_attempts}"
            raise self._refusal("retry", value, f"for jobs the task counts: move {told} out of the Retry, to the task")
        if value is not None and max_attempts == 1:
            raise self._refusal(
                "retry", value, "it can never act with max_attempts=1; write how often a job may be started"
            )
        return value

    def runs_in(self, value: str | None, *, is_async: bool) -> Literal["loop", "thread", "process"]:
        """`async def` runs on the loop; `def` in a thread, or in a process if it says so."""
        match value, is_async:
            case ((None | "loop"), True):
                return "loop"
            case ((None | "thread"), False):
                return "thread"
            case "process", False:
                return "process"
            case "process", _:
                raise self._refusal(
                    "runs_in", value, "a process runs a def; write def, with asyncio.run(…) in it if it needs a loop"
                )
            case "loop", _:
                raise self._refusal("runs_in", value, "a def would block the loop; write async def, or leave it out")
            case "thread", _:
                raise self._refusal("runs_in", value, "an async def runs on the loop; write def, or leave it out")
            case _:
                raise self._refusal("runs_in", value, "write 'loop', 'thread' or 'process', or leave it out")

    def matching(self, option: str, value: Any, pattern: str, advice: str) -> str:
        if isinstance(value, str) and re.fullmatch(pattern, value):
            return value
        raise self._refusal(option, value, f"write {advice}")

    def whole(self, option: str, value: Any, least: int, most: int, meaning: str) -> int:
        if type(value) is int and least <= value <= most:
            return value
        raise self._refusal(option, value, f"write a whole number from {least} to {most} ({meaning})")

    def seconds(self, option: str, value: Any, least: float, most: float, meaning: str) -> float | None:
        if value is None or (type(value) in (int, float) and least <= value <= most):
            return None if value is None else float(value)
        raise self._refusal(option, value, f"write seconds from {least:g} to {most}, {meaning}")

    def _refusal(self, option: str, value: object, advice: str) -> DeclarationError:
        return DeclarationError(f"{self.where}, {option}={value!r}: {advice}")


class _Anything:
    """Only a parameter that takes everything takes this too: a function that begins with one has no JobContext."""


class Declare(Protocol):
    """Decorator that `@task(…)` with options gives: it makes a Task of a function."""

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
    priority: int = limits.DEFAULT_PRIORITY,
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
