"""The messages between a node and a process for tasks: each in a frame, on a socket that only they have."""

import contextlib
import pickle
import select
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jobtrail.records import Claimed, Failure
from jobtrail.task.context import Progress
from jobtrail.task.outcome import Ended

_HEADER: Final = struct.Struct("!4sI")
_MARK: Final = b"jobt"
"""Before each length: what a task writes to a file number that is not its own is found out at once."""

HEADER_SIZE: Final = _HEADER.size


@dataclass(frozen=True, slots=True)
class Setup:
    """What a process takes over from its node. `modules`: of tasks; `main`: how multiprocessing would run the main
    module; `levels`: of loggers by name, "" the root; `node`: its process id; `crash_writer`: a file descriptor for the
    traceback of a crash.
    """

    modules: Sequence[str]
    main: Mapping[str, str]
    levels: Mapping[str, int]
    node: int
    crash_writer: int


@dataclass(frozen=True, slots=True)
class Order:
    """An attempt that is to be run. `module`: of the task's function; `max_result` in bytes of JSON."""

    claimed: Claimed
    module: str
    max_result: int


@dataclass(frozen=True, slots=True)
class Tell:
    """The task of the order before it is to end."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The process is up and has imported what it could."""


@dataclass(frozen=True, slots=True)
class Reported:
    progress: Progress


@dataclass(frozen=True, slots=True)
class Said:
    """A log record, its values plain."""

    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Unfound:
    """The task could not be imported, so nothing of it ran; its Retry was not there to be asked."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Done:
    ended: Ended | Unfound


class NonsenseError(Exception):
    """The bytes are no message."""


def framed(message: object) -> bytes:
    body = pickle.dumps(message)
    return _HEADER.pack(_MARK, len(body)) + body


def length_of(header: bytes) -> int:
    """The length in bytes of the message that follows. Raises NonsenseError."""
    mark, length = _HEADER.unpack(header)
    if mark != _MARK:
        raise NonsenseError(header)
    return int(length)


def message_of(body: bytes) -> object:
    """Raises NonsenseError."""
    try:
        return pickle.loads(body)  # noqa: S301 - from a process that runs the same code as the same user
    except Exception as error:
        raise NonsenseError(body[:100]) from error


_TICK: Final = 0.5


class ChildLine:
    """`written` is called after each message, where it was written: what may not interrupt a write waits for that."""

    def __init__(self, line: socket.socket, written: Callable[[], None]) -> None:
        self._line = line
        self._written = written
        self._lock = threading.Lock()
        self._waiting: Final[deque[bytes]] = deque()
        self._writer: int | None = None
        self.is_cut = False

    @property
    def is_written_here(self) -> bool:
        """Whether the thread that asks is in the midst of a message."""
        return self._writer == threading.get_ident()

    def send(self, message: object) -> None:
        """Written when this returns, so that a crash right after it takes nothing back."""
        if self.is_cut:
            return
        self._waiting.append(framed(message))
        # a finaliser that logs may run in the midst of the writing: then whoever writes goes on with this one
        if not self.is_written_here:
            with self._lock:
                self._write()
            self._written()

    def receive(self, tick: Callable[[], None]) -> Iterator[object]:
        """Messages as they come; between them `tick` is called about twice a second.

        Raises EOFError when the node is gone, NonsenseError for what is no message.
        """
        poll = select.poll()
        poll.register(self._line, select.POLLIN)
        while True:
            if poll.poll(_TICK * 1000):
                yield message_of(self._exactly(length_of(self._exactly(HEADER_SIZE))))
            else:
                tick()

    def cut(self) -> None:
        """For a fork of the process: its words must not get between those of this one."""
        self.is_cut = True
        self._lock = threading.Lock()
        self._writer = None
        self._waiting.clear()
        self._line.close()

    def _write(self) -> None:
        self._writer = threading.get_ident()
        try:
            # without a node nobody hears it, and the thread that listens is about to end the process
            with contextlib.suppress(OSError):
                while self._waiting:
                    self._line.sendall(self._waiting.popleft())
        finally:
            self._writer = None

    def _exactly(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            part = self._line.recv(count - len(parts))
            if not part:
                raise EOFError
            parts += part
        return bytes(parts)
