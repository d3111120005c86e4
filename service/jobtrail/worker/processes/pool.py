"""Node side of the processes for tasks: started when needed, lent to one job at a time, killed and reaped."""

import asyncio
import contextlib
import logging
import os
import pickle
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing import spawn
from typing import Final, Self
from uuid import UUID

from jobtrail.errors import JobtrailError, ProcessDiedError
from jobtrail.task.context import JobRuntime, Progress
from jobtrail.task.outcome import Ended, Raised, Returned, raised
from jobtrail.task.retry import Retry
from jobtrail.worker.processes import messages
from jobtrail.worker.processes.messages import Cancel, ImportFailed, Logged, Order, ProtocolError, Setup, framed, read

__all__ = ["Child", "Order", "Processes"]

_PATIENCE: Final = 60.0
"""Seconds that a process may take to come up, with all that the modules of its tasks import."""


class Processes:
    """Pool of processes. They start when first needed and stay; how many there are is bounded by its callers.

    `modules`: names of those that declare tasks, which each process imports before it is ready.
    """

    def __init__(self, modules: Sequence[str] = ()) -> None:
        self._modules: Final = tuple(modules)
        self._all: Final[set[ProcessHandle]] = set()
        self._idle: Final[list[ProcessHandle]] = []
        self._closed = False

    async def child(self) -> "Child":
        """A process that is ready, for one job. Run it or kill it. Raises ProcessDiedError when there can be none."""
        if self._closed:
            raise ProcessDiedError("no process is started any more: the node has stopped")
        self._idle[:] = [each for each in self._idle if each.is_alive]
        return Child(self._idle.pop() if self._idle else await self._start(), self._idle.append)

    async def close(self) -> None:
        """Kill what is left, and wait until nothing of it stays, not even a zombie. Idempotent."""
        self._closed = True
        for each in self._all:
            each.kill()
        # a loop that is closed has cancelled these
        await asyncio.gather(*(each.gone for each in self._all), return_exceptions=True)

    async def _start(self) -> "ProcessHandle":
        try:
            process = await ProcessHandle.start(self._modules)
        except (OSError, RuntimeError) as error:
            raise ProcessDiedError(f"no process can be started: {' '.join(str(error).split())}") from error
        self._all.add(process)
        process.gone.add_done_callback(lambda _: self._all.discard(process))
        if self._closed:
            process.kill()
        try:
            async with asyncio.timeout(_PATIENCE):
                await process.receive()  # it is ready
        except TimeoutError:
            process.kill(
                f"was killed since it was not ready after {_PATIENCE:g} s: what do the modules of the tasks do?"
            )
            raise await process.death() from None
        except EOFError:
            raise await process.death() from None
        except BaseException:
            process.kill()
            raise
        return process


class Child:
    """Process lent for one job. Once that has ended, `cancel` and `kill` do nothing: other jobs may run there."""

    def __init__(self, process: "ProcessHandle", give_back: Callable[["ProcessHandle"], None]) -> None:
        self._process = process
        self._give_back = give_back
        self._begun = False
        self._cancelled = False
        self._over = False
        self._storing: Final[set[asyncio.Task[None]]] = set()

    async def run(self, order: Order, runtime: JobRuntime, retry: Retry | None) -> Ended:
        """Run the task to its end. Never raises for what it did. `retry` is the task's, for a process that dies."""
        attempt = order.claimed.attempt
        try:
            if self._cancelled:
                ended: Ended = raised(asyncio.CancelledError("told to end before it began"), attempt, retry)
            else:
                self._begun = True
                # the database driver's own kind of UUID would bring the driver with it
                claimed = replace(order.claimed, id=UUID(int=order.claimed.id.int))
                self._process.send(replace(order, claimed=claimed))
                ended = await self._listen(runtime, retry)
        except EOFError:
            self._over = True
            return raised(await self._process.death(), attempt, retry)
        except BaseException:
            self.kill()
            raise
        self._over = True
        self._give_back(self._process)
        return ended

    def cancel(self) -> None:
        """Ask the task to end: its context says so, and CancelledError is raised where it is, for its clean-up.

        Before `run`: the task does not begin.
        """
        if self._begun and not self._cancelled and not self._over:
            self._process.send(Cancel())
        self._cancelled = True

    def kill(self) -> None:
        """End the process at once; `run` then returns what it died of."""
        if not self._over:
            self._process.kill()

    async def _listen(self, runtime: JobRuntime, retry: Retry | None) -> Ended:
        """In the context of its caller: what the task logs gets the ids that are bound there."""
        while True:
            match await self._process.receive():
                case Progress() as progress:
                    runtime.report(progress)
                case Logged(attributes):
                    record = logging.makeLogRecord(attributes)
                    logger = logging.getLogger(record.name)
                    if logger.isEnabledFor(record.levelno):
                        logger.handle(record)
                case messages.Checkpoint() as asked:
                    storing = asyncio.create_task(self._checkpoint(asked, runtime))
                    self._storing.add(storing)
                    storing.add_done_callback(self._storing.discard)
                case Returned() | Raised() as ended:
                    return ended
                case ImportFailed(failure):
                    # the error itself stayed in the process; for a Retry it was an import, whatever went wrong
                    error = ImportError(failure.message)
                    return Raised(failure, retried=retry is not None and retry.retries(error))
                case _:
                    continue

    async def _checkpoint(self, asked: messages.Checkpoint, runtime: JobRuntime) -> None:
        refusal: JobtrailError | None = None
        try:
            await runtime.checkpoint(asked.value)
        except JobtrailError as error:
            refusal = error
        finally:
            self._process.send(messages.Checkpointed(asked.number, refusal))


