"""Cancels a coroutine, and with it what it started, where it is suspended for the n-th time."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final

_SHIELDED: Final = frozenset({"leave", "ProcessHandle._end"})
"""How a connection takes its leave and a process is buried: nothing but a loop that is being closed cancels them."""


class Cut:
    """Cancels the first asyncio task whose coroutine is one of `names`; with `below`, one that it starts too.

    `hit`: what was cancelled, and where it was. `twice`: it is cancelled again at its next suspension.
    """

    def __init__(self, names: frozenset[str], at: int, *, below: bool, twice: bool) -> None:
        self.hit: str | None = None
        self._names = names
        self._at = at
        self._below = below
        self._twice = twice
        self._count = 0
        self._again: object = None
        self._family: set[asyncio.Task[Any]] = set()

    @classmethod
    def each(cls, name: str, below: bool, twice: bool, most: int = 40) -> list["Cut"]:
        """At the first await, at the second, and so on."""
        return [cls(frozenset({name}), at, below=below, twice=twice) for at in range(1, most + 1)]

    @contextmanager
    def armed(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(self._make)
        try:
            yield
        finally:
            loop.set_task_factory(None)

    def suspended(self) -> None:
        self._count += 1
        task = asyncio.current_task()
        assert task is not None
        if self._count == self._at:
            self.hit = f"{_name(task.get_coro())} at {self._count}"
            self._again = task
        elif not (self._twice and self._again is task):
            return
        else:
            self._again = None
        asyncio.get_running_loop().call_soon(task.cancel)

    def _make(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        is_root = not self._family and getattr(coroutine, "__qualname__", "") in self._names
        is_below = self._below and asyncio.current_task(loop) in self._family and _name(coroutine) not in _SHIELDED
        if not (is_root or is_below):
            return asyncio.Task(coroutine, loop=loop, **options)
        task = asyncio.Task(Stepped(coroutine, self.suspended), loop=loop, **options)
        self._family.add(task)
        return task


class Stepped(Coroutine[Any, Any, Any]):
    """Another coroutine, of which each suspension is told."""

    def __init__(self, inner: Coroutine[Any, Any, Any], suspended: Callable[[], None]) -> None:
        self.inner = inner
        self._suspended = suspended

    def send(self, value: Any, /) -> Any:
        given = self.inner.send(value)
        self._suspended()
        return given

    def throw(self, *error: Any) -> Any:
        given = self.inner.throw(*error)
        self._suspended()
        return given

    def close(self) -> None:
        self.inner.close()

    def __await__(self) -> Any:
        return self.inner.__await__()


def _name(coroutine: Any) -> str:
    while isinstance(coroutine, Stepped):
        coroutine = coroutine.inner
    return getattr(coroutine, "__qualname__", repr(coroutine))
