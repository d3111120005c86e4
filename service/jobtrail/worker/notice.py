"""What signals mean to a node: the first one drains it, a repeated one hurries it."""

import signal
from datetime import timedelta

from jobtrail.worker.node import Node


class Notice:
    """Callable from a signal handler. The grace counts from the first signal."""

    def __init__(self, node: Node, grace: timedelta) -> None:
        self._node = node
        self._grace = grace.total_seconds()
        self._seen: set[int] = set()

    def __call__(self, which: int) -> bool:
        """Whether it is to hurry.

        A SIGTERM after a SIGINT repeats nothing: every process of a terminal gets a Ctrl-C, and those that have a
        supervisor get a SIGTERM of it besides.
        """
        hurries = which in self._seen or (which == signal.SIGINT and bool(self._seen))
        self._seen.add(which)
        self._node.drain(0 if hurries else self._grace)
        return hurries
