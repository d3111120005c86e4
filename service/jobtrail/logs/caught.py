"""What a job itself says, handed to whoever keeps it: `context.log`, and every other logger while the job runs.

It is caught without a change for anybody else: what the process would have shown is shown, and nothing more. No logger
of a host's is touched, so that `logging.basicConfig` and whoever asks what is configured find what is the host's.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from jobtrail.job.context import TASK_LOGGER

_OTHERS_OF_OURS: Final = ("jobtrail.job.calls",)
"""Loggers of our own that speak for the task; all the rest speak for the service."""

Sink = Callable[[logging.LogRecord], None]

_sink: Final[ContextVar[Sink | None]] = ContextVar("jobtrail_log_sink", default=None)


@contextmanager
def collect(sink: Sink) -> Iterator[None]:
    """`sink` gets every record that the job makes within, also in threads that run in a copy of this context.

    It is called where the record is made. When it raises, logging tells it as it does of any handler.
    """
    job, token = object(), _sink.set(sink)
    _CATCHING.begin(job)
    try:
        yield
    finally:
        _CATCHING.end(job)
        _sink.reset(token)


class _Catching:
    """The handlers are in place while a job runs in this process, whichever.

    The one for everybody stands above the root logger, where logging goes on after the root's own handlers.
    """

    def __init__(self) -> None:
        # reentrant: a garbage collection within may end a job that was abandoned
        self._lock: Final = threading.RLock()
        self._jobs: Final[set[object]] = set()

    def begin(self, job: object) -> None:
        with self._lock:
            self._jobs.add(job)
            self._place()
        _WORDS.install()

    def end(self, job: object) -> None:
        with self._lock:
            self._jobs.discard(job)
            self._place()

    def _place(self) -> None:
        logging.getLogger().parent = _ABOVE if self._jobs else None


class _Catch(logging.Handler):
    """Without a lock of its own: a sink may be called from several threads at once."""

    def handle(self, record: logging.LogRecord) -> bool:
        self.emit(record)
        return True

    def offer(self, record: logging.LogRecord) -> None:
        sink = _sink.get()
        if sink is None:
            return
        try:
            sink(record)
        except Exception:  # noqa: BLE001 - what becomes of a line must not end the task that wrote it
            self.handleError(record)


class _CatchEverybody(_Catch):
    """Above the root logger."""

    def emit(self, record: logging.LogRecord) -> None:
        if _is_said_by_the_job(str(record.name)):  # a record that was put together by hand may have none
            self.offer(record)
        # Python itself falls back on this only where there is no handler at all, and now there is this one
        if not _has_reader(record.name):
            _show_all_the_same(record)


class _CatchWords(_Catch):
    """On the logger of the tasks, and the only way from there to the handlers of the process.

    `context.log.info` is kept, whatever the root logger's level; it is shown only where that level lets it through.
    """

    def __init__(self) -> None:
        super().__init__()
        self._tasks = logging.getLogger(TASK_LOGGER)
        self._given = logging.NOTSET
        self._goes_on = True

    def install(self) -> None:
        """Again, where somebody configured logging anew and took it away. Idempotent."""
        logger = self._tasks
        if not self.is_installed():
            logger.addHandler(self)
            self._given = logging.NOTSET
            self._goes_on, logger.propagate = logger.propagate, False
        wanted = min(logging.INFO, _level_above(logger))
        # a level that somebody chose stays
        if logger.level in {logging.NOTSET, self._given} and logger.level != wanted:
            self._given = wanted
            logger.setLevel(wanted)

    def is_installed(self) -> bool:
        return self in self._tasks.handlers

    def emit(self, record: logging.LogRecord) -> None:
        self.offer(record)
        if self._goes_on and self._is_heard(record):
            _pass_on(record, self._tasks.parent)

    def _is_heard(self, record: logging.LogRecord) -> bool:
        chosen: logging.Logger | None = logging.getLogger(record.name)
        while chosen is not None and chosen is not self._tasks and chosen.level == logging.NOTSET:
            chosen = chosen.parent
        if chosen is not self._tasks or chosen.level != self._given:
            return True
        return record.levelno >= _level_above(self._tasks)


def _is_said_by_the_job(name: str) -> bool:
    """What comes from the tasks' logger was caught there, unless that was configured anew a moment ago."""
    if name == TASK_LOGGER or name.startswith(f"{TASK_LOGGER}."):
        return not _WORDS.is_installed()
    return name in _OTHERS_OF_OURS or (name != "jobtrail" and not name.startswith("jobtrail."))


def _level_above(logger: logging.Logger) -> int:
    return logger.parent.getEffectiveLevel() if logger.parent is not None else logging.WARNING


def _pass_on(record: logging.LogRecord, logger: logging.Logger | None) -> None:
    """As Logger.callHandlers does, which others have been seen to replace: they would count the record twice."""
    found = False
    while logger is not None:
        for handler in list(logger.handlers):
            found = True
            if record.levelno >= handler.level:
                handler.handle(record)
        logger = logger.parent if logger.propagate else None
    if not found:
        _show_all_the_same(record)


def _show_all_the_same(record: logging.LogRecord) -> None:
    """What Python does where nobody configured logging."""
    last = logging.lastResort
    if last is not None and record.levelno >= last.level:
        last.handle(record)


def _has_reader(name: str) -> bool:
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        if any(not isinstance(handler, _Catch) for handler in logger.handlers):
            return True
        logger = logger.parent
    return False


class _Unnoticed(list[logging.Handler]):
    """Logging goes through them, but Logger.hasHandlers() finds none: many configure logging only then."""

    def __bool__(self) -> bool:
        return False


_WORDS: Final = _CatchWords()
_CATCHING: Final = _Catching()
_ABOVE: Final = logging.Logger("above the root")  # noqa: LOG001 - nobody is to find it by its name
_ABOVE.handlers = _Unnoticed([_CatchEverybody()])
