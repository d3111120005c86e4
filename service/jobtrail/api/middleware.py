"""The middleware of the stand-alone service, around its documentation too. A host's app has none of ours."""

from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobtrail.api import problems
from jobtrail.api.browsers import let_page_run, protect
from jobtrail.api.headers import trace_of
from jobtrail.api.problem_types import TooManyConnectionsError
from jobtrail.ids import new_trace_id

_ALWAYS: Final = "/health/live"
"""Answered however many connections are open: to restart a busy process makes it no less busy."""


class SecurityHeadersMiddleware:
    """Pure ASGI. `connections`: how many are open, of which `most` are served."""

    def __init__(self, app: ASGIApp, *, connections: Callable[[], int], most: int) -> None:
        self._app: Final = app
        self._connections: Final = connections
        self._most: Final = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif self._connections() > self._most and scope["path"] != _ALWAYS:
            refusal = problems.answer(Request(scope), TooManyConnectionsError(self._most))
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, _WithHeaders(scope, send))


class _WithHeaders:
    """Sends on, with the headers that belong to every answer."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope: Final = scope
        self._send: Final = send
        self._page: Message | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = message.setdefault("headers", [])
            if b"x-trace-id" not in protect(headers):  # it is none of our own calls
                headers.append((b"x-trace-id", (trace_of(Request(self._scope)) or new_trace_id()).encode()))
                if any(name == b"content-type" and value.startswith(b"text/html") for name, value in headers):
                    self._page = message
                    return
        elif self._page is not None:
            let_page_run(self._page["headers"], message.get("body", b""))
            await self._send(self._page)
            self._page = None
        await self._send(message)
