"""What a job itself says, handed to whoever keeps it: `context.log`, and every other logger while the job runs.

It is caught without a change for anybody else: what the process would have shown is shown, and nothing more.
"""

import logging
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
    catch_job_lines()
    token = _sink.set(sink)
    try:
        yield
    finally:
        _sink.reset(token)


def catch_job_lines() -> None:
    """Put the handlers in place; again, where somebody configured logging anew and took them away. Idempotent."""
    root = logging.getLogger()
    if _EVERYBODY not in root.handlers:
        root.addHandler(_EVERYBODY)
    _WORDS.install()


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
    """On the root logger."""

    def emit(self, record: logging.LogRecord) -> None:
        if _is_said_by_the_job(str(record.name)):  # a record that was put together by hand may have none
            self.offer(record)
        last = logging.lastResort
        # Python itself falls back on this only where there is no handler at all, and now there is this one
        if last is not None and record.levelno >= last.level and not _has_reader(record.name):
            last.handle(record)


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
        logger = self._tasks
        if self not in logger.handlers:
            logger.addHandler(self)
            self._given = logging.NOTSET
            self._goes_on, logger.propagate = logger.propagate, False
        wanted = min(logging.INFO, _level_above(logger))
        # a level that somebody chose stays
        if logger.level in {logging.NOTSET, self._given} and logger.level != wanted:
            self._given = wanted
            logger.setLevel(wanted)

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
    """What comes from the tasks' logger was caught there."""
    return name in _OTHERS_OF_OURS or (name != "jobtrail" and not name.startswith("jobtrail."))


def _level_above(logger: logging.Logger) -> int:
    return logger.parent.getEffectiveLevel() if logger.parent is not None else logging.WARNING


def _pass_on(record: logging.LogRecord, logger: logging.Logger | None) -> None:
    """As Logger.callHandlers does, which others have been seen to replace: they would count the record twice."""
    while logger is not None:
        for handler in list(logger.handlers):
            if record.levelno >= handler.level:
                handler.handle(record)
        logger = logger.parent if logger.propagate else None


def _has_reader(name: str) -> bool:
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        if any(not isinstance(handler, _Catch) for handler in logger.handlers):
            return True
        logger = logger.parent
    return False


_EVERYBODY: Final = _CatchEverybody()
_WORDS: Final = _CatchWords()
