"""Around the whole stand-alone service, its documentation too. A host's app has none of it."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Final, cast

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from jobtrail.api import problems
from jobtrail.api.headers import complete, let_page_run
from jobtrail.api.stream import HANG_UP

_ALWAYS: Final = "/health/live"
"""Answered however many connections are open: to restart a busy process makes it no less busy."""

_NONE: Final = object()


class SecurityHeadersMiddleware:
    """Pure ASGI. `connections`: how many are open, of which `most` are served."""

    def __init__(self, app: ASGIApp, *, connections: Callable[[], int], most: int) -> None:
        self._app: Final = app
        self._connections: Final = connections
        self._most: Final = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        page: Message | None = None

        async def send_completed(message: Message) -> None:
            nonlocal page
            if message["type"] == "http.response.start":
                headers = message.setdefault("headers", [])
                complete(headers, scope)
                if dict(headers).get(b"content-type", b"").startswith(b"text/html"):
                    page = message  # its policy depends on the body
                    return
            elif page is not None:
                let_page_run(page["headers"], message.get("body", b""))
                await send(page)
                page = None
            await send(message)

        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif self._connections() > self._most and scope["path"] != _ALWAYS:
            refusal = problems.answer(Request(scope), problems.TooManyConnectionsError(self._most))
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send_completed)


class WholeResponses(HttpToolsProtocol):
    """uvicorn's protocol, with a response in one piece: it writes head and body apart, and each would be a packet. An
    answer may break its connection: one that is closed waits for a reader that takes nothing.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", _HeldHead(cast("asyncio.Transport", transport))))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        scope: Any = self.scope
        scope[HANG_UP] = self.transport.abort


class _HeldHead:
    """A transport that holds what is written until something follows, and for one turn of the event loop at most."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport: Final = transport
        self._held: bytes | None = None

    def write(self, data: bytes) -> None:
        if self._held is None:
            self._held = data
            asyncio.get_running_loop().call_soon(self._send)
        else:
            data, self._held = self._held + data, None
            self._transport.write(data)

    def close(self) -> None:
        self._send()
        self._transport.close()

    def _send(self) -> None:
        if self._held is not None and not self._transport.is_closing():
            self._transport.write(self._held)
        self._held = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class SilentConnections:
    """Closes connections that were silent for `patience`: uvicorn waits for headers without an end.

    Silent is one that was neither asked for anything nor closed by its client.
    """

    def __init__(self, patience: timedelta) -> None:
        self._patience: Final = patience.total_seconds()
        self._since: dict[Any, tuple[object, float]] = {}

    def close(self, connections: Iterable[Any], now: float) -> None:
        """`connections` are uvicorn's protocols: each has the `cycle` of its last request. `now` is in seconds."""
        silent: dict[Any, tuple[object, float]] = {}
        for each in connections:
            request: Any = getattr(each, "cycle", _NONE)  # None: there was none yet
            is_answering = request is not None and request is not _NONE and not request.response_complete
            if request is _NONE or is_answering or each.transport.get_write_buffer_size():
                continue
            # since when it has waited after the same request: another one may have come and gone unseen
            seen = self._since.get(each)
            silent[each] = seen if seen is not None and seen[0] is request else (request, now)
        self._since = silent
        for each, (_, since) in silent.items():
            if now - since >= self._patience:
                each.transport.close()
