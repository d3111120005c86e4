"""Tasks that run in a process of their own, and what can go wrong with one."""

import atexit
import concurrent.futures
import ctypes
import gc
import logging
import multiprocessing
import os
import posixpath
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from jobtrail import Again, Fail, JobContext, task

LOGGER = logging.getLogger("some.dependency")


@task(runs_in="process")
def add(a: int, b: int = 0) -> int:
    return a + b


@task(runs_in="process")
def length(text: str) -> int:
    return len(text)


@task(runs_in="process")
def about(context: JobContext) -> dict[str, object]:
    print("printed, and kept by nobody")
    return {
        "job": str(context.job_id),
        "attempt": context.attempt,
        "pid": os.getpid(),
        "group": os.getpgrp(),
        "folder": str(Path.cwd()),
        "path": sys.path,
        "variable": os.environ.get("JOBTRAIL_TEST_VARIABLE"),
        "driver": "asyncpg" in sys.modules,
        "main": threading.current_thread() is threading.main_thread(),
    }


basename = task(runs_in="process")(posixpath.basename)
"""A Task that is not in the module of its function."""


class NoPickleError(Exception):
    def __init__(self, *, much: object) -> None:
        super().__init__("does not pickle")
        self.much = lambda: much


@task(runs_in="process", retry=None)
def ends(context: JobContext, how: str) -> Any:
    return _ENDS[how](context)


def _raise(error: BaseException) -> None:
    raise error


def _exhaust() -> int:
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**30, before[1]))
    try:
        return len(bytearray(2**31))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


async def _forgotten() -> None:
    raise AssertionError


def _talk_nonsense() -> None:
    """To the one socket that this process has."""
    line = next(each for each in gc.get_objects() if isinstance(each, socket.socket))
    line.sendall(b"not a word of it")
    time.sleep(60)


def _leave_a_fork() -> None:
    if os.fork():
        os._exit(4)
    time.sleep(600)


def _leave_a_fork_unseen() -> None:
    """By Python, as a library in C may: it holds whatever this process had open."""
    libc = ctypes.CDLL(None)
    if libc.fork():
        os._exit(6)
    libc.sleep(600)
    os._exit(0)


def _leave_a_program() -> None:
    """That gets every file number that may be inherited."""
    subprocess.Popen(["sleep", "600"], close_fds=False)
    os._exit(5)


_ENDS: dict[str, Callable[[JobContext], Any]] = {
    "none": lambda _: None,
    "date": lambda _: {"day": date(2026, 1, 2)},
    "large": lambda _: "x" * 6000,
    "error": lambda _: _raise(ValueError("as asked")),
    "no pickle": lambda _: _raise(NoPickleError(much="x")),
    "memory": lambda _: _exhaust(),
    "again": lambda _: _raise(Again(after=7)),
    "fail": lambda _: _raise(Fail("no", type="gave-up")),
    "coroutine": lambda _: _forgotten(),
    "submit": lambda context: context.submit(add, 1),
    "session": lambda context: context.session(),
    "progress": lambda context: context.progress(-1),
    "segfault": lambda _: ctypes.string_at(0),
    "abort": lambda _: os.abort(),
    "code 3": lambda _: os._exit(3),
    "code 0": lambda _: os._exit(0),
    "kill": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "steal": lambda _: signal.signal(signal.SIGTERM, signal.SIG_IGN) and None,
    "nonsense": lambda _: _talk_nonsense(),
    "fork": lambda _: _leave_a_fork(),
    "fork of a library": lambda _: _leave_a_fork_unseen(),
    "program": lambda _: _leave_a_program(),
}


@task(runs_in="process")
def log_lines(count: int) -> int:
    for n in range(count):
        LOGGER.warning("line %d", n)
    return count


@task(runs_in="process")
def log_all(context: JobContext) -> None:
    LOGGER.debug("not at this level")
    LOGGER.info("at a level that the node chose")
    LOGGER.warning("of %s", "a library", extra={"customer": 5, "thing": {"at": date(2026, 1, 2)}})
    LOGGER.warning("%d", "no number")
    context.log.warning("of the context")
    try:
        _raise(ValueError("caught"))
    except ValueError:
        LOGGER.exception("with an error")


@task(runs_in="process")
def count_up(context: JobContext, to: int) -> None:
    for n in range(to):
        context.progress(n + 1, to)


@task(runs_in="process")
def leave_behind() -> int:
    """A thread that never ends, a handler that would wait for it, and a line that comes late."""
    thread = threading.Thread(target=time.sleep, args=(600,))
    thread.start()
    atexit.register(thread.join)
    signal.signal(signal.SIGTERM, lambda *_: None)
    return os.getpid()


@task(runs_in="process")
def in_a_pool(how: str) -> list[int]:
    method = multiprocessing.get_context(how)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=method) as pool:
        return list(pool.map(_logged, range(20)))


def _logged(n: int) -> int:
    LOGGER.warning("said by a fork")
    return n


@task(runs_in="process")
def forks_and_returns() -> int:
    """As a careless user does: both sides come back from the task."""
    os.fork()
    return os.getpid()


@task(runs_in="process")
def start_sleeper(context: JobContext) -> None:
    with subprocess.Popen(["sleep", "600"]) as sleeper:
        context.progress(1, note=f"{os.getpid()} {sleeper.pid}")


@task(runs_in="process")
def heirs() -> list[str]:
    """What a program that the task starts would do at Ctrl-C and SIGTERM, and the sockets that it gets."""
    said = (
        "import os, signal; print(signal.getsignal(signal.SIGINT).__name__, signal.getsignal(signal.SIGTERM).name);"
        "print(*(link for n in range(3, 64) if (link := os.path.realpath(f'/proc/self/fd/{n}')) and 'socket' in link))"
    )
    ended = subprocess.run([sys.executable, "-c", said], check=True, capture_output=True, text=True, close_fds=False)
    return ended.stdout.split()


@task(runs_in="process")
def leave_a_deaf_program() -> int:
    """Its process id; it has said that it is deaf before this returns."""
    program = subprocess.Popen(
        ["/bin/sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done"], stdout=subprocess.PIPE
    )
    assert program.stdout
    program.stdout.readline()
    return program.pid
