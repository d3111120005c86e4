"""Starts what waited for a job that ended here: jobs that come after it, and the end of its batch."""

from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any
from uuid import UUID

from jobtrail.jobs import after
from jobtrail.jobs.services import Services
from jobtrail.ops import batches


class Followers:
    """`wake` brings a tick of the claims."""

    def __init__(self, services: Services, *, wake: Callable[[], None]) -> None:
        self._services = services
        self._wake = wake

    def of(self, job_id: UUID) -> Iterator[Coroutine[Any, Any, None]]:
        """Start them, after the end of the job is recorded; nothing where no job comes after others and no batch is
        open.
        """
        if self._services.has_edges.is_set():
            yield self._wake_after(after.hint(self._services, [job_id]))
        if self._services.has_batches.is_set():
            yield self._wake_after(batches.hint(self._services, job_id))

    async def _wake_after(self, hint: Awaitable[bool]) -> None:
        if await hint:
            self._wake()
