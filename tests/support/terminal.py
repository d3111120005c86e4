"""A terminal with somebody in front of it, who sees what is written as it is written."""

import asyncio
import fcntl
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from support.command import Command, _environment
from support.until import until

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.sent = ""

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


@asynccontextmanager
async def terminal(command: Command, *words: str, columns: int = 80, **more: str) -> AsyncIterator[Terminal]:
    """`jobtrail` in a terminal of this width; killed at the end, should it still be there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "jobtrail", *words, cwd=command.folder, stdin=theirs, stdout=theirs, stderr=theirs,
        env=_environment({"TERM": "xterm", **command.variables, **more}),
    )  # fmt: skip
    os.close(theirs)
    found = Terminal(process)
    loop = asyncio.get_running_loop()
    rest = bytearray()

    def read() -> None:
        try:
            rest.extend(os.read(ours, 65536))
        except OSError:  # EIO: the other side is closed
            loop.remove_reader(ours)
        whole = rest.decode(errors="ignore")
        found.sent += whole
        del rest[: len(whole.encode())]

    loop.add_reader(ours, read)
    try:
        yield found
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        loop.remove_reader(ours)
        os.close(ours)
