"""A host's app under a real server, in processes of their own, while jobs of every kind run in it."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

from support import forks
from support.demo import free_port
from support.errands import DEAF
from support.served import CHECKOUT, Started, nothing_is_left
from support.servers import environment
from support.until import until
from support.world import Place

APP = """
from fastapi import FastAPI
from jobtrail import Jobtrail

trail = Jobtrail()
app = FastAPI()
app.include_router(trail.router(read="open", submit="open"), prefix="/trail")
"""

UVICORN = ("-m", "uvicorn", "hosted:app", "--port", "{port}")

KINDS = ("wait_for", "wait_in_thread", "wait_in_process")


class Unfinished:
    """A call whose body is held back, on a connection of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> None:
        self._reader = reader
        self._writer = writer
        self._body = body

    @classmethod
    @asynccontextmanager
    async def begun(cls, port: int, path: str, sent: object) -> AsyncIterator[Self]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = json.dumps(sent).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:1])
        await writer.drain()
        try:
            yield cls(reader, writer, body)
        finally:
            writer.close()

    async def answered(self) -> str:
        """The head and the body of the answer, after the rest was sent."""
        self._writer.write(self._body[1:])
        return (await asyncio.wait_for(self._reader.read(), 60)).decode()


class Hosted(Started):
    """`log` is all that it said."""

    def __init__(self, process: forks.Process, folder: Path, port: int) -> None:
        super().__init__(process)
        self.port = port
        self.log = folder / "hosted.log"

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        folder: Path,
        place: Place,
        *options: str,
        command: Sequence[str] = UVICORN,
        nodes: int = 1,
        **settings: str,
    ) -> AsyncIterator[Self]:
        """Whatever it leaves behind is killed at the end, and not why a test should pass."""
        (folder / "hosted.py").write_text(APP)
        port = free_port()
        variables = {
            "DATABASE_URL": place.url.libpq,
            "JOBTRAIL_CANCEL_GRACE": "0.3s",
            "JOBTRAIL_PROCESSES": "3",
            **CHECKOUT,
            **settings,
        }
        with (folder / "hosted.log").open("wb") as log:
            process = await forks.start(
                *(word.format(port=port) for word in command),
                *options,
                cwd=folder,
                env=environment(**variables),
                stdout=log.fileno(),
                stderr=log.fileno(),
            )
        hosted = cls(process, folder, port)
        try:
            await until(lambda: hosted.serves(place, nodes))
            yield hosted
            await until(lambda: nothing_is_left(process.pid))
            await until(lambda: nobody_is_in(folder))
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    async def serves(self, place: Place, nodes: int) -> bool:
        assert self.process.returncode is None, self.log.read_text()
        listens = "startup complete" in self.log.read_text() or "Listening at" in self.log.read_text()
        return bool(listens and await place.value("SELECT count(*) = $1 FROM jobtrail.nodes", nodes))

    def signal_all(self, which: signal.Signals) -> None:
        """As a terminal does at Ctrl-C."""
        os.killpg(self.process.pid, which)

    async def has_said(self, words: str) -> bool:
        return words in self.log.read_text()


async def nobody_is_in(folder: Path) -> bool:
    """Whether no process works there: those for tasks are in groups of their own."""
    for each in Path("/proc").iterdir():  # a glob would look into each, and fail at one that ends meanwhile
        with suppress(OSError):
            if (each / "cwd").readlink() == folder:
                return False
    return True


async def submitted(place: Place, task: str, max_attempts: int = 1, **args: Any) -> str:
    query = """INSERT INTO jobtrail.jobs (id, task, args, max_attempts)
        VALUES (gen_random_uuid(), $1, $2, $3) RETURNING id::text"""
    return str(await place.value(query, task, json.dumps(args, default=str), max_attempts))


async def running(place: Place, gate: Path, *, max_attempts: int = 1) -> list[str]:
    """One job of each kind that waits for the gate; they have all begun."""
    ids = [await submitted(place, task, max_attempts, gate=f"{gate}") for task in KINDS]
    ours = "SELECT count(*) FROM jobtrail.jobs WHERE status = 'running' AND args->>'gate' = $1"

    async def begun() -> bool:
        return bool(await place.value(ours, f"{gate}") == len(KINDS) and Path(f"{gate}.begun").exists())

    await until(begun)
    return ids


async def never_ending(place: Place, folder: Path, *, max_attempts: int = 1) -> list[str]:
    """One job of each kind that does not end when told to; they have all begun."""
    marks = {task: folder / f"{task}.{max_attempts}" for task in DEAF}
    ids = [await submitted(place, task, max_attempts, begun=mark) for task, mark in marks.items()]

    async def begun() -> bool:
        return all(mark.exists() for mark in marks.values())

    await until(begun)
    return ids


async def ends(place: Place) -> dict[str, tuple[str, str | None]]:
    """Status and type of error by id."""
    rows = await place.rows("SELECT id::text, status, error ->> 'type' AS type FROM jobtrail.jobs")
    return {row["id"]: (row["status"], row["type"]) for row in rows}
