"""A task: a function of the host, and the options of its jobs where the caller gives none."""

import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from enum import Enum, auto
from typing import Annotated, Any, Concatenate, Final, Generic, Literal, ParamSpec, Protocol, TypeVar, overload

from pydantic import BaseModel, Field, InstanceOf, ValidationError

from jobtrail import ranges
from jobtrail.errors import DeclarationError
from jobtrail.task.arguments import Signature
from jobtrail.task.context import JobContext
from jobtrail.task.limit import Limit, Rate, checked
from jobtrail.task.retry import NotRepeated, Retry
from jobtrail.task.schedule import Every, ScheduleSpec, flaws_of
from jobtrail.task.submission import MaxAttempts, Priority, Queue, Timeout, Ttl
from jobtrail.task.unique import Delay, OnDuplicate, Unique, UniqueKey, declared

P = ParamSpec("P")
R = TypeVar("R")

RunsIn = Literal["loop", "thread", "process"]
OnFull = Literal["wait", "reject", "replace"]


class Unset(Enum):
    """Marks an option that was left out, where None has a meaning of its own."""

    UNSET = auto()


UNSET: Final = Unset.UNSET


class Task(NotRepeated, Generic[P, R]):
    """P: the parameters without the JobContext; R: what the function returns, once awaited.

    `timeout` and `ttl` in seconds. `timeout` None: no limit; `retry` None: errors are final; `ttl` None: rows are kept,
    but only if `has_ttl`, else the service decides. `schedule`: one that the code declares, under `schedule_name`.
    """

    def __init__(self, function: Callable[..., object], /, **said: Any) -> None:
        """`said` are the options of `task`. Raises DeclarationError, whose message names the fix."""
        self.signature: Final = Signature(function)
        options = _options(function, {name: value for name, value in said.items() if value is not UNSET})
        self.function: Final = function
        self.name: Final = options.name
        self.description: Final = " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())
        self.runs_in: Final[RunsIn] = options.runs_in or ("loop" if inspect.iscoroutinefunction(function) else "thread")
        self.queue: Final = options.queue
        self.priority: Final = options.priority
        self.max_attempts: Final = options.max_attempts
        self.timeout: Final = options.timeout
        # left out, errors are retried as soon as the task or one of its jobs allows more attempts
        self.retry: Final = options.retry if "retry" in options.model_fields_set else Retry()
        self.has_ttl: Final = "ttl" in options.model_fields_set
        self.ttl: Final = options.ttl
        self.schedule: Final = _schedule(self, options)
        self.schedule_name: Final = options.schedule_name or self.name
        self.limits: Final = checked(options.limits, self.signature.parameters, self.place)
        self.on_full: Final = options.on_full
        unique = Unique(options.unique_key, options.on_duplicate, options.delay, options.max_delay)
        self.unique: Final = declared(unique, self.signature.parameters, self.place)
        self.is_limited: Final = bool(self.limits) or self.unique.replaces
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
        """Module, name, file and line of the function."""
        return f"{self.function.__module__}:{self.function.__qualname__} ({self.written})"

    @property
    def written(self) -> str:
        """File and line."""
        code = inspect.unwrap(self.function).__code__
        return f"{code.co_filename}:{code.co_firstlineno}"


class _Options(BaseModel):
    """The options of `@task`, in the ranges of those of a job."""

    name: Annotated[str, Field(strict=True, pattern=ranges.TASK_PATTERN)]
    runs_in: RunsIn | None = None
    queue: Queue = "default"
    priority: Priority = ranges.DEFAULT_PRIORITY
    max_attempts: MaxAttempts = 1
    timeout: Timeout | None = None
    retry: InstanceOf[Retry] | None = None
    ttl: Ttl | None = None
    cron: Annotated[str, Field(strict=True, max_length=ranges.MAX_CRON)] | None = None
    every: Every | None = None
    zone: Annotated[str, Field(strict=True)] | None = None
    schedule_name: Annotated[str, Field(strict=True, pattern=ranges.TASK_PATTERN)] | None = None
    limits: Sequence[InstanceOf[Limit] | InstanceOf[Rate]] = ()
    on_full: OnFull = "wait"
    unique_key: UniqueKey | None = None
    on_duplicate: OnDuplicate | None = None
    delay: Delay | None = None
    max_delay: Delay | None = None


def _options(function: Callable[..., object], said: dict[str, Any]) -> _Options:
    """Raises DeclarationError for the first one that is impossible, TypeError for one that does not exist."""
    if unknown := said.keys() - _Options.model_fields.keys():
        raise TypeError(f"task() got an unexpected keyword argument {min(unknown)!r}")
    if said.get("name") is None:
        said["name"] = function.__name__
    try:
        options = _Options.model_validate(said)
    except ValidationError as error:
        option = str(error.errors()[0]["loc"][0])
        advice = f"write {_HOW_TO_WRITE[option]}"
    else:
        option, advice = _conflict(options, is_async=inspect.iscoroutinefunction(function))
        if not advice:
            return options
    where = f"{function.__module__}.{function.__qualname__}"
    raise DeclarationError(f"task {where}, {option}={said[option]!r}: {advice}")


