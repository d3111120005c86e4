"""A wire between a client and an HTTP service, which does to each new connection what the test says."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal, Self

_BUSY = b'{"type": "/v1/problems/unavailable", "status": 503, "detail": "not now"}'
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Type: application/problem+json\r\nRetry-After: 0\r\nConnection: close\r\n"
BUSY += b"Content-Length: %d\r\n\r\n%s" % (len(_BUSY), _BUSY)

GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

Fate = Literal["busy", "gateway", "closed", "unanswered", "open"]
"""`unanswered`: the request arrives, and the answer does not."""


class Wire:
    """`fates` are those of the next connections; then all are open, unless it is `away`. `cut` ends those that are.
    `heard`: all that the service said; `taken`: how many connections there were.
    """

    def __init__(self, port: int, fates: Sequence[Fate]) -> None:
        self.fates = list(fates)
        self.url = ""
        self.away = False
        self.heard = bytearray()
        self.taken = 0
        self._port = port
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    @classmethod
    @asynccontextmanager
    async def to(cls, port: int, *fates: Fate) -> AsyncIterator[Self]:
        wire = cls(port, fates)
        server = await asyncio.start_server(wire._connected, "127.0.0.1", 0)
        wire.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        try:
            yield wire
        finally:
            server.close()
            for each in wire._tasks:
                each.cancel()
            await asyncio.gather(*wire._tasks, return_exceptions=True)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    def cut(self) -> None:
        for each in self._open:
            each.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        fate = self.fates.pop(0) if self.fates else "closed" if self.away else "open"
        self._open.add(writer)
        self.taken += 1
        try:
            with suppress(ConnectionError, OSError):
                await self._serve(fate, reader, writer)
        finally:
            self._open.discard(writer)
            writer.close()
            self._tasks.discard(task)

    async def _serve(self, fate: Fate, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if fate == "closed":
            return
        if fate in ("busy", "gateway"):
            await _request(reader)
            writer.write(BUSY if fate == "busy" else GATEWAY)
            await writer.drain()
            return
        back, forth = await asyncio.open_connection("127.0.0.1", self._port)
        sending = asyncio.create_task(_pass_on(reader, forth))
        try:
            if fate == "unanswered":
                await back.read(1)
            else:
                await _pass_on(back, writer, self.heard)
        finally:
            sending.cancel()
            forth.close()


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Where each connection gets the next of these answers, and the last one from then on; and the requests."""
    left, heard = list(answers), list[bytes]()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await _request(reader))
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", heard


def answer(content_type: str, body: bytes, status: int = 200) -> bytes:
    """It ends with its connection."""
    return b"HTTP/1.1 %d Said\r\nContent-Type: %s\r\nConnection: close\r\n\r\n%s" % (
        status,
        content_type.encode(),
        body,
    )


async def _request(reader: asyncio.StreamReader) -> bytes:
    """Its head. Its body is read too: a connection that is closed with unread bytes is reset, and its answer lost."""
    head = await reader.readuntil(b"\r\n\r\n")
    if length := re.search(rb"(?i)\r\ncontent-length: *(\d+)", head):
        await reader.readexactly(int(length[1]))
    return head


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: bytearray | None = None) -> None:
    while data := await reader.read(65536):
        if heard is not None:
            heard += data
        writer.write(data)
        await writer.drain()
