"""Main of a process for tasks: the main thread runs orders, one after another; a second thread reads the pipe."""

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
from collections.abc import Mapping, Sequence
from dataclasses import replace
from multiprocessing import process, spawn
from types import FrameType, ModuleType
from typing import Any

from jobtrail.errors import DeclarationError
from jobtrail.ids import Trace, running_trace
from jobtrail.task.catalog import SCRIPT
from jobtrail.task.context import JobContext
from jobtrail.task.outcome import Ended, failure_of, raised, returned, without_cause
from jobtrail.task.task import Task
from jobtrail.worker.processes.messages import Cancel, Checkpointed, ImportFailed, Order, Ready, Setup
from jobtrail.worker.processes.runtime import ChildPipe, ChildRuntime, NodeLogHandler


def serve(pipe: socket.socket, setup: Setup) -> None:
    """Until the node hangs up. In the main thread, since only there a signal can interrupt what a task does."""
    pipe.set_inheritable(False)
    os.set_inheritable(setup.crash_writer, False)
    faulthandler.enable(setup.crash_writer, all_threads=False)
    main = ChildMain(pipe, setup)
    main.set_signal_handlers()
    os.register_at_fork(before=_block_sigterm, after_in_parent=_unblock_sigterm, after_in_child=main.cut)
    for name, level in setup.levels.items():
        logging.getLogger(name or None).setLevel(level)
    logging.captureWarnings(capture=True)
    main.run()


class ChildMain:
    """`runtime`: of the latest order, be it waiting, being run or over."""

    def __init__(self, pipe: socket.socket, setup: Setup) -> None:
        self.runtime: ChildRuntime | None = None
        self._pipe = ChildPipe(pipe, self._interrupt)
        self._node = setup.node
        self._modules = TaskModules(setup.modules, setup.main)
        self._orders: queue.SimpleQueue[ChildRuntime] = queue.SimpleQueue()
        self._main_thread = threading.get_ident()

    def set_signal_handlers(self) -> None:
        """Handlers, not SIG_IGN, which what a task starts would inherit. A SIGTERM from elsewhere means nothing: who
        ends a service ends its node too, and that cancels the tasks.
        """
        signal.signal(signal.SIGTERM, self._interrupt)
        signal.signal(signal.SIGINT, lambda *_: None)

    def run(self) -> None:
        logging.getLogger().addHandler(NodeLogHandler(self._pipe, lambda: self.runtime))
        threading.Thread(target=self._listen, name="jobtrail-node", daemon=True).start()
        self._modules.import_all()
        self._pipe.send(Ready())
        while True:
            runtime = self._orders.get()
            self.set_signal_handlers()  # a task may have left its own
            ended = self._ended(runtime)
            if self._pipe.is_cut:
                os._exit(0)  # a fork that came back from the task
            with contextlib.suppress(Exception):
                sys.stdout.flush()
            runtime.close()
            self._pipe.send(ended)

    def cut(self) -> None:
        """In a fork of this process: it has no node, and signals mean to it what they mean to others."""
        self._pipe.cut()
        faulthandler.disable()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _unblock_sigterm()

    def _listen(self) -> None:
        """The node is this process's only reason to live, and threads or exit handlers of tasks shall not hold it."""
        try:
            for message in self._pipe.receive(self._tick):
                match message:
                    case Order():
                        self.runtime = ChildRuntime(message, self._pipe)
                        self._orders.put(self.runtime)
                    case Cancel():
                        if self.runtime is not None:
                            self.runtime.cancelled = True
                            signal.pthread_kill(self._main_thread, signal.SIGTERM)
                    case Checkpointed(number, refusal):
                        if self.runtime is not None:
                            self.runtime.checkpointed(number, refusal)
                    case _:
                        raise EOFError
        finally:
            if os.getpgrp() == os.getpid():
                os.killpg(0, signal.SIGTERM)
            os._exit(0)

    def _tick(self) -> None:
        if os.getppid() != self._node:  # it died, and a fork of it holds our pipe open
            raise EOFError
        runtime = self.runtime
        if runtime is None:
            return
        runtime.flush()
        # a signal that comes just before the task falls asleep is not looked at before it wakes
        if runtime.cancelled and runtime.interruptible and signal.getsignal(signal.SIGTERM) == self._interrupt:
            signal.pthread_kill(self._main_thread, signal.SIGTERM)

    def _interrupt(self, _signal: int | None = None, _frame: FrameType | None = None) -> None:
        """Raises CancelledError where the task is, once; not in the midst of a message, which would tear it."""
        runtime = self.runtime
        if runtime is None or not (runtime.cancelled and runtime.interruptible) or self._pipe.is_sending_here:
            return
        if threading.get_ident() == self._main_thread:
            runtime.interruptible = False
            if not _cancel_what_a_loop_runs():
                raise asyncio.CancelledError("the job was told to end")

    def _ended(self, runtime: ChildRuntime) -> Ended | ImportFailed:
        claimed = runtime.order.claimed
        try:
            task = self._modules.find(runtime.order)
        except BaseException as error:  # noqa: BLE001 - a module may do anything while it is imported
            return ImportFailed(replace(failure_of(error, claimed.attempt), cause=None))
        try:
            return returned(self._call(task, runtime), claimed.attempt, runtime.order.max_result)
        except BaseException as error:  # noqa: BLE001 - every exception of the task is its job's error
            return without_cause(raised(error, claimed.attempt, task.retry))

    def _call(self, task: Task[..., Any], runtime: ChildRuntime) -> object:
        claimed = runtime.order.claimed
        arguments = task.signature.bind(claimed.args)
        first = (JobContext.of(claimed, runtime),) if task.signature.takes_context else ()
        running_trace.set(Trace(claimed.trace_id, claimed.trace_parent))
        with _under(runtime.order.traceparent):
            runtime.interruptible = True
            try:
                self._interrupt()
                result = task.function(*first, **arguments)
            finally:
                runtime.interruptible = False
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError("the task returned a coroutine, which nobody awaits: write async def")
        return result


def _under(traceparent: str | None) -> contextlib.AbstractContextManager[object]:
    """The span of the attempt, as the current one of what makes spans here."""
    if traceparent is None or "opentelemetry.trace" not in sys.modules:
        return contextlib.nullcontext()
    from jobtrail.tracing import under  # noqa: PLC0415 - most processes need not wait for it

    return under(traceparent)


class TaskModules:
    """`names`: the modules that declare tasks; `main`: how the main module of the node is imported."""

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
            # as multiprocessing marks it: a script without the usual guard may not start processes again
            mark = vars(process.current_process())
            mark["_inheriting"] = True
            try:
                spawn.prepare(self._main)
            finally:
                del mark["_inheriting"]
            self._main = {}
        return importlib.import_module(name)


def _block_sigterm() -> None:
    """While a fork still has the handlers of this process, a signal to its group would be lost on it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _unblock_sigterm() -> None:
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
