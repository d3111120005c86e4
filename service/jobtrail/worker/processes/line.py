"""The end of the socket that a process for tasks holds: whole messages, whoever writes and whatever interrupts it."""

import contextlib
import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from jobtrail.worker.processes.messages import HEADER_SIZE, framed, length_of, message_of

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
