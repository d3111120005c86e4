"""Python programs as processes of their own, forked from one Python that has imported what they need.

A start of Python imports for a second or two; a fork of one that has done so takes a hundredth of it. To a program it
is all the same: it has its own session, folder, environment, path, arguments, files 0 to 2 and `__main__`.

`python -m support.forks SOCKET` is that one Python. Who connects sends `[words, folder, environ]` and the three files,
and gets the pid, later the exit code. It ends with its standard input, and what it forked with it.
"""

import asyncio
import atexit
import ctypes
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from support.servers import environment

OWN: Final = [str(Path(__file__).parents[2] / each) for each in ("service", "tests")]
"""On the path of the process that the others are forked from, and of none of these."""

PIPE: Final = asyncio.subprocess.PIPE
ADDRESS: Final = "JOBTRAIL_TESTS_FORK_AT"
"""The variable that names the socket which a process that started this one has for both."""

_CLIENT: Final = """\
import json, os, signal, socket, sys
line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
line.connect(sys.argv[1])
socket.send_fds(line, [json.dumps([sys.argv[2:], os.getcwd(), dict(os.environ)]).encode()], [0, 1, 2])
pid = int(line.recv(32))
for which in (signal.SIGINT, signal.SIGTERM):
    signal.signal(which, lambda which, _: os.kill(pid, which))
code = int(line.recv(32))
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""

_PR_SET_PDEATHSIG: Final = 1


@functools.cache
def address() -> str:
    """Where the one of this run listens; it is started when it is first asked for."""
    if known := os.environ.get(ADDRESS):
        return known
    folder = tempfile.TemporaryDirectory(prefix="jobtrail-forks-")
    path = f"{folder.name}/socket"
    server = subprocess.Popen(
        [sys.executable, "-m", "support.forks", path],
        stdin=PIPE,
        stdout=PIPE,
        start_new_session=True,
        env=environment(PYTHONPATH=":".join(OWN)),
    )
    assert server.stdin
    assert server.stdout
    assert server.stdout.readline() == b"ready\n"
    atexit.register(folder.cleanup)
    atexit.register(server.wait)
    for each in (server.stdin, server.stdout):
        atexit.register(each.close)
    return path


def quick() -> list[str]:
    """How the command of a program begins, in place of `python`, for a shell and for who waits without a loop. It is a
    process between, which passes on signals and the exit code.
    """
    return [sys.executable, "-IS", "-c", _CLIENT, address()]


class Process:
    """As asyncio's: `stdin`, `stdout` and `stderr` are there where they are a PIPE."""

    def __init__(self, line: socket.socket, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._ended = asyncio.create_task(self._end(line))

    async def _end(self, line: socket.socket) -> int:
        with line:
            self.returncode = int(await asyncio.get_running_loop().sock_recv(line, 32))
        return self.returncode

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    def send_signal(self, which: int) -> None:
        if self.returncode is not None:
            raise ProcessLookupError
        os.kill(self.pid, which)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def communicate(self) -> tuple[bytes, bytes]:
        """What it still says, until it has ended."""
        if self.stdin:
            self.stdin.close()
        out, err = [await each.read() if each else b"" for each in (self.stdout, self.stderr)]
        await self.wait()
        return out, err


async def start(
    *words: str | bytes,
    cwd: Path,
    env: dict[str, str],
    stdin: int | None = None,
    stdout: int = PIPE,
    stderr: int = PIPE,
) -> Process:
    """What `python WORDS` would be: `-m MODULE …` or `SCRIPT …`. Without `stdin` there is nothing to read."""
    loop, line = asyncio.get_running_loop(), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.connect(address())
    line.setblocking(False)
    ours, theirs = [], []
    for number, given in enumerate((stdin, stdout, stderr)):
        if given is None:
            theirs.append(os.open(os.devnull, os.O_RDONLY))
        elif given == PIPE:
            read, write = os.pipe()
            ours.append((number, read if number else write))
            theirs.append(write if number else read)
        else:
            theirs.append(os.dup(given))
    told = [[os.fsdecode(word) for word in words], str(cwd), env]
    socket.send_fds(line, [json.dumps(told).encode()], theirs)
    for each in theirs:
        os.close(each)
    process = Process(line, int(await loop.sock_recv(line, 32)))
    for number, file in ours:
        if number == 0:
            transport, protocol = await loop.connect_write_pipe(
                asyncio.streams.FlowControlMixin, os.fdopen(file, "wb", 0)
            )
            process.stdin = asyncio.StreamWriter(transport, protocol, None, loop)
        else:
            reader = asyncio.StreamReader(2**24)
            await loop.connect_read_pipe(
                functools.partial(asyncio.StreamReaderProtocol, reader), os.fdopen(file, "rb", 0)
            )
            setattr(process, "stdout" if number == 1 else "stderr", reader)
    return process


def serve(path: str) -> None:
    """Until there is nobody who could want a process."""
    _import_all()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(path)
    listening.listen(128)
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(listening, selectors.EVENT_READ)
    print("ready", flush=True)
    gc.collect()
    gc.freeze()
    while True:
        for key, _ in selector.select():
            if key.data:  # a process that ended
                selector.unregister(key.fd)
                os.close(key.fd)
                pid, line = key.data
                with line, suppress(OSError):
                    line.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            elif key.fd:
                line, _ = listening.accept()
                told, files, *_ = socket.recv_fds(line, 2**20, 3)
                pid = _fork(*json.loads(told), files)
                for file in files:
                    os.close(file)
                line.send(b"%d" % pid)
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, line))
            else:
                return


def _import_all() -> None:
    for name in ("jobtrail.cli", "jobtrail.worker", "jobtrail.embed"):
        package = importlib.import_module(name)
        for each in pkgutil.walk_packages(package.__path__, f"{name}."):
            importlib.import_module(each.name)
    for name in (
        "jobtrail.app", "aiosmtpd.smtp", "alembic.config", "asyncpg", "httptools", "httpx", "uvicorn.lifespan.on",
        "uvicorn.main", "uvicorn.protocols.http.httptools_impl", "uvicorn.protocols.websockets.auto", "uvloop",
        "sqlalchemy.dialects.postgresql.asyncpg",
    ):  # fmt: skip
        importlib.import_module(name)


def _fork(words: list[str], folder: str, environ: dict[str, str], files: list[int]) -> int:
    server = os.getpid()
    if pid := os.fork():
        return pid
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == server:  # else it ended before it was watched
            os.setsid()
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(environ)
            for target, file in enumerate(files):
                os.dup2(file, target)
            os.closerange(3, 1024)
            _become(words, folder, environ.get("PYTHONPATH", ""))
    except BaseException:  # noqa: BLE001 - what Python would do with it
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)


def _become(words: list[str], folder: str, path: str) -> NoReturn:
    for name, file, buffered in (("stdout", 1, os.isatty(1)), ("stderr", 2, True)):
        errors = "backslashreplace" if file == 2 else "strict"
        stream: Any = open(file, "w", 1 if buffered else -1, "utf-8", errors, closefd=False)  # noqa: SIM115 - it stays
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # type: ignore[misc] # noqa: SIM115 - the same
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    # in place of our own, but for the package, which is found there even if it is installed from another checkout
    sys.path[: 1 + len(OWN)] = [folder, *filter(None, path.split(":")), OWN[0]]
    code: Any = 0
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            sys.path[0] = str(Path(folder, words[0]).parent)
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as ended:
        code = ended.code
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    # as Python ends, but for taking apart all that was imported, which is most of the work
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    serve(sys.argv[1])