_HOW_TO_WRITE: Final[Mapping[str, str]] = {
    "name": f"letters, digits and _ . : - after a letter or _, at most {ranges.MAX_TASK} of them",
    "runs_in": "'loop', 'thread' or 'process', or leave it out",
    "queue": f"letters, digits and _ . : -, 1 to {ranges.MAX_QUEUE} of them",
    "priority": f"a whole number from {ranges.MIN_PRIORITY} to {ranges.MAX_PRIORITY} (higher goes first)",
    "max_attempts": f"a whole number from 1 to {ranges.MAX_ATTEMPTS} (how often a job may be started)",
    "timeout": f"seconds from {ranges.MIN_TIMEOUT:g} to {ranges.MAX_TIMEOUT}, None for no limit",
    "retry": "Retry(…), or None if errors are final",
    "ttl": f"seconds from 0 to {ranges.MAX_TTL}, None to keep the rows",
    "cron": "minute, hour, day of month, month, day of week, such as '0 7 * * mon-fri'",
    "every": f"seconds from {ranges.MIN_EVERY} to {ranges.MAX_TTL}",
    "zone": "a name such as 'Europe/Paris'",
    "schedule_name": f"letters, digits and _ . : - after a letter or _, at most {ranges.MAX_TASK} of them",
    "limits": "a list of Limit(…) and Rate(…)",
    "on_full": "'wait', 'reject' or 'replace'",
    "unique_key": f"a text of 1 to {ranges.MAX_LIMIT_KEY} characters, such as 'report:{{customer}}'",
    "on_duplicate": "'keep' or 'replace'",
    "delay": f"seconds from 0 to {ranges.MAX_TTL}",
    "max_delay": f"seconds from 0 to {ranges.MAX_TTL}",
}


def _conflict(options: _Options, *, is_async: bool) -> tuple[str, str]:
    """An option that does not go with the others or with the function, and its fix; two empty texts: there is none."""
    if advice := _RUNS_IN.get((options.runs_in, is_async)):
        return "runs_in", advice
    if options.on_full != "wait" and not options.limits:
        return "on_full", "there is nothing that could be full: write limits=[Limit(…)] too"
    if options.retry is None:
        return "", ""
    if options.retry.max_attempts is not None:
        advice = (
            f"for jobs the task counts: move max_attempts={options.retry.max_attempts} out of the Retry, to the task"
        )
        return "retry", advice
    if options.max_attempts == 1:
        return "retry", "it can never act with max_attempts=1; write how often a job may be started"
    return "", ""


def _schedule(task: Task[..., Any], options: _Options) -> ScheduleSpec | None:
    """Raises DeclarationError for one that is never due, or whose jobs would lack an argument."""
    advice: list[str] = []
    spec = None
    if options.zone is not None and options.cron is None:
        advice.append("zone is of cron alone: write cron= with it")
    if options.cron is not None or options.every is not None:
        zone = options.zone or "UTC"
        spec = ScheduleSpec(task=task.name, args={}, cron=options.cron, every=options.every, zone=zone)
        advice += [f"{flaw.pointer[1:]}: {flaw.detail}" for flaw in flaws_of(spec)]
        lacks = [name for name, parameter in task.signature.parameters.items() if parameter.required]
        if lacks:
            advice.append(f"its jobs have no arguments: give {', '.join(lacks)} a default, or PUT a schedule with args")
    elif options.schedule_name is not None:
        advice.append("schedule_name names a schedule: write cron= or every= with it")
    if advice:
        raise DeclarationError(f"task {task.place}: {'; '.join(advice)}")
    return spec


_RUNS_IN: Final[Mapping[tuple[RunsIn | None, bool], str]] = {
    ("loop", False): "a def would block the loop; write async def, or leave it out",
    ("thread", True): "an async def runs on the loop; write def, or leave it out",
    ("process", True): "a process runs a def; write def, with asyncio.run(…) in it if it needs a loop",
}
"""Advice by what the option says and whether the function is async."""


class _Anything:
    """Accepted only by a parameter of any type: a function that begins with one has no JobContext."""


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
    priority: int = ranges.DEFAULT_PRIORITY,
    max_attempts: int = 1,
    timeout: float | None = None,
    retry: Retry | Unset | None = UNSET,
    ttl: float | Unset | None = UNSET,
    cron: str | None = None,
    every: float | None = None,
    zone: str | None = None,
    schedule_name: str | None = None,
    limits: Sequence[Limit | Rate] = (),
    on_full: OnFull = "wait",
    unique_key: str | None = None,
    on_duplicate: OnDuplicate | None = None,
    delay: float | None = None,
    max_delay: float | None = None,
) -> Declare: ...
def task(function: Callable[..., object] | None = None, /, **said: Any) -> object:
    """Make a task of a function: `@task`, or `@task(max_attempts=5, timeout=30)`.

    `async def` runs on the loop, `def` in a thread, with `runs_in="process"` in a process of its own. `max_attempts` is
    how often a job may be started; with more than one, errors are retried as `retry` says, and with `retry=None` only
    attempts that were lost with their node. `cron="0 7 * * mon-fri", zone="Europe/Paris"` or `every=300` (seconds) make
    a schedule, which is named as the task unless `schedule_name` says otherwise. `limits`: how many jobs of a key run
    at once, and what begins of a key within a time, over all nodes. `on_full`: what is over it waits; "reject": its
    submit raises LimitFullError, 429 over HTTP; "replace": the newest cancels those of the same keys that have not
    begun. `unique_key="report:{customer}"`: at most one unfinished job of a key; another submit gives that one. With
    `on_duplicate="replace"` the one that waits takes the newest arguments and waits again, `delay` seconds, at most
    `max_delay` from the first; while one runs, one more waits.
    Raises DeclarationError when the function cannot be a task.
    """
    for option in ("name", "queue"):
        if str(said.get(option)).startswith(ranges.OWN):
            raise DeclarationError(f"{option}={said[option]!r}: {ranges.RESERVED}")
    if function is None:
        return lambda function: Task[..., Any](function, **said)
    return Task[..., Any](function, **said)
