"""Retries after an error: which errors, how often and after how long, by a Retry or as the task itself asks.

Whether a job gets another attempt, and after which wait, is decided by these in `judge` (`task/outcome`). A retry by
hand is another thing: `jobs/retry`.
"""

import functools
import inspect
import logging
import math
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, ParamSpec, TypeVar, cast

from jobtrail.errors import DeclarationError
from jobtrail.ranges import MAX_ATTEMPTS, MAX_TIMEOUT

P = ParamSpec("P")
R = TypeVar("R")

MAX_CALLS: Final = 5
"""Calls made at most, of a Retry without `max_attempts`."""

_MAX_TYPE: Final = 200

log = logging.getLogger("jobtrail.task.calls")


class _Ask(Exception):  # noqa: N818 - asked for by a task, and no error of its own
    """Survives pickling whatever parameters the __init__ of a host's own subclass has."""

    def __init__(self, message: str) -> None:
        if not isinstance(message, str):
            name = type(self).__name__
            raise TypeError(f"{name}(message={message!r}): write a text; an error has its own with str(error)")
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.__class__, self.args), vars(self)


def _unpickled(kind: type[Exception], args: tuple[Any, ...]) -> Exception:
    return kind.__new__(kind, *args)  # without __init__; pickle sets the attributes


class Again(_Ask):
    """Asks for another attempt, whatever the task's Retry says of errors, if attempts are left; else the job fails.

    `after`: how long to wait for it, in seconds or as a timedelta; None: as long as the Retry says. Raised in a call
    that a Retry repeats, it asks that Retry first, which waits there; the job is asked when no call is left.
    Raises TypeError, ValueError for what is no such time.
    """

    def __init__(
        self, after: float | timedelta | None = None, message: str = "the task asked for another attempt"
    ) -> None:
        given: object = after
        if isinstance(given, str):
            raise TypeError(f"Again(after={after!r}): a text is the message: write Again(message={after!r})")
        if isinstance(given, bool) or not isinstance(given, int | float | timedelta | None):
            raise TypeError(f"Again(after={after!r}): write seconds or a timedelta, or leave it out")
        seconds = after.total_seconds() if isinstance(after, timedelta) else after
        if seconds is not None and not 0 <= seconds <= MAX_TIMEOUT:  # NaN is refused too
            raise ValueError(f"Again(after={after!r}): write from 0 to {MAX_TIMEOUT} seconds (30 days)")
        self.after_seconds: Final = None if seconds is None else float(seconds)
        super().__init__(message)


class Fail(_Ask):
    """Gives up: the job is failed, however many attempts are left. `type` is the error type in its row.

    Raises TypeError, ValueError for what is no text, or no type of 1 to 200 characters.
    """

    def __init__(self, message: str = "the task gave up", *, type: str = "Fail") -> None:  # noqa: A002 - the row's word
        if not isinstance(type, str):
            raise TypeError(f"Fail(type={type!r}): write a text, such as 'no-such-customer'")
        if not 1 <= len(type) <= _MAX_TYPE:
            raise ValueError(f"Fail(type=…) has {len(type)} characters: write 1 to {_MAX_TYPE}")
        self.type: Final = type
        super().__init__(message)


_RANGES: Final = {
    "base": (0, MAX_TIMEOUT, f"from 0 to {MAX_TIMEOUT} (seconds before the second attempt)"),
    "factor": (1, math.inf, "at least 1 (1 keeps the wait, 2 doubles it each time)"),
    "max": (0, MAX_TIMEOUT, f"from 0 to {MAX_TIMEOUT} (the longest wait in seconds)"),
    "jitter": (0, 1, "from 0 to 1 (the share by which a wait varies, 0.2 for a fifth)"),
}