_LOOK: Final = 1.0
"""Seconds between looks at a process whose pipe is open: what it left behind may hold it, and it is dead."""

_PAUSES: Final = (0.0, 0.001, 0.002, 0.005, *[0.01] * 500)
"""Seconds between looks at a process that was killed: the kernel may have gigabytes to give back first."""


class ProcessHandle:
    """One process and the node's end of its pipe.

    It leads a process group, so that a Ctrl-C for the node does not reach it, and what it starts can end with it. It
    shares nothing with other processes: when it is killed, only its own pipe is in an unknown state. `gone`: it is
    reaped, and what it started has ended.
    """

    def __init__(
        self, process: "subprocess.Popen[bytes]", crash: socket.socket, transport: asyncio.Transport, pipe: "_Pipe"
    ) -> None:
        self._process = process
        self._crash = crash
        self._transport = transport
        self._pipe = pipe
        self._killed = False
        self._reason: str | None = None
        self._death: Final[asyncio.Future[ProcessDiedError]] = asyncio.get_running_loop().create_future()
        self.gone: Final = asyncio.create_task(self._end(), name=f"jobtrail-process-{process.pid}")
        self.gone.add_done_callback(self._release)

    @classmethod
    async def start(cls, modules: Sequence[str]) -> Self:
        """A process that is not ready yet. Raises OSError, RuntimeError when there can be none."""
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as undo:
            transport, pipe = await asyncio.get_running_loop().create_unix_connection(_Pipe, sock=ours)
            undo.callback(transport.close)
            crash, crash_writer = socket.socketpair()
            undo.callback(crash.close)
            with crash_writer:
                process, greeting = _spawn(theirs.fileno(), crash_writer.fileno(), modules)
            undo.pop_all()
        transport.write(greeting)
        return cls(process, crash, transport, pipe)

    @property
    def is_alive(self) -> bool:
        return not self._transport.is_closing() and self._process.poll() is None

    def send(self, message: object) -> None:
        """Never waits: what the socket does not take yet is kept. What is sent to a dead process is lost."""
        self._transport.write(framed(message))

    async def receive(self) -> object:
        """The next message. Raises EOFError when there will be none: then `death` says why."""
        try:
            return await read(self._pipe.reader)
        except ProtocolError as error:
            self.kill("was killed since it sent what is no message of ours")
            raise EOFError from error

    def kill(self, reason: str = "was killed by its node") -> None:
        """At once, with no clean-up, and nothing that it sent since is read. Idempotent."""
        self._reason = self._reason or reason
        self._kill_group()
        self._transport.abort()

    async def death(self) -> ProcessDiedError:
        """Wait until the process is dead and reaped; what it died of."""
        return await asyncio.shield(self._death)

    def _kill_group(self) -> None:
        """What it started gets a SIGTERM: multiprocessing's resource tracker outlives that, and then removes the shared
        memory and semaphores of the dead.
        """
        if not self._killed:
            self._killed = True
            with contextlib.suppress(OSError):
                self._process.kill()
            # its number cannot be anybody else's yet: it is reaped later, or was a moment ago
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGTERM)

    async def _end(self) -> None:
        while not (await asyncio.wait({self._pipe.closed}, timeout=_LOOK))[0]:
            if self._process.poll() is not None:
                self._kill_group()
                self._transport.abort()
        self._kill_group()
        for pause in _PAUSES:
            if self._process.poll() is not None:
                break
            await asyncio.sleep(pause)
        self._death.set_result(self._described())
        # while anything of the group lives, nobody else can have its number
        with contextlib.suppress(OSError):
            for _ in range(20):
                os.killpg(self._process.pid, 0)
                await asyncio.sleep(0.05)
            os.killpg(self._process.pid, signal.SIGKILL)

    def _release(self, _gone: "asyncio.Task[None]") -> None:
        """A loop that is being closed cancels the wait for the end: then there will be no answer."""
        self._death.cancel()
        self._crash.close()

    def _described(self) -> ProcessDiedError:
        code = self._process.returncode
        # it may have died of something else before it was killed
        how = self._reason if self._reason and code in {None, -signal.SIGKILL} else _how(code)
        error = ProcessDiedError(f"the process {self._process.pid} {how}")
        with contextlib.suppress(OSError):
            if traceback := self._crash.recv(64 * 1024, socket.MSG_DONTWAIT).decode(errors="replace").strip():
                error.add_note(traceback)
        return error


