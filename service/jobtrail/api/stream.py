"""A response of server-sent events (WHATWG HTML, section 9.2) that ends by itself whatever its reader does."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from jobtrail.errors import ForbiddenError, NotRunningError, UnauthorizedError, UnavailableError
from jobtrail.events.hub import Hub

HANG_UP: Final = "jobtrail.hang_up"
"""In the scope of a request: breaks its connection, where the server can."""

_UNREAD: Final = 10.0
"""Seconds that a reader may take nothing of what was sent; then it is cut off, and goes on with another stream."""

_GOODBYE: Final = 1.0
"""The same while the process stops."""

_QUIET: Final = 15.0
"""Seconds without an event until a comment shows that the stream is alive, as the specification advises."""

_RENEW: Final = 30.0
"""Seconds after which the rights of the reader are looked at again."""

Renew = Callable[[], Awaitable[None]]
"""Raises UnauthorizedError or ForbiddenError for a reader that may not read on."""


Reached = Callable[[], bytes]
"""The frame by which the reader remembers how far it has read, where no event that it got says so; else empty."""


def control(event: str, **data: Any) -> bytes:
    """An event without an id, so that a reader resumes after the last one that had one."""
    return format_sse_event(data_str=to_json(data).decode(), event=event)


class Room:
    """A stream among those of its process, from before it is opened until it has ended, or was given up."""

    def __init__(self, hub: Hub) -> None:
        self.hub: Final = hub
        self._is_taken = True
        hub.streams += 1

    def leave(self) -> None:
        """Idempotent."""
        if self._is_taken:
            self._is_taken = False
            self.hub.streams -= 1

    __del__ = leave


class EventStream(Response):
    """`frames` are the events as bytes. It ends with an event `end`, whose `reason` is why: `ended` where the frames
    are, `shutdown`, `renew` after `longest` seconds, or `revoked`.
    """

    media_type = "text/event-stream"

    def __init__(
        self, frames: AsyncGenerator[bytes, None], room: Room, renew: Renew, longest: float, reached: Reached = bytes
    ) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._frames = frames
        self._reached = reached
        self._room = room
        self._hub = room.hub
        self._renew = renew
        self._longest = longest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        waiting: asyncio.Future[Any] | None = None
        beside = [asyncio.ensure_future(_gone(receive)), asyncio.ensure_future(self._hub.closing.wait())]
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                now = time.monotonic()
                over, renewing = now + self._longest, now + _RENEW
                reason = None
                while reason is None:
                    now = time.monotonic()
                    waiting = waiting or asyncio.ensure_future(anext(self._frames, b""))
                    until = min(over, renewing, now + _QUIET)
                    await asyncio.wait({waiting, *beside}, timeout=until - now, return_when=asyncio.FIRST_COMPLETED)
                    if beside[0].done():
                        return
                    if waiting.done():
                        frame, waiting = _frame(waiting), None
                        reason = None if frame else self._why_over(over) or "ended"
                    else:
                        frame = self._reached() or KEEPALIVE_COMMENT
                    await self._send(send, frame, beside[1])
                    if time.monotonic() >= renewing:
                        renewing += _RENEW
                        reason = reason or await self._revoked()
                    reason = reason or self._why_over(over)
                await self._send(send, self._reached() + control("end", reason=reason), beside[1])
            await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            scope.get(HANG_UP, lambda: None)()
        finally:
            self._room.leave()
            for each in (*beside, *([] if waiting is None else [waiting])):
                each.cancel()
            await asyncio.wait(beside)
            if waiting is not None:
                await asyncio.wait({waiting})
            await self._frames.aclose()

    def _why_over(self, over: float) -> str | None:
        if self._hub.closing.is_set():
            return "shutdown"
        return "renew" if time.monotonic() >= over else None

    async def _revoked(self) -> str | None:
        try:
            await self._renew()
        except (UnauthorizedError, ForbiddenError):
            return "revoked"
        except (UnavailableError, NotRunningError):
            pass  # it is looked at again
        return None

    async def _send(self, send: Send, frame: bytes, closing: "asyncio.Future[Any]") -> None:
        """Raises TimeoutError for a reader that takes nothing."""
        if not frame:
            return
        sending = asyncio.ensure_future(send({"type": "http.response.body", "body": frame, "more_body": True}))
        try:
            if not closing.done():
                await asyncio.wait({sending, closing}, timeout=_UNREAD, return_when=asyncio.FIRST_COMPLETED)
            if closing.done():
                await asyncio.wait({sending}, timeout=_GOODBYE)
            if not sending.done():
                raise TimeoutError
            sending.result()
        finally:
            sending.cancel()


def _frame(waiting: "asyncio.Future[bytes]") -> bytes:
    with suppress(NotRunningError):  # the process stops
        return waiting.result()
    return b""


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
