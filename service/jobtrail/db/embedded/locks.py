"""Locks on files: the kernel releases them when their process dies, however it dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Wait until no other process is in here."""
    lock = open_lock(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        let_go(lock)


def open_lock(path: Path) -> int:
    """A descriptor that programs started from here do not inherit."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def share(lock: int) -> None:
    fcntl.flock(lock, fcntl.LOCK_SH)


def is_alone(lock: int) -> bool:
    """Whether nobody else holds the lock, which is then ours alone; if not, what we held of it is gone."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def let_go(lock: int) -> None:
    """Release the lock, also for a process that was forked meanwhile, which closing alone would leave holding it."""
    fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)
