"""Animals: tasks that do what no task should, each on the loop, in a thread and in a process."""

import asyncio
import ctypes
import faulthandler
import gc
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from jobtrail import task


class WildError(BaseException):
    """No Exception."""


class BadStrError(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


class BadReprError(Exception):
    def __repr__(self) -> str:
        raise SystemExit(9)


class BadReduceError(Exception):
    def __reduce__(self) -> str:
        raise RuntimeError("no pickle")


class BadClassError(Exception):
    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise RuntimeError("no class")


class BadLookError(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise WildError(name)


class BadNotesError(Exception):
    __notes__ = ("\x00\ud800", object(), "x" * 1_000_000)


class NoTextError(Exception):
    def __str__(self) -> Any:
        return 5  # noqa: PLE0307 - that is the fault it shows


def _raise(error: BaseException) -> Any:
    raise error


def _deep(n: int = 0) -> int:
    return _deep(n + 1) + 1


def _caused_by_itself() -> Any:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    raise one


def _long_chain() -> Any:
    error: BaseException = ValueError("first")
    for n in range(3000):
        following = ValueError(n)
        following.__context__ = error
        error = following
    raise error


def _cyclic() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def _laughs() -> list[Any]:
    """A few kilobytes, and 10^30 items of JSON."""
    found: list[Any] = ["ha"]
    for _ in range(30):
        found = [found] * 10
    return found


def _fork_and_return() -> int:
    os.fork()
    return 1


def _leave_a_thread() -> int:
    threading.Thread(target=time.sleep, args=(600,), name="left over").start()
    return 1


def _close(numbers: range) -> int:
    for number in numbers:
        with suppress(OSError):
            os.close(number)
    return 1


def _break_json() -> int:
    json.dumps = lambda *_, **__: _raise(RuntimeError("patched"))
    return 1


def _shallow() -> int:
    sys.setrecursionlimit(120)
    return 1


def _deaf_to_signals() -> int:
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    return 1


def _never_ends() -> Any:
    threading.Event().wait()


SAYS: dict[str, Callable[[], Any]] = {
    # ends
    "exit": lambda: sys.exit(3),
    "interrupt": lambda: _raise(KeyboardInterrupt()),
    "generator exit": lambda: _raise(GeneratorExit()),
    "cancelled": lambda: _raise(asyncio.CancelledError()),
    "stop": lambda: _raise(StopIteration(5)),
    "stop async": lambda: _raise(StopAsyncIteration(5)),
    "base": lambda: _raise(WildError("wild")),
    "group": lambda: _raise(BaseExceptionGroup("many", [KeyboardInterrupt(), ExceptionGroup("few", [OSError()])])),
    "deep": _deep,
    "no memory": lambda: _raise(MemoryError()),
    "too much memory": lambda: bytearray(2**62),
    "cycle of causes": _caused_by_itself,
    "long chain": _long_chain,
    "bad str": lambda: _raise(BadStrError()),
    "no text": lambda: _raise(NoTextError()),
    "bad repr": lambda: _raise(BadReprError(BadReprError())),
    "bad reduce": lambda: _raise(BadReduceError()),
    "bad class": lambda: _raise(BadClassError()),
    "bad look": lambda: _raise(BadLookError()),
    "bad notes": lambda: _raise(BadNotesError()),
    "huge message": lambda: _raise(ValueError("x" * 20_000_000)),
    "huge name": lambda: _raise(type("E" * 1_000_000, (Exception,), {})()),
    "name with a surrogate": lambda: _raise(type("E\ud800", (Exception,), {})()),
    "stdin": input,
    "never": _never_ends,
    # results
    "generator": lambda: (n for n in range(3)),
    "endless generator": lambda: (n for n in itertools.count()),
    "coroutine": lambda: asyncio.sleep(0),
    "class": lambda: WildError,
    "cyclic": _cyclic,
    "laughs": _laughs,
    "deep result": lambda: json.loads("[" * 500 + "]" * 500),
    "bytes": lambda: b"\xff",
    "text of 100 MB": lambda: "x" * 100_000_000,
    "list of 100 MB": lambda: [1_000_000] * 12_500_000,
    "objects of 100 MB": lambda: [{"number": 1_000_000}] * 5_000_000,
    # what is everybody's
    "shallow": _shallow,
    "no garbage": lambda: gc.disable() or 1,
    "json patched": _break_json,
    "elsewhere": lambda: os.chdir("/") or 1,
    "no environment": lambda: os.environ.clear() or 1,
    "deaf to signals": _deaf_to_signals,
    "threads left": _leave_a_thread,
    "program left": lambda: bool(subprocess.Popen(["sleep", "5"]).pid) + 0,
    "fork that returns": _fork_and_return,
    # only where there is a process for it
    "segfault": lambda: ctypes.string_at(0),
    "sigsegv": faulthandler._sigsegv,  # type: ignore[attr-defined]
    "code": lambda: os._exit(7),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "no 0 to 2": lambda: _close(range(3)),
    "no files": lambda: _close(range(1000)),
}


@task
async def on_loop(how: str) -> Any:
    return SAYS[how]()


@task
def in_thread(how: str) -> Any:
    return SAYS[how]()


@task(runs_in="process")
def in_process(how: str) -> Any:
    return SAYS[how]()


@task
async def fresh_on_loop() -> dict[str, int]:
    return {"ok": 1}


@task
def fresh_in_thread() -> dict[str, int]:
    return {"ok": 1}


@task(runs_in="process")
def fresh_in_process() -> dict[str, int]:
    return {"ok": 1}
