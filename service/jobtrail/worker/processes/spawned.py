"""A process for tasks as its node sees it: spoken to, ended and reaped."""

import asyncio
import contextlib
import logging
import os
import pickle
import signal
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import spawn
from typing import Final, Self

from jobtrail.errors import ProcessDiedError
from jobtrail.worker.processes.messages import HEADER_SIZE, NonsenseError, Setup, framed, length_of, message_of

_BOOT: Final = """
import os, pickle, socket, traceback
try:
    line = socket.socket(fileno={line})
    with line.makefile("rb") as said:
        from multiprocessing.spawn import prepare
        prepare(pickle.load(said))
        from jobtrail.worker.processes.child import serve
        setup = pickle.load(said)
    serve(line, setup)
except BaseException:
    os.write({crash_writer}, traceback.format_exc().encode(errors="replace")[-{most}:])
finally:
    os._exit(1)
"""

_LAST_WORDS: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Interpreter:
    """`crash_reader`: a file descriptor with the traceback of a crash; `greeting`: the bytes that it waits for."""

    process: "subprocess.Popen[bytes]"
    crash_reader: int
    greeting: bytes


def start(line: socket.socket, modules: Sequence[str]) -> Interpreter:
    """Raises OSError, RuntimeError when there can be no process."""
    preparation = spawn.get_preparation_data("jobtrail")
    preparation.pop("authkey", None)  # it refuses to be written down, and is for connections that there are none of
    main = {key: preparation.pop(key) for key in list(preparation) if key.startswith("init_main")}
    crash_reader, crash_writer = os.pipe()
    os.set_blocking(crash_reader, False)
    try:
        greeting = pickle.dumps(preparation) + pickle.dumps(Setup(modules, main, _levels(), os.getpid(), crash_writer))
        *command, _code, _program, _mark = spawn.get_command_line()
        boot = _BOOT.format(line=line.fileno(), crash_writer=crash_writer, most=_LAST_WORDS)
        process = subprocess.Popen(  # noqa: S603 - this interpreter, with its own flags
            [*command, "-P", "-c", boot, "jobtrail"],
            stdin=subprocess.DEVNULL,
            pass_fds=(line.fileno(), crash_writer),
            process_group=0,
        )
    except BaseException:
        os.close(crash_reader)
        raise
    finally:
        os.close(crash_writer)
    return Interpreter(process, crash_reader, greeting)


def _levels() -> dict[str, int]:
    """The levels of the node's loggers, where one is set."""
    root = logging.getLogger()
    chosen = {
        name: logger.level for name, logger in root.manager.loggerDict.items() if isinstance(logger, logging.Logger)
    }
    return {"": root.level, **{name: level for name, level in chosen.items() if level != logging.NOTSET}}


_PAUSES: Final = (0.0, 0.001, 0.002, 0.005, *[0.01] * 500)
"""Seconds between looks at a process that was killed: the kernel may have gigabytes to give back first."""

_LOOK: Final = 1.0
"""Seconds between looks at a process whose line is open: what it left behind may hold it, and it is dead."""


