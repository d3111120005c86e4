"""Main of a process for tasks: the main thread runs orders, one after another; a second thread reads the socket."""

import asyncio
import contextlib
import faulthandler
import importlib
import inspect
import logging
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from multiprocessing import process, spawn
from types import FrameType, ModuleType
from typing import Any

from jobtrail.errors import DeclarationError
from jobtrail.task.catalog import SCRIPT
from jobtrail.task.context import JobContext
from jobtrail.task.outcome import Ended, failure_of, raised, returned, without_cause
from jobtrail.task.task import Task
from jobtrail.worker.processes.messages import ChildLine, Done, Order, Ready, Setup, Tell, Unfound
from jobtrail.worker.processes.runtime import ChildRuntime, ToNode


class TaskModules:
    """`names`: the modules that declare tasks; `main`: how the main module of the node is run again."""

    def __init__(self, names: Sequence[str], main: Mapping[str, str]) -> None:
        self._names = names
        self._main = main

    def import_all(self) -> None:
        """Import early, outside of any job's timeout; a module that fails to import fails the job that needs it."""
        for name in self._names:
            with contextlib.suppress(Exception, SystemExit):
                self._import(name)

    def find(self, order: Order) -> Task[..., Any]:
        """In the module of its function first, but the task may have been made elsewhere.

        Raises DeclarationError when it is nowhere, and whatever an import raises.
        """
        places = dict.fromkeys([order.module, *self._names])
        for place in places:
            for thing in vars(self._import(place)).values():
                if isinstance(thing, Task) and thing.name == order.claimed.task:
                    return thing
        raise DeclarationError(
            f"the process finds no task {order.claimed.task!r} in {', '.join(places)}: keep it at the top level of its "
            "module, under the name of its own, and not only where a condition holds"
        )

    def _import(self, name: str) -> ModuleType:
        if name in SCRIPT and self._main:
            with _importing_main():
                spawn.prepare(self._main)
            self._main = {}
        return importlib.import_module(name)


@contextlib.contextmanager
def _importing_main() -> Iterator[None]:
    """As multiprocessing marks it: a script without the usual guard is refused when it would start processes again."""
    mark = vars(process.current_process())
    mark["_inheriting"] = True
    try:
        yield
    finally:
        del mark["_inheriting"]


def serve(line: socket.socket, setup: Setup) -> None:
    """Until the node hangs up. In the main thread, since only there a signal can interrupt what a task does."""
    line.set_inheritable(False)
    os.set_inheritable(setup.crash_writer, False)
    faulthandler.enable(setup.crash_writer, all_threads=False)
    modules = TaskModules(setup.modules, setup.main)
    stage = ChildMain(line, setup.node, modules)
    stage.listen_for_signals()
    os.register_at_fork(before=_defer_end, after_in_parent=_expect_end, after_in_child=stage.cut)
    root = logging.getLogger()
    root.addHandler(ToNode(stage.line, lambda: stage.ties))
    for name, level in setup.levels.items():
        logging.getLogger(name or None).setLevel(level)
    logging.captureWarnings(capture=True)
    threading.Thread(target=stage.listen, name="jobtrail-node", daemon=True).start()
    modules.import_all()
    stage.line.send(Ready())
    stage.work()


class ChildMain:
    """`ties`: those of the order that is being run."""

    def __init__(self, line: socket.socket, node: int, modules: TaskModules) -> None:
        self.line = ChildLine(line, self._hear)
        self.ties: ChildRuntime | None = None
        self._node = node
        self._modules = modules
        self._orders: queue.SimpleQueue[ChildRuntime] = queue.SimpleQueue()
        self._latest: ChildRuntime | None = None
        self._main_thread = threading.get_ident()

    def listen_for_signals(self) -> None:
        """Handlers, not SIG_IGN, which what a task starts would inherit. A SIGTERM from elsewhere means nothing: who
        ends a service ends its node too, and that tells the tasks.
        """
        signal.signal(signal.SIGTERM, self._hear)
        signal.signal(signal.SIGINT, lambda *_: None)

    def work(self) -> None:
        while True:
            ties = self.ties = self._orders.get()
            self.listen_for_signals()  # a task may have left its own
            ended = self._ended(ties)
            if self.line.is_cut:
                os._exit(0)  # a fork that came back from the task
            with contextlib.suppress(Exception):
                sys.stdout.flush()
            ties.close()
            self.ties = None
            self.line.send(Done(ended))

    def listen(self) -> None:
        """The node is this process's only reason to live, and threads or exit handlers of tasks shall not hold it."""
        try:
            for message in self.line.receive(self._tick):
                match message:
                    case Order():
                        self._latest = ChildRuntime(message, self.line)
                        self._orders.put(self._latest)
                    case Tell():
                        self._tell()
                    case _:
                        raise EOFError
        finally:
            if os.getpgrp() == os.getpid():
                os.killpg(0, signal.SIGTERM)
            os._exit(0)

    def cut(self) -> None:
        """In a fork of this process: it has no node, and signals mean to it what they mean to others."""
        self.line.cut()
        faulthandler.disable()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _expect_end()

    def _tick(self) -> None:
        if os.getppid() != self._node:  # it died, and a fork of it holds our line open
            raise EOFError
        ties = self.ties
        if ties is None:
            return
        ties.flush()
        # a signal that comes just before the task falls asleep is not looked at before it wakes
        if ties.told and ties.hears and signal.getsignal(signal.SIGTERM) == self._hear:
            signal.pthread_kill(self._main_thread, signal.SIGTERM)

    def _tell(self) -> None:
        """Meant for the latest order, be it over or not begun: the node says nothing more once it heard of an end."""
        if self._latest is not None:
            self._latest.told = True
            signal.pthread_kill(self._main_thread, signal.SIGTERM)

    def _hear(self, _signal: int | None = None, _frame: FrameType | None = None) -> None:
        """Raises CancelledError where the task is, once; not in the midst of a message, which would tear it."""
        ties = self.ties
        if ties is None or not (ties.told and ties.hears) or self.line.is_written_here:
            return
        if threading.get_ident() == self._main_thread:
            ties.hears = False
            if not _cancel_what_a_loop_runs():
                raise asyncio.CancelledError("the job was told to end")

    def _ended(self, ties: ChildRuntime) -> Ended | Unfound:
        claimed = ties.order.claimed
        try:
            task = self._modules.find(ties.order)
        except BaseException as error:  # noqa: BLE001 - a module may do anything while it is imported
            return Unfound(replace(failure_of(error, claimed.attempt), cause=None))
        try:
            return returned(self._call(task, ties), claimed.attempt, ties.order.max_result)
        except BaseException as error:  # noqa: BLE001 - every exception of the task is its job's error
            return without_cause(raised(error, claimed.attempt, task.retry))

    def _call(self, task: Task[..., Any], ties: ChildRuntime) -> object:
        claimed = ties.order.claimed
        arguments = task.signature.bind(claimed.args)
        first = (JobContext.of(claimed, ties),) if task.signature.takes_context else ()
        ties.hears = True
        try:
            self._hear()
            result = task.function(*first, **arguments)
        finally:
            ties.hears = False
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError("the task returned a coroutine, which nobody awaits: write async def")
        return result


def _defer_end() -> None:
    """While a fork still has the handlers of this process, a signal to its group would be lost on it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _expect_end() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _cancel_what_a_loop_runs() -> bool:
    """Whether the task is in an asyncio loop of its own: between two steps that would drop an exception."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return False
    running = asyncio.all_tasks(loop)
    for each in running:
        loop.call_soon_threadsafe(each.cancel, "the job was told to end")
    return bool(running)
