"""Child side of the channel to the node: sends progress, checkpoints and log records, receives the cancel request."""

import contextlib
import itertools
import json
import logging
import queue
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, NoReturn
from uuid import UUID

from jobtrail.errors import ContextError, JobtrailError
from jobtrail.logs import words_of
from jobtrail.task.context import Done, Progress
from jobtrail.task.storable import clip
from jobtrail.worker.processes.messages import Checkpoint, Logged, Order, framed, receive

_TICK: Final = 0.5
_EVERY: Final = 0.1
"""Seconds between two messages about progress: a task may report it in its innermost loop."""


_OVER: Final = "this attempt has ended, or this is a fork of its process: nothing that it does counts any more"
_NUMBERS: Final = itertools.count()


class ChildRuntime:
    """The node as the context of one order sees it. `interruptible`: code of the task itself is running."""

    def __init__(self, order: Order, pipe: "ChildPipe") -> None:
        self.order: Final = order
        self.cancelled = False
        self.interruptible = False
        self.closed = False
        self._pipe = pipe
        self._lock = threading.RLock()
        self._latest: Progress | None = None
        self._next = 0.0
        self._asked: Final[dict[int, queue.SimpleQueue[JobtrailError | None]]] = {}

    def report(self, progress: Progress) -> None:
        with self._lock:
            self._latest = None if self.closed else progress
            if time.monotonic() >= self._next:
                self.flush()

    def flush(self) -> None:
        """Send the last progress, if that was not done yet."""
        with self._lock:
            if self._latest is not None:
                latest, self._latest = self._latest, None
                self._next = time.monotonic() + _EVERY
                self._pipe.send(latest)

    def close(self) -> None:
        """Send what is left, and drop what threads of the task report from now on."""
        with self._lock:
            self.flush()
            self.closed = True
        for number in list(self._asked):
            self.checkpointed(number, ContextError(_OVER))

    def checkpoint(self, value: str) -> Awaitable[None]:
        """Wait for the answer of the node; a Cancel that came with it is raised here."""
        number, answer = next(_NUMBERS), queue.SimpleQueue[JobtrailError | None]()
        self._asked[number] = answer
        try:
            if self.closed or self._pipe.is_cut:
                raise ContextError(_OVER)
            self._pipe.send(Checkpoint(number, value))
            refusal = answer.get()
            self._pipe.sent()
        finally:
            del self._asked[number]
        if refusal is not None:
            raise refusal
        return Done()

    def checkpointed(self, number: int, refusal: JobtrailError | None) -> None:
        if (answer := self._asked.get(number)) is not None:
            answer.put(refusal)

    def submit(self, *_: object) -> Awaitable[UUID]:
        self._refuse("submit")

    def session(self) -> Awaitable[Any]:
        self._refuse("session")

    def charge(self, *_: object) -> Awaitable[None]:
        self._refuse("charge")

    def _refuse(self, name: str) -> NoReturn:
        raise ContextError(
            f"context.{name}() is for an async def, on the loop of the node: {self.order.claimed.task!r} runs in a "
            "process; do it in an async def that submits this task for the heavy part, or return what is to be done"
        )


class ChildPipe:
    """The process's end of its socket. `sent` is called after each message, in the thread that sent it: what may not
    interrupt a message waits for that.
    """

    def __init__(self, connection: socket.socket, sent: Callable[[], None]) -> None:
        self._connection = connection
        self.sent: Final = sent
        self._lock = threading.Lock()
        self._waiting: Final[deque[bytes]] = deque()
        self._sender: int | None = None
        self.is_cut = False

    @property
    def is_sending_here(self) -> bool:
        """Whether the thread that asks is in the midst of a message."""
        return self._sender == threading.get_ident()

    def send(self, message: object) -> None:
        """Written when this returns, so that a crash right after it takes nothing back."""
        if self.is_cut:
            return
        self._waiting.append(framed(message))
        # a finaliser that logs may run in the midst of a message: then its own is sent after that
        if not self.is_sending_here:
            with self._lock:
                self._send_waiting()
            self.sent()

    def receive(self, tick: Callable[[], None]) -> Iterator[object]:
        """Messages as they come; between them `tick` is called about twice a second.

        Raises EOFError when the node is gone, ProtocolError for what is no message.
        """
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        while True:
            if poll.poll(_TICK * 1000):
                yield receive(self._connection)
            else:
                tick()

    def cut(self) -> None:
        """For a fork of the process: its messages must not get between those of this one."""
        self.is_cut = True
        self._lock = threading.Lock()
        self._sender = None
        self._waiting.clear()
        self._connection.close()

    def _send_waiting(self) -> None:
        self._sender = threading.get_ident()
        try:
            # without a node there is no reader, and the thread that listens is about to end the process
            with contextlib.suppress(OSError):
                while self._waiting:
                    self._connection.sendall(self._waiting.popleft())
        finally:
            self._sender = None


class NodeLogHandler(logging.Handler):
    """Sends records to the node, which handles them as its own. `current` gives the order that is being run."""

    def __init__(self, pipe: ChildPipe, current: Callable[[], ChildRuntime | None]) -> None:
        super().__init__()
        self._pipe = pipe
        self._current = current

    def emit(self, record: logging.LogRecord) -> None:
        runtime, last = self._current(), logging.lastResort
        if self._pipe.is_cut or runtime is None or runtime.closed:
            # from a fork, or from a thread that outlived its job: to standard error
            if last is not None and record.levelno >= last.level:
                last.handle(record)
            return
        try:
            logged = Logged(_portable(record))
        except Exception:  # noqa: BLE001 - what a task hands to a logger may fail in any way
            self.handleError(record)
        else:
            self._pipe.send(logged)


_LONGEST: Final = 64 * 1024
_PLAIN: Final = (type(None), bool, int, float, str)


def _portable(record: logging.LogRecord) -> dict[str, Any]:
    """Its attributes as plain values; what was raised is in the message."""
    kept = {
        name: value if type(value) in _PLAIN else json.loads(json.dumps(value, default=str))
        for name, value in vars(record).items()
        if name not in {"msg", "args", "exc_info", "exc_text", "stack_info"}
    }
    return kept | {"msg": clip(words_of(record), _LONGEST), "args": None}
