"""Starts what waited for a job that ended here: jobs that come after it, and the end of its batch."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final
from uuid import UUID

from jobtrail.events.hub import Hub
from jobtrail.jobs import after
from jobtrail.jobs.services import Services
from jobtrail.ops import batches


class Followers:
    """`wake` brings a tick of the claims. While none of the `signs` is set, nothing waits to start. `note` tells those
    who wait for the end.
    """

    def __init__(self, services: Services, *, wake: Callable[[], None]) -> None:
        self.signs: Final[Sequence[asyncio.Event]] = (services.has_edges, services.has_batches)
        self.note: Final = services.once(Hub).note
        self._services = services
        self._wake = wake

    async def release(self, job_id: UUID) -> None:
        """Start them, after the end of the job is recorded; what the database refuses is left to the sweeps."""
        hints = list[Awaitable[bool]]()
        if self._services.has_edges.is_set():
            hints.append(after.hint(self._services, [job_id]))
        if self._services.has_batches.is_set():
            hints.append(batches.hint(self._services, job_id))
        if any(await asyncio.gather(*hints)):
            self._wake()
