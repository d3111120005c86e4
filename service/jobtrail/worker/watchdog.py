"""Names in the log what blocks the event loop, while it does so and afterwards, with the time it took.

It looks from a thread, so it sees nothing while C code keeps Python's lock; such a task needs a process of its own.
"""

import asyncio
import logging
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final
from uuid import UUID

from jobtrail.db.loop import Loop
from jobtrail.logs import bound_in
from jobtrail.worker.attempt import JOB

log = logging.getLogger(__name__)

BLOCKED: Final = 0.5
"""Seconds without an answer after which the loop counts as blocked."""

_EVERY: Final = BLOCKED / 2

_SPAN: Final = 10.0
"""Seconds."""

_LIBRARIES: Final = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))

TaskOf = Callable[[UUID], str | None]


class Watchdog:
    """`loop` runs beside the leases, in their thread. `task_of` is asked there which task a job runs."""

    def __init__(self, task_of: TaskOf) -> None:
        self.loop: Final = Loop("watchdog", self._look, every=_EVERY)
        self._task_of = task_of
        self._main: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._asked: float | None = None
        self._longest = (0.0, 0.0)  # of this span, and of the one before
        self._span = time.monotonic()
        self._culprit: str | None = None

    def attach(self) -> None:
        """Call on the loop to be watched."""
        self._main = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    @property
    def lag(self) -> float:
        """The longest that the event loop took to answer in the last 10 to 20 s, or takes right now, in seconds."""
        asked = self._asked
        return max(*self._longest, 0.0 if asked is None else time.monotonic() - asked)

    async def _look(self) -> None:
        if time.monotonic() - self._span >= _SPAN:
            self._span, self._longest = time.monotonic(), (0.0, self._longest[0])
        main = self._main
        if main is None or main.is_closed():
            return
        if self._asked is None:
            self._asked = time.monotonic()
            main.call_soon_threadsafe(self._answer)
            return
        silent = time.monotonic() - self._asked
        if silent >= BLOCKED and self._culprit is None:
            self._culprit = self._find(main)
            log.warning("%s blocks the event loop, for %.1f s so far; everything else waits", self._culprit, silent)

    def _answer(self) -> None:
        asked, self._asked = self._asked, None
        culprit, self._culprit = self._culprit, None
        if asked is not None:
            self._longest = max(self._longest[0], time.monotonic() - asked), self._longest[1]
        if asked is not None and culprit is not None:
            fix = "; a def runs in a thread, and asyncio.to_thread takes single calls there"
            log.warning("%s blocked the event loop for %.1f s%s", culprit, time.monotonic() - asked, fix)

    def _find(self, main: asyncio.AbstractEventLoop) -> str:
        running = asyncio.current_task(main)
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001 - documented, in spite of its name
        place = "" if frame is None else f" at {_line_of(frame)}"
        if running is None:
            return f"something{place}"
        job_id = _job_of(running)
        if job_id is None:
            return f"the asyncio task {running.get_name()!r}{place}"
        return f"task {self._task_of(job_id)} (job {job_id}){place}"


def _job_of(running: "asyncio.Task[Any]") -> UUID | None:
    """From Python 3.12 on also of a task that the job's own coroutine started: it runs in a copy of its context."""
    if sys.version_info >= (3, 12):
        said = bound_in(running.get_context()).get("job_id", "")
    else:
        said = running.get_name().removeprefix(JOB)
    try:
        return UUID(str(said))
    except ValueError:  # a task of the host
        return None


def _line_of(innermost: FrameType) -> str:
    """The line of the host's own code that is being run, or else the innermost."""
    frame: FrameType | None = innermost
    while frame is not None and frame.f_code.co_filename.startswith(_LIBRARIES):
        frame = frame.f_back
    found = frame or innermost
    return f"{found.f_code.co_filename}:{found.f_lineno} in {found.f_code.co_name}"
