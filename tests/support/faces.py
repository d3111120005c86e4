"""Both faces of the client, so that a test holds for each: what one awaits, the other does in a thread."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from jobtrail.client import AsyncClient, Client

FACES = ("awaited", "blocking")


@asynccontextmanager
async def client_at(face: str, url: str, **options: Any) -> AsyncIterator[Any]:
    if face == "awaited":
        async with AsyncClient(url, **options) as client:
            yield client
    else:
        with Client(url, **options) as client:
            yield InThread(client)


class InThread:
    """A blocking thing whose methods are awaited."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.thing, name)
        if name == "options":
            return lambda **said: InThread(found(**said))
        if name.endswith("events"):
            return lambda *args, **said: each_in_thread(found(*args, **said))
        return self._awaited(found) if callable(found) else found

    def _awaited(self, call: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        async def awaited(*args: Any, **said: Any) -> Any:
            found = await asyncio.to_thread(call, *args, **said)
            return InThread(found) if hasattr(found, "wait") else found

        return awaited


async def each_in_thread(found: Any) -> AsyncIterator[Any]:
    try:
        with suppress(StopAsyncIteration):
            while True:
                yield await asyncio.to_thread(_following, found)
    finally:
        await asyncio.to_thread(found.close)


def _following(found: Any) -> Any:
    """A StopIteration is for no future."""
    try:
        return next(found)
    except StopIteration:
        raise StopAsyncIteration from None
