"""The two kinds of connections that the calls go over: awaited, and blocking. Both are httpx's."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, NamedTuple, Protocol

import httpx
from httpx_sse import EventSource, ServerSentEvent

LIMITS: Final = httpx.Limits(max_connections=None, max_keepalive_connections=20)
"""Connections of the clients that are made here: each wait and each stream holds one, and the service bounds them."""


class Stream(NamedTuple):
    """An answer that has no end of its own."""

    response: httpx.Response
    events: AsyncIterator[ServerSentEvent]


class Http(Protocol):
    """Sends requests, and sleeps between them."""

    def build(self, method: str, url: str, **said: Any) -> httpx.Request: ...
    async def send(self, request: httpx.Request) -> httpx.Response: ...
    def stream(self, request: httpx.Request) -> AbstractAsyncContextManager[Stream]: ...
    async def sleep(self, seconds: float) -> None: ...


@dataclass(frozen=True)
class AsyncHttp:
    """Awaited."""

    client: httpx.AsyncClient

    def build(self, method: str, url: str, **said: Any) -> httpx.Request:
        return self.client.build_request(method, url, **said)

    async def send(self, request: httpx.Request) -> httpx.Response:
        return await self.client.send(request)

    @asynccontextmanager
    async def stream(self, request: httpx.Request) -> AsyncIterator[Stream]:
        response = await self.client.send(request, stream=True)
        try:
            if response.status_code != HTTPStatus.OK:
                await response.aread()
            yield Stream(response, EventSource(response).aiter_sse())
        finally:
            await response.aclose()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass(frozen=True)
class BlockingHttp:
    """Its coroutines block, and never suspend."""

    client: httpx.Client

    def build(self, method: str, url: str, **said: Any) -> httpx.Request:
        return self.client.build_request(method, url, **said)

    async def send(self, request: httpx.Request) -> httpx.Response:
        return self.client.send(request)

    @asynccontextmanager
    async def stream(self, request: httpx.Request) -> AsyncIterator[Stream]:
        response = self.client.send(request, stream=True)
        try:
            if response.status_code != HTTPStatus.OK:
                response.read()
            yield Stream(response, _each(EventSource(response).iter_sse()))
        finally:
            response.close()

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - it is the one that blocks


async def _each(found: Iterator[ServerSentEvent]) -> AsyncIterator[ServerSentEvent]:
    for each in found:
        yield each
