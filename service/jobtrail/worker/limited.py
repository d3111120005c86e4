"""Claims of jobs that have limits: beside the plain claim, and only on nodes that know of such jobs."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from jobtrail.jobs.claim import claim_limited, is_any_limited
from jobtrail.jobs.services import Services
from jobtrail.records import Claimed
from jobtrail.task.storable import dump
from jobtrail.task.task import RunsIn
from jobtrail.worker.slots import KINDS

LOOK_EVERY: Final = 20.0
"""Seconds between two looks for limited jobs by a node whose tasks have no limits: such a job was submitted when its
task still had some, or has a debounced key.
"""

_HINTS: Final = 100


class LimitedClaims:
    """Knows when limited jobs are worth a claim, and where the last one stopped. `wake` brings a tick of the claims."""

    def __init__(
        self, services: Services, node: UUID, lease: timedelta, queues: Sequence[str],
        *, every: float, wake: Callable[[], None],
    ) -> None:  # fmt: skip
        self._services = services
        self._declared = dump(services.catalog.limits)
        self._kinds = {task.runs_in for task in services.catalog if task.is_limited}
        self._tasks = {kind: [task.name for task in services.catalog.with_own(kind)] for kind in KINDS}
        self._node = node
        self._lease = lease
        self._queues = queues
        self._every = every * 0.8  # a tick comes a tenth early
        self._wake = wake
        self._start: dict[RunsIn, Sequence[str]] = {}
        self._hints: dict[RunsIn, deque[UUID]] = {kind: deque(maxlen=_HINTS) for kind in KINDS}
        self._due: dict[RunsIn, float] = {}
        self._alarms: dict[RunsIn, tuple[float, asyncio.TimerHandle]] = {}
        self._next_look = 0.0
        self._others_wait = False

    def note(self, job_id: UUID, stored: RunsIn | None = None) -> None:
        """A limited job was `stored`, of this kind, or has ended: its lane comes first."""
        for kind in self._kinds:
            self._hints[kind].append(job_id)
        if stored is not None and stored not in self._kinds:
            self._services.has_limited.set()
        self._due.clear()
        self._wake()

    def look(self) -> None:
        """A job may have come that waits for limits, whatever its task."""
        self._due.clear()
        self._next_look = min(self._next_look, time.monotonic() + self._every)
        self._wake()

    def is_waiting(self, kind: RunsIn) -> bool:
        """Whether more may wait for a slot: the last claim took all that it was allowed to, or none came since."""
        return self._due.get(kind, 0.0) == 0.0 and (kind in self._kinds or self._others_wait)

    async def is_due(self, kind: RunsIn) -> bool:
        """Whether a claim is worth its while now."""
        now = time.monotonic()
        if not self._tasks[kind]:
            return False
        if kind not in self._kinds:
            if now >= self._next_look or self._services.has_limited.is_set():
                self._services.has_limited.clear()
                self._next_look = now + LOOK_EVERY
                self._others_wait = await is_any_limited(self._services.database)
            if not self._others_wait:
                return False
        return now >= self._due.get(kind, 0.0)

    async def claim(self, kind: RunsIn, _tasks: Sequence[str], free: int) -> Sequence[Claimed]:
        """Claim at most `free` jobs, from where the last claim of this kind stopped."""
        hints = list(self._hints[kind])
        self._hints[kind].clear()
        self._due[kind] = time.monotonic() + self._every
        found = await claim_limited(
            self._services.database,
            node=self._node,
            lease=self._lease,
            tasks=self._tasks[kind],
            queues=self._queues,
            free=free,
            declared=self._declared,
            start=self._start.get(kind, ()),
            hints=hints,
        )
        self._start[kind] = found.after
        if len(found.jobs) == free:
            self._due[kind] = 0.0
        elif found.wake is not None and (seconds := found.wake.total_seconds()) < 2 * self._every:
            self._set_alarm(kind, seconds)  # the poll before it may be the last one for as long again
        return found.jobs

    def _set_alarm(self, kind: RunsIn, seconds: float) -> None:
        """One at a time, the earliest: of two each would bring another."""
        loop = asyncio.get_running_loop()
        when, (until, alarm) = loop.time() + seconds, self._alarms.get(kind, (math.inf, None))
        if when < until:
            if alarm is not None:
                alarm.cancel()
            self._alarms[kind] = when, loop.call_at(when, self._has_room, kind)

    def _has_room(self, kind: RunsIn) -> None:
        self._alarms.pop(kind, None)
        self._due.pop(kind, None)
        self._wake()
