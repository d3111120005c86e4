import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Fact = TypeVar("Fact")


async def until(fact: Callable[[], Awaitable[Fact]], *, within: float = 60.0, every: float = 0.02) -> Fact:
    """Wait until `fact` is true and return it; fail with its last value after `within` seconds."""
    end = time.monotonic() + within
    while True:
        found = await fact()
        if found:
            return found
        assert time.monotonic() < end, f"not true within {within} s: {fact}, last: {found!r}"
        await asyncio.sleep(every)
