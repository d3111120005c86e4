"""The command line as a person or a script calls it: each call is a process of its own."""

import asyncio
import codecs
import fcntl
import json
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from support.servers import environment
from support.until import until

TOP = Path(__file__).parents[2]

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
_FORCED = ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


# It has imported what the verbs need and forks for each call, so a call takes a tenth of a start of Python. Nor does it
# wait for the interpreter to take all of that apart, which is ten times the work of the verb.
_FORKS = """
import json, os, sys, tempfile
from pathlib import Path
from jobtrail.cli import database, doctor, jobs, main, moves, ops, submit
import asyncpg
for line in sys.stdin:
    words, folder, environ = json.loads(line)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(environ)
            sys.argv = ["jobtrail", *words]
            try:
                main()
            except SystemExit as ended:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(ended.code or 0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        said = [os.pread(each.fileno(), os.fstat(each.fileno()).st_size, 0).decode() for each in (out, err)]
    print(json.dumps([code, *said]), flush=True)
"""


@dataclass(frozen=True)
class Forks:
    process: asyncio.subprocess.Process
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self, words: tuple[str, ...], folder: Path, environ: Mapping[str, str]) -> Done:
        assert self.process.stdin
        assert self.process.stdout
        async with self.turn:
            self.process.stdin.write(json.dumps([words, str(folder), environ]).encode() + b"\n")
            return Done(*json.loads(await self.process.stdout.readline()))


@asynccontextmanager
async def forks() -> AsyncIterator[Forks]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _FORKS, env=_environment({}), limit=2**24, stdin=-1, stdout=-1
    )
    yield Forks(process)
    assert process.stdin
    process.stdin.close()
    await process.wait()


@dataclass(frozen=True)
class Command:
    """`jobtrail` in `folder`, with these settings and no others."""

    forks: Forks
    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    async def __call__(self, *words: str, **more: str) -> Done:
        """`more` are settings beside those of the command."""
        return await self.forks.run(words, self.folder, _environment({**self.variables, **more}))

    async def start(
        self, *words: str | bytes, package: Path = TOP, stdout: int = -1, **more: str
    ) -> asyncio.subprocess.Process:
        """A start of Python with piped output; `package` is where service/ and migrations/ lie."""
        environ = _environment({**self.variables, **more}, package)
        return await asyncio.create_subprocess_exec(
            *_PYTHON, *words, cwd=self.folder, env=environ, stdin=asyncio.subprocess.DEVNULL, stdout=stdout, stderr=-1
        )

    async def in_terminal(self, columns: int, *words: str, typed: str = "", **more: str) -> str:
        """All that a terminal of this width is sent, what is `typed` there included."""
        async with terminal(self, *words, columns=columns, **more) as shown:
            shown.type(typed)
            await shown.closed.wait()
            return shown.sent.replace("\r\n", "\n")


class Terminal:
    """With somebody in front of it, who sees what is written as it is written: all of that is `sent`."""

    def __init__(self, process: asyncio.subprocess.Process, file: int) -> None:
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
    process = await asyncio.create_subprocess_exec(
        *_PYTHON, *words, cwd=command.folder, stdin=theirs, stdout=theirs, stderr=theirs,
        env=_environment({"TERM": "xterm", **command.variables, **more}),
    )  # fmt: skip
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


async def ended(process: asyncio.subprocess.Process) -> Done:
    """All that a started process still says, and its exit code."""
    out, err = await process.communicate()
    assert process.returncode is not None
    return Done(process.returncode, (out or b"").decode(), err.decode())


_PYTHON = (sys.executable, "-m", "jobtrail")


def _environment(variables: Mapping[str, str], package: Path = TOP) -> dict[str, str]:
    found = environment(PYTHONPATH=f"{package / 'service'}:{TOP / 'tests'}")
    return {name: value for name, value in found.items() if name not in _FORCED} | dict(variables)
