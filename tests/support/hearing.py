"""A task in a process of its own that is told to end, and what it hears of it."""

import asyncio
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from jobtrail import JobContext, task


@task(runs_in="process")
def told(context: JobContext, how: str = "sleep") -> str:
    """Says where it is before it waits, and what it heard when it cleans up."""
    try:
        context.progress(1, note=str(os.getpid()))
        _WAITS[how](context)
    except asyncio.CancelledError:
        if how != "deaf":
            raise
        _end_deaf(context)
    finally:
        context.log.warning("cleaned up: %s", context.cancelled)
    return "slept"


def _swallow(context: JobContext) -> None:
    try:
        time.sleep(60)
    except asyncio.CancelledError:
        context.log.warning("heard")
    time.sleep(0.05)


def _read(_: JobContext) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.recv(1)


def _talk(context: JobContext) -> None:
    """Without a pause, so that a word to end comes in the midst of one."""
    while True:
        context.progress(time.monotonic())
        context.log.warning("x" * 60_000)


def _poll(context: JobContext) -> None:
    while not context.cancelled:
        try:
            time.sleep(60)
        except asyncio.CancelledError:
            continue


def _end_deaf(context: JobContext) -> None:
    """With words unread: then the system resets the line."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    context.log.warning("last words")
    os._exit(7)


async def _call_back() -> None:
    """Nearly all the time in a callback, where asyncio would report an exception and go on."""

    def again() -> None:
        time.sleep(0.005)
        asyncio.get_running_loop().call_soon(again)

    asyncio.get_running_loop().call_soon(again)
    await asyncio.sleep(60)


def _miss(context: JobContext) -> None:
    """The first signal, as one does that comes in the instant before a system call."""
    heard = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while not context.cancelled:
        time.sleep(0.001)
    time.sleep(0.02)
    signal.signal(signal.SIGTERM, heard)
    time.sleep(60)


_WAITS: dict[str, Callable[[JobContext], Any]] = {
    "sleep": lambda _: time.sleep(60),
    "short": lambda _: time.sleep(0.1),
    "callbacks": lambda _: asyncio.run(_call_back()),
    "read": _read,
    "lock": lambda _: threading.Event().wait(60),
    "asyncio": lambda _: asyncio.run(asyncio.sleep(60)),
    "subprocess": lambda _: subprocess.run(["sleep", "60"], check=True),
    "talk": _talk,
    "miss": _miss,
    "swallow": _swallow,
    "deaf": lambda _: time.sleep(60),
    "poll": _poll,
}
