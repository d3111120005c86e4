"""The command line as a person or a script calls it: each call is a process of its own."""

import asyncio
import codecs
import fcntl
import json
import os
import pty
import re
import struct
import termios
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from support.forks import PIPE, Process, start
from support.servers import environment
from support.until import until

TOP = Path(__file__).parents[2]

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Command:
    """`jobtrail` in `folder`, with these settings and no others."""

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    async def __call__(self, *words: str, **more: str) -> Done:
        """`more` are settings beside those of the command."""
        return await ended(await self.start(*words, **more))

    async def start(self, *words: str | bytes, stdout: int = PIPE, **more: str) -> Process:
        return await start(*_JOBTRAIL, *words, cwd=self.folder, env=self.environ(**more), stdout=stdout)

    def environ(self, **more: str) -> dict[str, str]:
        return environment(PYTHONPATH=f"{TOP / 'service'}:{TOP / 'tests'}") | dict(self.variables) | more

    async def in_terminal(self, columns: int, *words: str, typed: str = "", **more: str) -> str:
        """All that a terminal of this width is sent, what is `typed` there included."""
        async with terminal(self, *words, columns=columns, **more) as shown:
            shown.type(typed)
            await shown.closed.wait()
            return shown.sent.replace("\r\n", "\n")


class Terminal:
    """With somebody in front of it, who sees what is written as it is written: all of that is `sent`."""

    def __init__(self, process: Process, file: int) -> None:
        self.process = process
        self.sent = ""
        self.closed = asyncio.Event()
        self._file = file

    @property
    def lines(self) -> list[str]:
        """All lines that were ever shown, those too that were written over since."""
        return re.split(r"[\r\n]+", _ESCAPE.sub("", self.sent))

    async def shows(self, *texts: str) -> str:
        """Wait for a line that has all of these; the last one that has."""

        async def line() -> str | None:
            return next((each for each in reversed(self.lines) if all(text in each for text in texts)), None)

        return str(await until(line))

    async def ended(self) -> int:
        return await asyncio.wait_for(self.process.wait(), 60)

    def type(self, text: str) -> None:
        os.write(self._file, text.encode())


@asynccontextmanager
async def terminal(command: Command, *words: str, columns: int = 80, **more: str) -> AsyncIterator[Terminal]:
    """`jobtrail` in a terminal of this width; killed at the end, should it still be there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environ = command.environ(**{"TERM": "xterm", **more})
    process = await start(
        *_JOBTRAIL, *words, cwd=command.folder, env=environ, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    found, decoder = Terminal(process, ours), codecs.getincrementaldecoder("utf-8")()
    loop = asyncio.get_running_loop()

    def read() -> None:
        try:
            found.sent += decoder.decode(os.read(ours, 65536))
        except OSError:  # EIO: the other side is closed
            loop.remove_reader(ours)
            found.closed.set()

    loop.add_reader(ours, read)
    try:
        yield found
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        loop.remove_reader(ours)
        os.close(ours)


async def ended(process: Process | asyncio.subprocess.Process) -> Done:
    """All that a started process still says, and its exit code."""
    out, err = await process.communicate()
    assert process.returncode is not None
    return Done(process.returncode, (out or b"").decode(), err.decode())


_JOBTRAIL = ("-m", "jobtrail")
