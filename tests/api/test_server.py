"""Under uvicorn: what callers do to connections, and what becomes of them."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import httpx
import pytest
import uvicorn

from jobtrail.api.middleware import SilentConnections, WholeResponses
from jobtrail.api.routes import install
from jobtrail.app import _Server
from support.service import Service
from support.world import Place, services_at

MOST = 4
PATIENCE = timedelta(milliseconds=300)
LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
JOBS = b"GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n"
SUBMIT = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n"


@dataclass
class Line:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def status_of(self, said: bytes) -> int:
        self.writer.write(said)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await self.reader.readexactly(length)
        return int(head.split()[1])

    async def is_closed(self) -> bool:
        return await self.reader.read(1) == b""


@dataclass
class Serving:
    url: str
    port: int

    @asynccontextmanager
    async def line(self) -> AsyncIterator[Line]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Line(reader, writer)
        finally:
            writer.close()


@pytest.fixture(scope="module")
async def serving(kept_place: Place) -> AsyncIterator[Serving]:
    """Few connections, and little patience."""
    service = Service(services_at(kept_place))
    context = replace(service.context, body_timeout=PATIENCE)
    install(service.app, context, connections=lambda: server.connections, most_connections=MOST)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    ready = asyncio.Event()
    config = uvicorn.Config(
        service.app, http=WholeResponses, log_config=None, lifespan="off", timeout_graceful_shutdown=1
    )
    server = _Server(config, lambda _url: ready.set(), asyncio.Event(), SilentConnections(PATIENCE))
    running = asyncio.create_task(server._serve([listening]))  # without its signal handlers
    await ready.wait()
    yield Serving(f"http://127.0.0.1:{port}", port)
    server.should_exit = True
    await running


@asynccontextmanager
async def lines(serving: Serving, count: int) -> AsyncIterator[list[Line]]:
    async with AsyncExitStack() as open_ones:
        yield [await open_ones.enter_async_context(serving.line()) for _ in range(count)]


async def test_connections_that_are_too_many(serving: Serving) -> None:
    async with lines(serving, MOST) as taken:
        assert [await line.status_of(JOBS) for line in taken] == [200] * MOST
        async with lines(serving, 2) as (one, other):
            assert await one.status_of(LIVE) == 200
            for line in (one, other):
                assert await line.status_of(JOBS) == 503
                assert await line.is_closed()
        assert await taken[0].status_of(JOBS) == 200


async def test_a_response_comes_in_one_piece(serving: Serving) -> None:
    async with serving.line() as line, asyncio.timeout(60):
        for _ in range(20):
            line.writer.write(JOBS)
            assert (await line.reader.read(65536)).endswith(b"}")


async def test_head_without_a_body_is_sent(serving: Serving) -> None:
    async with serving.line() as line, asyncio.timeout(60):
        for _ in range(2):
            line.writer.write(LIVE.replace(b"GET", b"HEAD"))
            assert (await line.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_headers_that_do_not_end(serving: Serving) -> None:
    """Neither on a fresh connection nor after an answer; sooner than uvicorn closes what is idle, after 5 s."""
    async with lines(serving, MOST) as (fresh, begun, asked, asked_and_begun), asyncio.timeout(60):
        for line in (asked, asked_and_begun):
            assert await line.status_of(JOBS) == 200
        for line in (begun, asked_and_begun):
            line.writer.write(JOBS[:30])
        closed = await asyncio.gather(*(line.is_closed() for line in (fresh, begun, asked, asked_and_begun)))
        assert closed == [True] * MOST


async def test_a_body_that_does_not_end(serving: Serving) -> None:
    async with serving.line() as line, asyncio.timeout(60):
        assert await line.status_of(SUBMIT + b'{"task"') == 408
        assert await line.is_closed()


async def test_head_is_get_without_the_content(serving: Serving) -> None:
    async with httpx.AsyncClient(base_url=serving.url, trust_env=False) as client:
        for path in ("/v1/tasks", "/v1/jobs/x", "/docs", "/openapi.json", "/static-offline-docs/favicon.png"):
            got, asked = await client.get(path), await client.head(path)
            assert asked.content == b""
            assert asked.status_code == got.status_code
            for answer in (got, asked):
                for name in ("date", "x-trace-id"):
                    answer.headers.pop(name, None)
            assert asked.headers == got.headers
