"""A call that is made again as a Retry says, in a job or anywhere else; tenacity does the repeating."""

import functools
import inspect
import logging
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, TypeVar, cast

from tenacity import AsyncRetrying, RetryCallState, Retrying

from jobtrail.job.errors import DeclarationError
from jobtrail.job.retry import Retry, asked_wait, is_retried
from jobtrail.job.task import Task

P = ParamSpec("P")
R = TypeVar("R")

MAX_CALLS: Final = 5
"""How often a call is made at most when its Retry says nothing."""

log = logging.getLogger(__name__)


def repeated(retry: Retry, function: Callable[P, R]) -> Callable[P, R]:
    """The function, whose calls are all made as `call` makes them."""
    _refuse(function, (*_NOT_DECORATED, *_NOT_CALLED))
    wrapper = _asynchronous(retry, function) if inspect.iscoroutinefunction(function) else _synchronous(retry, function)
    return cast("Callable[P, R]", functools.update_wrapper(wrapper, function))


def call(retry: Retry, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """What the function gives; of an async one it is a coroutine. Raises DeclarationError for what yields, say."""
    _refuse(function, _NOT_CALLED)
    made = _Call(retry, function, args, kwargs)
    return cast("R", made.coroutine() if inspect.iscoroutinefunction(function) else made.result())


def _asynchronous(retry: Retry, function: Callable[..., Any]) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await _Call(retry, function, args, kwargs).coroutine()

    return wrapper


def _synchronous(retry: Retry, function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return _Call(retry, function, args, kwargs).result()

    return wrapper


@dataclass(frozen=True, slots=True)
class _Call:
    """A tenacity object serves one call: a shared one mixes up calls that are made at the same time."""

    retry: Retry
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def result(self) -> Any:
        retrying = Retrying(**self._terms(made=0))
        result = retrying(self._once)
        if inspect.iscoroutine(result):  # as of `lambda: fetch(url)`: the call has only begun
            return self.coroutine(result, made=retrying.statistics["attempt_number"] - 1)
        return result

    async def coroutine(self, begun: Coroutine[Any, Any, Any] | None = None, *, made: int = 0) -> Any:
        """`begun`: what the first call gave already; `made`: how many failed before it."""

        async def once() -> Any:
            nonlocal begun
            coroutine, begun = begun or self._once(), None
            return await coroutine

        return await AsyncRetrying(**self._terms(made))(once)

    def _once(self) -> Any:
        return self.function(*self.args, **self.kwargs)

    def _terms(self, made: int) -> dict[str, Any]:
        """What tenacity asks for after each call; it counts from 1, after those that were made before."""
        most = self.retry.max_attempts or MAX_CALLS
        return {
            "retry": lambda state: _is_worth_another(self.retry, _error_of(state)),
            "wait": lambda state: _wait(self.retry, _error_of(state), made + state.attempt_number),
            "stop": lambda state: made + state.attempt_number >= most,
            "before_sleep": lambda state: log.warning(
                "%s raised %r; call %d of at most %d follows in %g s",
                _name_of(self.function),
                _error_of(state),
                made + state.attempt_number + 1,
                most,
                round(state.upcoming_sleep, 3),
            ),
            "reraise": True,
        }


def _error_of(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _is_worth_another(retry: Retry, error: BaseException | None) -> bool:
    return error is not None and is_retried(error, retry)


def _wait(retry: Retry, error: BaseException | None, attempt: int) -> float:
    asked = None if error is None else asked_wait(error)
    return retry.delay(attempt, random.random()) if asked is None else asked  # noqa: S311 - jitter is no secret


def _refuse(function: object, flaws: tuple[tuple[Callable[[Any], bool], str], ...]) -> None:
    if advice := next((advice for applies, advice in flaws if applies(function)), None):
        if inspect.iscoroutine(function):
            function.close()  # nobody will await it, which the error says already
        raise DeclarationError(f"{_name_of(function)} cannot be repeated: it {advice}")


_NOT_DECORATED: Final = (
    (inspect.isclass, "is a class; decorate the method that may fail, or make it by Retry(…).call(…)"),
    (lambda each: isinstance(each, classmethod | staticmethod), "is no function yet; write @Retry(…) below the other"),
)
_NOT_CALLED: Final = (
    (lambda each: isinstance(each, Task), "is a task; write @task(retry=Retry(…)), or hand over its .function"),
    (inspect.iscoroutine, "is called already; hand over the function and, after it, the arguments"),
    (lambda each: not callable(each), "cannot be called"),
    (inspect.isgeneratorfunction, "yields; collect the values and return a list"),
    (inspect.isasyncgenfunction, "yields; collect the values and return a list"),
)


def _name_of(function: Any) -> str:
    """Without the arguments of a partial, which may be nobody's business."""
    while isinstance(function, functools.partial):
        function = function.func
    names = (getattr(function, "__module__", None), getattr(function, "__qualname__", type(function).__qualname__))
    return ".".join(filter(None, names))