@dataclass(frozen=True)
class Retry:
    """Exponential backoff: before attempt n + 1 there is a wait of `base * factor ** (n - 1)` seconds, at most `max`.

    `jitter` spreads each wait by that share to both sides, so that what failed together does not come back together;
    0.2 makes of 10 s something between 8 and 12. `on`: errors that are worth another attempt; every other error is
    final, and so are those of `give_up_on`, although `on` may name their base class. Of a group, as a TaskGroup raises
    it, each error inside is looked at: one to give up on is final for all, and all have to be worth another attempt.

    A task takes it as `@task(retry=…)`. It also repeats calls, in jobs and elsewhere: `@Retry(…)` above a function, or
    `call`. `max_attempts` is how often a call is made at most, 5 if nothing is said; for jobs the task says it.
    """

    base: float = 1.0
    factor: float = 2.0
    max: float = 3600.0
    jitter: float = 0.2
    on: tuple[type[BaseException], ...] = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()
    max_attempts: int | None = None

    def __post_init__(self) -> None:
        """Raises DeclarationError, whose message names the fix."""
        if callable(self.base):
            raise DeclarationError("@Retry needs its parentheses: write @Retry()")
        for name, (least, most, advice) in _RANGES.items():
            number: Any = getattr(self, name)
            # NaN is in no range, and infinity is no number of seconds
            is_number = isinstance(number, int | float) and not isinstance(number, bool)
            if not (is_number and least <= number <= most and number < math.inf):
                raise DeclarationError(f"Retry({name}={number!r}): write a number, {advice}")
        if self.max < self.base:
            raise DeclarationError(f"Retry(max={self.max!r}) is less than base={self.base!r}: raise max or lower base")
        for name in ("on", "give_up_on"):
            kinds: object = getattr(self, name)
            if not isinstance(kinds, tuple) or not all(
                inspect.isclass(each) and issubclass(each, BaseException) for each in kinds
            ):
                advice = f"write a tuple of exception classes, for example {name}=(TimeoutError,)"
                raise DeclarationError(f"Retry({name}={kinds!r}): {advice}")
        self._refuse_what_never_acts()

    def delay(self, attempt: int, random: float) -> float:
        """Seconds from the end of failed attempt number `attempt` (from 1) to the next; `random` is from [0, 1]."""
        try:
            wait = min(self.max, self.base * float(self.factor) ** (attempt - 1))
        except OverflowError:
            wait = self.max if self.base else 0.0
        return wait * (1 + self.jitter * (2 * random - 1))

    def retries(self, error: BaseException) -> bool:
        """Whether the error is worth another attempt; in a group every leaf must be, and none one to give up on."""
        if any(isinstance(each, self.give_up_on) for each in (error, *leaves_of(error))):
            return False
        named = tuple(each for each in self.on if issubclass(each, BaseExceptionGroup))
        return all(isinstance(each, self.on) for each in leaves_of(error, whole=named))

    def __call__(self, function: Callable[P, R], /) -> Callable[P, R]:
        """Decorate a `def` or `async def`, of a module or a class, so that each call is made as `call` makes it.

        Raises DeclarationError for what it could not repeat.
        """
        _refuse(function, (*_NOT_DECORATED, *_NOT_CALLED))

        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> Any:
            return _called(self, functools.partial(function, *args, **kwargs))

        @functools.wraps(function)
        async def async_wrapper(*args: P.args, **kwargs: P.kwargs) -> Any:
            return await _awaited(self, functools.partial(function, *args, **kwargs))

        return cast("Callable[P, R]", async_wrapper if inspect.iscoroutinefunction(function) else wrapper)

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call it, and again after an error that is worth it; what an `async def` gives is awaited by the caller.

        The last error is raised as it is. Of the asks, Again is followed (after its own wait) and Fail is final. A
        `def` sleeps between two calls, so call it in a thread; an `async def` leaves the loop to others. A warning of
        the logger `jobtrail.task.calls` tells of each repeat. Raises DeclarationError for what it could not repeat.
        """
        _refuse(function, _NOT_CALLED)
        once = functools.partial(function, *args, **kwargs)
        return cast("R", _awaited(self, once) if inspect.iscoroutinefunction(function) else _called(self, once))

    def _refuse_what_never_acts(self) -> None:
        attempts: object = self.max_attempts
        if attempts is not None and not (type(attempts) is int and 1 < attempts <= MAX_ATTEMPTS):
            advice = f"write a whole number from 2 to {MAX_ATTEMPTS} (how often a call is made at most)"
            raise DeclarationError(f"Retry(max_attempts={attempts!r}): {advice}")
        if not self.on:
            raise DeclarationError("Retry(on=()) retries nothing: leave it out, or write retry=None on a task")
        if BaseException in self.on:
            advice = "write Exception, and name any other one that is worth another attempt"
            raise DeclarationError(f"Retry(on={self.on!r}) would repeat a task that was cancelled: {advice}")
        if all(issubclass(each, self.give_up_on) for each in self.on):
            advice = "name narrower errors there, or leave the Retry out"
            raise DeclarationError(f"Retry(give_up_on={self.give_up_on!r}) covers all of on={self.on!r}: {advice}")


def is_retried(error: BaseException, retry: Retry | None) -> bool:
    """Whether an error, or all leaves of a group, are worth another attempt: Fail is final, Again always is, and the
    Retry decides about every other one. `retry` None: errors are final.
    """
    leaves = leaves_of(error)
    if any(isinstance(each, Fail) for each in leaves):
        return False
    if not any(isinstance(each, Again) for each in leaves):
        return retry is not None and retry.retries(error)
    others = [each for each in leaves if not isinstance(each, Again)]
    return all(retry is not None and retry.retries(each) for each in others)


def asked_wait(error: BaseException) -> float | None:
    """Seconds to wait as Again asks, the longest of them in a group; None where none names a time."""
    asked = [each.after_seconds for each in leaves_of(error) if isinstance(each, Again)]
    return max((each for each in asked if each is not None), default=None)


def leaves_of(error: BaseException, whole: tuple[type[BaseException], ...] = ()) -> Sequence[BaseException]:
    """The errors in a group, those of nested groups too, each once and in order; of any other error itself.

    A group that is of one of the types `whole` is not looked into.
    """
    leaves: list[BaseException] = []
    seen: set[int] = set()
    todo = [error]
    while todo:  # not by recursion: groups nest to any depth
        each = todo.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, BaseExceptionGroup) and not isinstance(each, whole):
            todo.extend(reversed(each.exceptions))
        else:
            leaves.append(each)
    return leaves or [error]


def _called(retry: Retry, once: functools.partial[Any]) -> Any:
    from tenacity import Retrying  # noqa: PLC0415 - a program that repeats no call need not import tenacity

    retrying = Retrying(**_terms(retry, once))  # one for each call: a shared one mixes up calls at the same time
    result = retrying(once)
    if inspect.iscoroutine(result):  # as of `lambda: fetch(url)`: the call has only begun
        return _awaited(retry, once, result, made=retrying.statistics["attempt_number"] - 1)
    return result


async def _awaited(
    retry: Retry, once: functools.partial[Any], begun: Coroutine[Any, Any, Any] | None = None, made: int = 0
) -> Any:
    """`begun`: what the first call gave already; `made`: how many failed before it."""
    from tenacity import AsyncRetrying  # noqa: PLC0415 - the same

    async def awaited() -> Any:
        nonlocal begun
        coroutine, begun = begun or once(), None
        return await coroutine

    return await AsyncRetrying(**_terms(retry, once, made))(awaited)


def _terms(retry: Retry, once: functools.partial[Any], made: int = 0) -> dict[str, Any]:
    """How tenacity repeats a call; it counts from 1, after those that were made before."""
    from tenacity import RetryCallState, retry_if_exception, stop_after_attempt  # noqa: PLC0415 - the same

    most = retry.max_attempts or MAX_CALLS

    def error_of(state: RetryCallState) -> BaseException:
        return cast("BaseException", state.outcome and state.outcome.exception())

    def wait(state: RetryCallState) -> float:
        asked = asked_wait(error_of(state))
        # jitter is no secret
        return retry.delay(made + state.attempt_number, random.random()) if asked is None else asked  # noqa: S311

    def tell(state: RetryCallState) -> None:
        number = made + state.attempt_number + 1
        told = "%s raised %r; call %d of at most %d follows in %g s"
        log.warning(told, _name_of(once), error_of(state), number, most, round(state.upcoming_sleep, 3))

    return {
        "retry": retry_if_exception(lambda error: is_retried(error, retry)),
        "wait": wait,
        "stop": stop_after_attempt(most - made),
        "before_sleep": tell,
        "reraise": True,
    }


class NotRepeated:
    """Base of a task, which nodes repeat, and not the one who calls it."""


def _refuse(function: object, flaws: Sequence[tuple[Callable[[Any], bool], str]]) -> None:
    if advice := next((advice for applies, advice in flaws if applies(function)), None):
        if inspect.iscoroutine(function):
            function.close()  # it will never be awaited, which the error says already
        raise DeclarationError(f"{_name_of(function)} cannot be repeated: it {advice}")


_NOT_DECORATED: Final = (
    (inspect.isclass, "is a class; decorate the method that may fail, or make it by Retry(…).call(…)"),
    (lambda each: isinstance(each, classmethod | staticmethod), "is no function yet; write @Retry(…) below the other"),
)
_NOT_CALLED: Final = (
    (
        lambda each: isinstance(each, NotRepeated),
        "is a task; write @task(retry=Retry(…)), or hand over its .function",
    ),
    (inspect.iscoroutine, "is called already; hand over the function and, after it, the arguments"),
    (lambda each: not callable(each), "cannot be called"),
    (
        lambda each: inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each),
        "yields; collect the values and return a list",
    ),
)


def _name_of(function: Any) -> str:
    """Without the arguments of a partial, which may be secrets."""
    while isinstance(function, functools.partial):
        function = function.func
    names = (getattr(function, "__module__", None), getattr(function, "__qualname__", type(function).__qualname__))
    return ".".join(filter(None, names))
