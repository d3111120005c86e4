"""A wire between clients and PostgreSQL that can be cut where it hurts: around a COMMIT."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

from support.startup import begun, refusal
from support.world import Place

_COMMIT = b"COMMIT;"
_CHUNK = 65536

Loss = Literal["request", "wait", "answer", "silence"]


@dataclass
class Proxy:
    """`loses` says what becomes of the next COMMIT. With `request` it does not reach the server, with the others its
    answer does not reach the client, whose connection is cut while it would `wait`, after the `answer`, or not at all:
    `silence`.

    `away`: nobody new is let through. `mute`: nobody is heard any more. `refuses`: the SQLSTATE that everybody
    new is refused with; `refused`: how many were. `deaf`: LISTEN raises nothing and hears nothing, as
    behind a pooler in transaction mode.
    """

    host: str
    port: str
    url: str = ""
    loses: Loss | None = None
    away: bool = False
    mute: bool = False
    refuses: str | None = None
    refused: int = 0
    deaf: bool = False
    _lost: asyncio.Event = field(default_factory=asyncio.Event)
    _clients: set[asyncio.StreamWriter] = field(default_factory=set)
    _unheard: set[asyncio.StreamWriter] = field(default_factory=set)
    _open: set["asyncio.Task[Any]"] = field(default_factory=set)

    @classmethod
    @asynccontextmanager
    async def before(cls, place: Place) -> AsyncIterator[Self]:
        parts = urlsplit(place.url.sqlalchemy)
        said = dict(parse_qsl(parts.query))
        made = cls(said.pop("host", parts.hostname or ""), said.pop("port", str(parts.port)))
        server = await asyncio.start_server(made._connected, "127.0.0.1", 0)
        made.url = (
            f"{parts.scheme}://postgres@127.0.0.1:{server.sockets[0].getsockname()[1]}{parts.path}?{urlencode(said)}"
        )
        try:
            yield made
        finally:
            server.close()
            if made._open:
                for each in made._open:
                    each.cancel()
                await asyncio.wait(made._open)

    def go_away(self) -> None:
        """Whoever is there is cut off, and nobody new is let through."""
        self.away = True
        self._cut_off()

    def refuse(self, state: str) -> None:
        """Whoever is there is cut off, and nobody new is let in."""
        self.refuses = state
        self._cut_off()

    def hang(self) -> int:
        """Who is there is not heard any more, who comes is; how many there are."""
        self._unheard |= self._clients
        return len(self._unheard)

    def _cut_off(self) -> None:
        for writer in self._clients:
            writer.close()

    async def lost(self) -> None:
        """Wait until a COMMIT was lost."""
        await asyncio.wait_for(self._lost.wait(), 60)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A task that the loop alone knows may be collected while it waits."""
        if (task := asyncio.current_task()) is not None:
            self._open.add(task)
            task.add_done_callback(self._open.discard)
        try:
            if self.refuses:
                await self._refuse(self.refuses, reader, writer)
            elif not self.away:
                await self._forward(reader, writer)
        finally:
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.host.startswith("/"):
            there, back = await asyncio.open_unix_connection(f"{self.host}/.s.PGSQL.{self.port}")
        else:
            there, back = await asyncio.open_connection(self.host, self.port)
        answers = asyncio.create_task(_pass(there, writer))
        self._clients.add(writer)
        try:
            with suppress(ConnectionError):
                while data := await reader.read(_CHUNK):
                    if self.mute or writer in self._unheard:
                        continue
                    if self.deaf:
                        data = data.replace(b'LISTEN "jobtrail.jobs"', b'LISTEN "another.place"')
                    if self.loses and _COMMIT in data:
                        answers.cancel()
                        await asyncio.wait({answers})
                        await self._lose(data, there, back, writer)
                    else:
                        back.write(data)
        finally:
            answers.cancel()
            back.close()
            self._clients.discard(writer)

    async def _refuse(self, state: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await begun(reader, writer)
            writer.write(refusal(state))
            self.refused += 1

    async def _lose(
        self, data: bytes, there: asyncio.StreamReader, back: asyncio.StreamWriter, writer: asyncio.StreamWriter
    ) -> None:
        loses, self.loses = self.loses, None
        if loses in ("request", "wait"):
            writer.close()
        if loses != "request":
            back.write(data)
            assert await there.read(_CHUNK)
        if loses == "answer":
            writer.close()
        self._lost.set()


async def _pass(there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await there.read(_CHUNK):
            writer.write(data)
    writer.close()
