"""A TCP wire between the fleet and PostgreSQL that cuts, hangs, refuses, and swallows the answer to what was just
committed.

It reads the messages (PostgreSQL, chapter "Frontend/Backend Protocol") no further than to know which answer that is.
"""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Self
from urllib.parse import parse_qs, urlsplit

from chaos.world import World
from support.startup import begun, refusal

_CHUNK = 65536
_WRITES = (b"INSERT INTO jobtrail.jobs", b"UPDATE jobtrail.jobs")
_READY, _IDLE = ord("Z"), ord("I")


@dataclass
class Messages:
    """Takes a stream apart into (type, body); the rest of a message that is not whole yet is kept."""

    rest: bytes = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        whole, found = self.rest + data, []
        while len(whole) >= 5 and len(whole) >= (end := 1 + struct.unpack_from("!I", whole, 1)[0]):
            found.append((whole[0], whole[5:end]))
            whole = whole[end:]
        self.rest = whole
        return found


@dataclass(eq=False)
class Link:
    """One connection. `open` is clear while it hangs: what is sent then arrives late, also when the sender has given up
    and gone.
    """

    number: int
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    open: asyncio.Event = field(default_factory=asyncio.Event)
    fresh: bool = True
    writes: bool = False
    """Whether what is on its way to the server changes a job and commits by itself, or is a COMMIT."""
    statements: dict[bytes, bool] = field(default_factory=dict)
    asked: Messages = field(default_factory=Messages)
    told: Messages = field(default_factory=Messages)

    def hear(self, data: bytes) -> None:
        """Notes which statements change a job: Parse names them, Bind uses them again."""
        for kind, body in self.asked.feed(data):
            match chr(kind):
                case "P":
                    name, _, rest = body.partition(b"\0")
                    self.statements[name] = any(each in rest for each in _WRITES)
                case "B":
                    self.writes |= self.statements.get(body.split(b"\0", 2)[1], False)
                case "Q":
                    self.writes |= body.startswith(b"COMMIT") or any(each in body for each in _WRITES)
                case _:
                    pass

    def cut(self) -> None:
        for writer in (self.client, self.server):
            writer.transport.abort()


class Wire:
    """`url` is for the fleet. Everything that happens on it is chosen by `random`, and counted."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random: Random = world.random
        query = parse_qs(urlsplit(world.url.sqlalchemy).query)
        self._place = f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"
        self._links: set[Link] = set()
        self._numbers = count(1)
        self._to_swallow = 0
        self._to_welcome = 0
        self._refusal: str | None = None
        self._refused = 0
        self._hanging: set[asyncio.Task[None]] = set()
        self._running: set[asyncio.Task[None]] = set()
        self.url = ""

    @classmethod
    @asynccontextmanager
    async def before(cls, world: World, *, role: str = "postgres") -> AsyncIterator[Self]:
        """`role`: whom the fleet comes as."""
        made = cls(world)
        server = await asyncio.start_server(made._connected, "127.0.0.1", 0)
        path = urlsplit(world.url.sqlalchemy).path
        made.url = f"postgresql://{role}@127.0.0.1:{server.sockets[0].getsockname()[1]}{path}"
        try:
            yield made
        finally:
            server.close()
            for task in (*made._hanging, *made._running):
                task.cancel()
            await asyncio.gather(*made._hanging, *made._running, return_exceptions=True)

    @property
    def under_way(self) -> int:
        """What was asked for and has not happened to its end."""
        return self._to_swallow + self._to_welcome + len(self._hanging)

    def cut(self) -> None:
        """Any connection ends at once, for both."""
        if link := self._any():
            link.cut()
            self._world.note("connection cut", f"number {link.number}, of {len(self._links)}")

    def hang(self, seconds: float) -> None:
        """Any connection passes nothing on for so long, to neither side, and then all of it."""
        if link := self._any():
            link.open.clear()
            task = asyncio.create_task(self._open_again(link, seconds))
            self._hanging.add(task)
            task.add_done_callback(self._hanging.discard)

    def cut_the_next(self) -> None:
        """Any connection ends at once, and the one that comes for it as soon as the server has welcomed it."""
        if link := self._any():
            self._to_welcome += 1
            link.cut()

    def swallow(self) -> None:
        """The next commit that changes jobs is not heard of by whoever asked for it."""
        self._to_swallow += 1

    @asynccontextmanager
    async def refusing(self, state: str) -> AsyncIterator[Callable[[], int]]:
        """Whoever comes is refused with this SQLSTATE; how many were so far."""
        before, self._refusal = self._refused, state
        try:
            yield lambda: self._refused - before
        finally:
            self._refusal = None

    def _any(self) -> Link | None:
        links = sorted((link for link in self._links if link.open.is_set()), key=lambda link: link.number)
        return self._random.choice(links) if links else None

    async def _open_again(self, link: Link, seconds: float) -> None:
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(seconds)
        took = asyncio.get_running_loop().time() - began
        gone = " after its client was gone" if link.client.is_closing() else ""
        link.open.set()
        self._world.note("connection hung", f"number {link.number} passed nothing on for {took:.1f} s{gone}")

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        link = None
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            start = await begun(reader, writer)
            if self._refusal:
                self._refused += 1
                writer.write(refusal(self._refusal, "refused by the suite"))
                writer.close()
                return
            there, back = await asyncio.open_unix_connection(self._place)
            back.write(start)
            link = Link(next(self._numbers), writer, back)
            link.open.set()
            self._links.add(link)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._ask(reader, link))
                group.create_task(self._answer(there, link))
        if link:
            self._links.discard(link)
            link.cut()
        writer.transport.abort()

    async def _ask(self, reader: asyncio.StreamReader, link: Link) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                await link.open.wait()
                link.hear(data)
                link.server.write(data)
        await link.open.wait()
        link.server.close()

    async def _answer(self, reader: asyncio.StreamReader, link: Link) -> None:
        """What answers a write is held back until the server is done with it."""
        held = b""
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                await link.open.wait()
                held += data
                said = link.told.feed(data)
                is_ready = any(kind == _READY for kind, _ in said)
                if link.fresh and is_ready and self._to_welcome:
                    self._to_welcome -= 1
                    self._world.note("connection cut", f"number {link.number}, when the server had just welcomed it")
                    link.client.write(held)
                    break
                link.fresh &= not is_ready
                if link.writes and not is_ready:
                    continue
                done = link.writes and any(kind == _READY and body[0] == _IDLE for kind, body in said)
                if done and self._to_swallow and (tag := _tag(held)):
                    self._to_swallow -= 1
                    self._world.note("answer swallowed", f"connection {link.number}: the server had said {tag}")
                    link.cut()
                    return
                link.writes = False
                link.client.write(held)
                held = b""
        link.client.close()


def _tag(answer: bytes) -> str | None:
    """The tag of the last command that was completed and changed something."""
    tags = [body.rstrip(b"\0").decode() for kind, body in Messages().feed(answer) if chr(kind) == "C"]
    changed = [tag for tag in tags if tag == "COMMIT" or (tag[:6] in ("INSERT", "UPDATE") and not tag.endswith(" 0"))]
    return changed[-1] if changed else None
