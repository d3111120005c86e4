"""A function that fails as it is told, in all its shapes, and the ways in which a call is repeated."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from jobtrail import Retry


class Trouble:
    """Fails as it is told, then gives its arguments; as a def, an async def, a method, a partial, a lambda, …"""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    def sync(self, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return args, kwargs

    async def awaited(self, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        await asyncio.sleep(0)
        return self.sync(*args, **kwargs)

    def gives_a_coroutine(self, *args: Any, **kwargs: Any) -> Any:
        return self.awaited(*args, **kwargs)

    __call__ = awaited


Make = Callable[[Trouble], Callable[..., Any]]
SHAPES: dict[str, Make] = {
    "sync": lambda trouble: trouble.sync,
    "async": lambda trouble: trouble.awaited,
    "partial": lambda trouble: functools.partial(trouble.sync),
    "async partial": lambda trouble: functools.partial(functools.partial(trouble.awaited)),
    "async object": lambda trouble: trouble,
    "gives a coroutine": lambda trouble: trouble.gives_a_coroutine,
}
WAYS: dict[str, Callable[[Retry, Callable[..., Any]], Callable[..., Any]]] = {
    "decorated": lambda retry, function: retry(function),
    "called": lambda retry, function: functools.partial(retry.call, function),
}
