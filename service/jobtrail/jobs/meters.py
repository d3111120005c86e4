"""Counts of this process since its start: plain numbers, kept on its event loop and read when somebody asks.

A job changes them four times, so they are no objects of a metrics library; `events/metrics.py` makes those of them.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple
from uuid import UUID

from jobtrail.status import Status

BOUNDS: Final = (0.01, 0.1, 1.0, 10.0, 300.0)
"""Seconds, each in the bucket that ends with it."""


class Histogram:
    """`counts`: how many were in each bucket; the last one has no bound. `total`: their sum, in seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0


class TaskMeter:
    """Counts of one task. `ended`: attempts, by the status that their jobs went to."""

    __slots__ = ("accepted", "ended", "run", "started", "wait")

    def __init__(self) -> None:
        self.accepted = 0
        self.started = 0
        self.ended: dict[Status, int] = dict.fromkeys(Status, 0)
        self.wait = Histogram()
        self.run = Histogram()

    def start(self, waited: float | None) -> None:
        """`waited` is not known of a claim whose answer was lost."""
        self.started += 1
        if waited is not None:
            self.wait.counts[bisect_left(BOUNDS, waited)] += 1
            self.wait.total += waited

    def end(self, status: Status, seconds: float) -> None:
        self.ended[status] += 1
        self.run.counts[bisect_left(BOUNDS, seconds)] += 1
        self.run.total += seconds


class NodeFacts(NamedTuple):
    """How a node is right now. `busy`: slots that are taken. `loop_lag`: the longest that the event loop let somebody
    wait of late, in seconds.
    """

    id: UUID
    version: str
    slots: Mapping[str, int]
    busy: Mapping[str, int]
    loop_lag: float
    left_behind: int
    stale_ends: int


class Meters:
    """`tasks`: those that the process knows. Only what it stores or runs is counted, and it refuses others, so that no
    name from outside is kept. `node`: None where jobs are submitted only.
    """

    def __init__(self, tasks: Iterable[str]) -> None:
        self.tasks: Final = defaultdict[str, TaskMeter](TaskMeter, {name: TaskMeter() for name in tasks})
        self.node: Callable[[], NodeFacts] | None = None
