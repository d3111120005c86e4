"""SIGTERM and SIGINT: the first one drains the node, a repeated one hurries it."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Any, Final

from jobtrail.worker.node import Node

Handler = Callable[[int, FrameType | None], Any]


class ShutdownSignals:
    """Callable from a signal handler. The grace counts from the first signal."""

    def __init__(self, node: Node, grace: timedelta) -> None:
        self._node = node
        self._grace = grace.total_seconds()
        self._seen: set[int] = set()

    def __call__(self, which: int) -> bool:
        """Drain the node; whether it is to hurry.

        A SIGTERM after a SIGINT repeats nothing: every process of a terminal gets a Ctrl-C, and those that have a
        supervisor get a SIGTERM of it besides.
        """
        hurries = which in self._seen or (which == signal.SIGINT and bool(self._seen))
        self._seen.add(which)
        self._node.drain(0 if hurries else self._grace)
        return hurries


@contextmanager
def hear_first(listener: Callable[[int], object]) -> Iterator[None]:
    """Call the listener with each SIGTERM and SIGINT inside, and then the handler that was there, which stays the
    server's: uvicorn ends a lifespan only after the open requests, and a lifespan alone would learn of signals late.

    Without a Python handler for SIGTERM there is no server, and nothing is touched; nor is it outside the main thread.
    """
    handlers: dict[int, Handler] = {}
    if threading.current_thread() is threading.main_thread() and callable(signal.getsignal(signal.SIGTERM)):
        for which in (signal.SIGTERM, signal.SIGINT):
            before = signal.getsignal(which)
            if callable(before) and before is not signal.default_int_handler:
                handlers[which] = before
    ours = [_Handler(which, before, listener) for which, before in handlers.items()]
    for each in ours:
        signal.signal(each.which, each)
    try:
        yield
    finally:
        for each in ours:
            each.put_back()


class _Handler:
    """The host may have kept it, and call it later: then it only passes the signal on."""

    def __init__(self, which: int, before: Handler, listener: Callable[[int], object]) -> None:
        self.which: Final = which
        self._before = before
        self._listener: Callable[[int], object] | None = listener

    def __call__(self, which: int, frame: FrameType | None) -> None:
        if self._listener is not None:
            self._listener(which)
        self._before(which, frame)

    def put_back(self) -> None:
        self._listener = None
        now: object = signal.getsignal(self.which)
        if now is self:
            signal.signal(self.which, self._before)
