"""Keeps with a job what it logs: on `context.log`, and on every other logger while it runs.

While a node runs, one handler on the root logger gives each record of a job to the job's sink. Another is on the tasks'
own logger, since `context.log.info` is kept whatever the level of the process. What the process would have shown is
shown, and nothing more: handlers and levels of a host are left alone.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Final

from jobtrail.task.context import TASK_LOGGER

Sink = Callable[[logging.LogRecord], object]

_sink: Final[ContextVar[Sink | None]] = ContextVar("jobtrail_log_sink", default=None)
_nodes: Final[set[object]] = set()


def attach(node: object) -> None:
    """Put the handlers in place, until the last node calls `detach`."""
    _nodes.add(node)
    _install()


def detach(node: object) -> None:
    _nodes.discard(node)
    if not _nodes:
        with _INSTALLING:
            logging.getLogger().removeHandler(_ON_ROOT)
            _ON_TASKS.remove()


def keep_with(sink: Sink | None) -> None:
    """Give `sink` every record that is made from here on in this context, also in threads that run in a copy of it.

    It is called where the record is made. When it raises, logging tells it as it does of any handler.
    """
    if _ON_ROOT not in logging.getLogger().handlers or not _ON_TASKS.is_installed():  # logging was configured anew
        _install()
    _sink.set(sink)


def _install() -> None:
    with _INSTALLING:
        logging.getLogger().addHandler(_ON_ROOT)
        _ON_TASKS.install()


def _ancestry(logger: logging.Logger | None) -> Iterator[logging.Logger]:
    while logger is not None:
        yield logger
        logger = logger.parent


class _JobHandler(logging.Handler):
    def handle(self, record: logging.LogRecord) -> bool:
        """Without the handler's lock: a sink may be called from several threads at once."""
        self.emit(record)
        return True

    def keep(self, record: logging.LogRecord) -> None:
        if (sink := _sink.get()) is None:
            return
        try:
            sink(record)
        except Exception:  # noqa: BLE001 - what becomes of a line must not end the task that wrote it
            self.handleError(record)


class _RootHandler(_JobHandler):
    def emit(self, record: logging.LogRecord) -> None:
        name = str(record.name)  # a record that was put together by hand may have none
        if not f"{name}.".startswith("jobtrail."):
            self.keep(record)
        # Python does so where there is no handler, and now there is this one
        last = logging.lastResort
        if last is not None and record.levelno >= last.level:
            handlers = (each for logger in _ancestry(logging.getLogger(name)) for each in logger.handlers)
            if all(isinstance(each, _JobHandler) for each in handlers):
                last.handle(record)


class _TasksHandler(_JobHandler):
    """On the logger of the tasks, and the only way from there to the handlers of the process.

    `context.log.info` is kept, whatever the root logger's level; it is shown only where that level lets it through.
    """

    def __init__(self) -> None:
        super().__init__()
        self._tasks = logging.getLogger(TASK_LOGGER)
        self._given = logging.NOTSET
        self._propagated = True

    def is_installed(self) -> bool:
        is_chosen = self._tasks.level not in {logging.NOTSET, self._given}
        return self in self._tasks.handlers and (is_chosen or self._tasks.level == self._wanted())

    def install(self) -> None:
        tasks = self._tasks
        if self not in tasks.handlers:
            tasks.addHandler(self)
            self._given = logging.NOTSET
            self._propagated, tasks.propagate = tasks.propagate, False
        # a level that somebody chose stays
        if tasks.level in {logging.NOTSET, self._given} and tasks.level != self._wanted():
            self._given = self._wanted()
            tasks.setLevel(self._given)

    def _wanted(self) -> int:
        return min(logging.INFO, self._level_above())

    def remove(self) -> None:
        if self in self._tasks.handlers:
            self._tasks.removeHandler(self)
            self._tasks.propagate = self._propagated
        if self._tasks.level == self._given:
            self._tasks.setLevel(logging.NOTSET)

    def emit(self, record: logging.LogRecord) -> None:
        self.keep(record)
        if not self._propagated or not self._is_shown(record):
            return
        # as Logger.callHandlers does, which error trackers replace: they would count the record twice
        for logger in _ancestry(self._tasks.parent):
            for handler in list(logger.handlers):
                if record.levelno >= handler.level:
                    handler.handle(record)
            if not logger.propagate:
                return

    def _is_shown(self, record: logging.LogRecord) -> bool:
        """By the level of the process, unless a host chose one for the tasks."""
        loggers = _ancestry(logging.getLogger(record.name))
        chosen = next((each for each in loggers if each is self._tasks or each.level != logging.NOTSET), None)
        if chosen is not self._tasks or self._tasks.level != self._given:
            return True
        return record.levelno >= self._level_above()

    def _level_above(self) -> int:
        return self._tasks.parent.getEffectiveLevel() if self._tasks.parent is not None else logging.WARNING


_ON_ROOT: Final = _RootHandler()
_ON_TASKS: Final = _TasksHandler()
_INSTALLING: Final = threading.Lock()
