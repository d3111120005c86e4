"""The command line as a person or a script calls it: each call is a process of its own."""

import asyncio
import fcntl
import json
import os
import pty
import struct
import sys
import termios
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from support.servers import environment

TOP = Path(__file__).parents[2]

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
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environ = _environment({"TERM": "xterm", **self.variables, **more})
        process = await asyncio.create_subprocess_exec(
            *_PYTHON, *words, cwd=self.folder, env=environ, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        os.write(ours, typed.encode())
        said = await asyncio.to_thread(_read, ours)
        await process.wait()
        os.close(ours)
        return said.replace("\r\n", "\n")


async def ended(process: asyncio.subprocess.Process) -> Done:
    """All that a started process still says, and its exit code."""
    out, err = await process.communicate()
    assert process.returncode is not None
    return Done(process.returncode, (out or b"").decode(), err.decode())


_PYTHON = (sys.executable, "-m", "jobtrail")


def _environment(variables: Mapping[str, str], package: Path = TOP) -> dict[str, str]:
    found = environment(PYTHONPATH=f"{package / 'service'}:{TOP / 'tests'}")
    return {name: value for name, value in found.items() if name not in _FORCED} | dict(variables)


def _read(terminal: int) -> str:
    said = b""
    with suppress(OSError):  # EIO: the other side is closed
        while chunk := os.read(terminal, 65536):
            said += chunk
    return said.decode()
