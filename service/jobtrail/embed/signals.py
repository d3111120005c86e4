"""The signals that end a host's server, heard before the server itself: a lifespan alone would learn of them late.

uvicorn waits for open requests first. Its handlers stay what they were: they are called as before, and put back.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

Handler = Callable[[int, FrameType | None], Any]


@contextmanager
def overheard(notice: Callable[[int], object]) -> Iterator[None]:
    """`notice` is called with each SIGTERM and SIGINT inside, and then the handler that was there.

    Where nobody handles SIGTERM there is no server to be heard before, and nothing is touched. Neither is it outside of
    the main thread.
    """
    listeners = [_Listener(which, before, notice) for which, before in _handled().items()]
    for each in listeners:
        signal.signal(each.which, each)
    try:
        yield
    finally:
        for each in listeners:
            each.put_back()


def _handled() -> dict[int, Handler]:
    if threading.current_thread() is not threading.main_thread() or not callable(signal.getsignal(signal.SIGTERM)):
        return {}
    handlers = {which: signal.getsignal(which) for which in (signal.SIGTERM, signal.SIGINT)}
    return {
        which: handler
        for which, handler in handlers.items()
        if callable(handler) and handler is not signal.default_int_handler
    }


class _Listener:
    """A handler that somebody may have kept, and calls after its time: then it only passes on."""

    def __init__(self, which: int, before: Handler, notice: Callable[[int], object]) -> None:
        self.which: Final = which
        self._before = before
        self._notice: Callable[[int], object] | None = notice

    def __call__(self, which: int, frame: FrameType | None) -> None:
        if self._notice is not None:
            self._notice(which)
        self._before(which, frame)

    def put_back(self) -> None:
        self._notice = None
        now: object = signal.getsignal(self.which)
        if now is self:
            signal.signal(self.which, self._before)
