"""Hints that jobs wait, for nodes in other processes: a NOTIFY beside the commit, never part of it.

Nodes poll, so a hint that is lost costs a job no more than the time until the next poll.
"""

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Any, Final

from jobtrail.db.direct import Statement
from jobtrail.db.errors import reason

log = logging.getLogger(__name__)

WINDOW: Final = 0.05
"""Seconds from one hint of this process to the next: PostgreSQL commits those of all processes one after another."""

ANY: Final = ""
"""Instead of a queue: look at all of them."""

_MOST_BYTES: Final = 7999
"""Bytes that a NOTIFY carries at most (PostgreSQL, "NOTIFY")."""

_ECHO: Final = "?"
"""Begins what a listener sends to itself; no queue has it in its name."""

_PATIENCE: Final = 3.0
"""Seconds for a NOTIFY, and for the last one of a process that ends."""

_NOTIFY: Final = Statement("SELECT pg_notify(:channel, :payload)")


class Hints:
    """`fetch` runs a statement on a connection that carries no submit meanwhile."""

    def __init__(self, fetch: Callable[..., Awaitable[Any]], channel: str) -> None:
        self.channel: Final = channel
        self._fetch = fetch
        self._queues: set[str] = set()
        self._sending: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._failing = False

    def send(self, queue: str = ANY) -> None:
        """Hand over and return: the first one goes at once, those of the next WINDOW go together at its end."""
        if self._closing.is_set():
            return
        self._queues.add(queue)
        if self._sending is None or self._sending.done():
            # in a context of its own: it has nothing to do with the request or the job that happens to be the first
            self._sending = asyncio.get_running_loop().create_task(
                self._send_all(), name="jobtrail-hints", context=contextvars.Context()
            )

    async def echo(self, token: str) -> None:
        """Send what `is_echo` knows again. Raises as `Database.fetch`."""
        await self._notify(_ECHO + token)

    async def close(self) -> None:
        """Send what waits, since a script ends right after its last submit. Idempotent."""
        self._closing.set()
        if self._sending is not None:
            _, late = await asyncio.wait({self._sending}, timeout=_PATIENCE)
            for each in late:
                each.cancel()
                await asyncio.wait({each}, timeout=_PATIENCE)

    async def _send_all(self) -> None:
        while self._queues:
            queues, self._queues = self._queues, set()
            try:
                await self._notify(_payload(queues))
                self._failing = False
            except Exception as error:  # noqa: BLE001 - the jobs are stored, and found by the poll
                level = logging.DEBUG if self._failing else logging.WARNING
                log.log(level, "jobtrail: hint to other nodes: %s; they find the jobs when they poll", reason(error))
                self._failing = True
            with suppress(TimeoutError):
                async with asyncio.timeout(WINDOW):
                    await self._closing.wait()

    async def _notify(self, payload: str) -> None:
        await self._fetch(_NOTIFY, _PATIENCE, channel=self.channel, payload=payload)


def _payload(queues: Collection[str]) -> str:
    named = ANY if ANY in queues else ",".join(sorted(queues))
    return named if len(named) <= _MOST_BYTES else ANY


def queues_of(payload: str) -> frozenset[str]:
    """Those that a hint names; none: any."""
    return frozenset(filter(None, payload.split(",")))


def is_echo(payload: str, token: str = "") -> bool:
    """Whether it is a listener's word to itself, or that of this token."""
    return payload.startswith(_ECHO) and payload.endswith(token)