class _Pipe(asyncio.StreamReaderProtocol):
    """However the process ends, what it sent before can be read first."""

    def __init__(self) -> None:
        self.reader: Final = asyncio.StreamReader()
        self.closed: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()
        super().__init__(self.reader)

    def eof_received(self) -> bool:
        super().eof_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - a reset would hide what was sent
        super().connection_lost(None)
        self.closed.set_result(None)


_BOOT: Final = """
import os, pickle, socket, traceback
try:
    pipe = socket.socket(fileno={pipe})
    with pipe.makefile("rb") as greeting:
        from multiprocessing.spawn import prepare
        prepare(pickle.load(greeting))
        from jobtrail.worker.processes.child import serve
        setup = pickle.load(greeting)
    serve(pipe, setup)
except BaseException:
    os.write({crash_writer}, traceback.format_exc().encode(errors="replace")[-16384:])
finally:
    os._exit(1)
"""


def _spawn(pipe: int, crash_writer: int, modules: Sequence[str]) -> tuple["subprocess.Popen[bytes]", bytes]:
    """A fresh interpreter, prepared as multiprocessing does it, and the greeting that it waits for.

    Raises OSError, RuntimeError when there can be none.
    """
    preparation = spawn.get_preparation_data("jobtrail")
    preparation.pop("authkey", None)  # it refuses to be written down, and is for connections that there are none of
    main = {key: preparation.pop(key) for key in list(preparation) if key.startswith("init_main")}
    setup = Setup(modules, main, _levels(), os.getpid(), crash_writer)
    *command, _code, _program, _mark = spawn.get_command_line()
    process = subprocess.Popen(  # noqa: S603 - this interpreter, with its own flags
        [*command, "-P", "-c", _BOOT.format(pipe=pipe, crash_writer=crash_writer), "jobtrail"],
        stdin=subprocess.DEVNULL,
        pass_fds=(pipe, crash_writer),
        process_group=0,
    )
    return process, pickle.dumps(preparation) + pickle.dumps(setup)


def _levels() -> dict[str, int]:
    """The levels of the node's loggers, where one is set."""
    loggers = logging.root.manager.loggerDict
    chosen = {name: logger.level for name, logger in loggers.items() if isinstance(logger, logging.Logger)}
    return {"": logging.root.level, **{name: level for name, level in chosen.items() if level != logging.NOTSET}}


def _how(code: int | None) -> str:
    if code is None:
        return "was killed, and does not end"
    if code >= 0:
        return f"ended by itself with exit code {code}"
    hint = ", as by the system when memory runs out" if -code == signal.SIGKILL else ""
    names = {each.value: each.name for each in signal.Signals}
    return f"was ended by {names.get(-code, f'signal {-code}')}{hint}"