class ProcessHandle:
    """Its own process group, so that a Ctrl-C for the node does not reach it, and what it starts can end with it.

    Nothing is shared with other processes: whenever one is killed, only its own socket is in an unknown state.
    """

    def __init__(
        self, interpreter: Interpreter, ours: socket.socket, line: "_Line", writer: asyncio.StreamWriter
    ) -> None:
        self._process = interpreter.process
        self._crash_reader = interpreter.crash_reader
        self._socket = ours
        self._line = line
        self._writer = writer
        self._struck = False
        self._reason: str | None = None
        self.reaping: asyncio.Task[None] | None = None
        self.death: Final = asyncio.create_task(self._end(), name=f"jobtrail-process-{self._process.pid}")
        writer.write(interpreter.greeting)

    @classmethod
    async def start(cls, modules: Sequence[str]) -> Self:
        """It has not said yet that it is ready. Raises OSError, RuntimeError when there can be no process."""
        ours, theirs = socket.socketpair()
        with theirs:
            loop = asyncio.get_running_loop()
            transport, line = await loop.create_unix_connection(_Line, sock=ours)
            try:
                interpreter = start(theirs, modules)
            except BaseException:
                transport.close()
                raise
        return cls(interpreter, ours, line, asyncio.StreamWriter(transport, line, line.reader, loop))

    @property
    def is_open(self) -> bool:
        """False once it has hung up, was killed or died, whether the loop has come to hear of that or not."""
        if self._writer.is_closing():
            return False
        try:
            return self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def send(self, message: object) -> None:
        """Never waits: what the socket does not take yet is kept. What is said to a dead process is lost."""
        self._writer.write(framed(message))

    async def receive(self) -> object:
        """The next message. Raises EOFError when there will be none: then `death` says why."""
        try:
            header = await self._line.reader.readexactly(HEADER_SIZE)
            return message_of(await self._line.reader.readexactly(length_of(header)))
        except asyncio.IncompleteReadError as error:
            raise EOFError from error
        except NonsenseError as error:
            self.kill("was killed since it sent what is no message of ours")
            raise EOFError from error

    def kill(self, reason: str = "was killed by its node") -> None:
        """At once, with no clean-up, and nothing that it said since is heard. Idempotent."""
        self._reason = self._reason or reason
        self._strike()
        self._writer.transport.abort()

    def _strike(self) -> None:
        """What it started is asked to end: with SIGTERM, which the helper of multiprocessing outlives that then
        removes the shared memory and semaphores of the dead.
        """
        if not self._struck:
            self._struck = True
            with contextlib.suppress(OSError):
                self._process.kill()
            # its number cannot be anybody else's yet: it is reaped later, or was a moment ago
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGTERM)

    async def _end(self) -> ProcessDiedError:
        """Waits for the end, sees that there is no zombie, and says what it was."""
        closed = asyncio.ensure_future(self._writer.wait_closed())
        while not (await asyncio.wait({closed}, timeout=_LOOK))[0]:
            if self._process.poll() is not None:
                self._strike()
                self._writer.transport.abort()
        self._strike()
        for pause in _PAUSES:
            if self._process.poll() is not None:
                break
            await asyncio.sleep(pause)
        self.reaping = asyncio.create_task(self._reap(), name=f"jobtrail-reaping-{self._process.pid}")
        return self._described()

    async def _reap(self) -> None:
        """What it started and did not end with it is killed. While any of that lives, nobody else can have the number
        of the group.
        """
        for pause in (*[0.05] * 20, None):
            try:
                os.killpg(self._process.pid, signal.SIGKILL if pause is None else 0)
            except OSError:
                return
            await asyncio.sleep(pause or 0)

    def _described(self) -> ProcessDiedError:
        code = self._process.returncode
        # it may have died of something else before it was killed
        how = self._reason if self._reason and code in {None, -signal.SIGKILL} else _how(code)
        error = ProcessDiedError(f"the process {self._process.pid} {how}")
        with contextlib.suppress(BlockingIOError):
            if said := os.read(self._crash_reader, 64 * 1024).decode(errors="replace").strip():
                error.add_note(said)
        os.close(self._crash_reader)
        return error


class _Line(asyncio.StreamReaderProtocol):
    """However the other side ends, what it said before can be read first."""

    def __init__(self) -> None:
        self.reader: Final = asyncio.StreamReader()
        super().__init__(self.reader)

    def eof_received(self) -> bool:
        super().eof_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - a reset would hide what was said
        super().connection_lost(None)


def _how(code: int | None) -> str:
    if code is None:
        return "was killed, and does not end"
    if code >= 0:
        return f"ended by itself with exit code {code}"
    hint = ", as by the system when memory runs out" if -code == signal.SIGKILL else ""
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was ended by {name}{hint}"
