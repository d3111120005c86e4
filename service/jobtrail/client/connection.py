"""The way of a call to the service and back: sent again while the service cannot be reached or answers 503."""

import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import httpx
from httpx_sse import ServerSentEvent, SSEError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_before_delay, wait_random_exponential

from jobtrail.client.events import begins_at, event_of, is_last
from jobtrail.client.http import Http
from jobtrail.client.parsing import json_of
from jobtrail.client.problems import lost, require
from jobtrail.errors import OutcomeUnknownError, OverloadedError, UnavailableError
from jobtrail.task.job_events import Gap, JobEvent

_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)

_MISTAKES: Final = (httpx.UnsupportedProtocol, httpx.LocalProtocolError, SSEError)
"""Errors that no repeat mends."""

_BACK_OFF: Final = wait_random_exponential(multiplier=0.2, max=5)

_SILENCE: Final = 60.0
"""Seconds without a byte after which a stream counts as broken; the service sends one each 15 seconds."""

_RECONNECT: Final = 1.0
"""Seconds before a stream is asked for again, where the service does not say."""


@dataclass(frozen=True)
class Connection:
    """`url` is where the calls begin. `timeout`: seconds for one answer. `retry_for`: seconds that a call is sent again
    for.
    """

    http: Http
    url: str
    key: str | None = field(repr=False)
    timeout: float
    retry_for: float

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if httpx.URL(self.url).scheme not in ("http", "https"):
            raise ValueError(f"{self.url!r} is no address of a service: write one such as http://127.0.0.1:8000/v1")

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        may_repeat: bool | None = None,
        patience: float = 0,
        within: float = math.inf,
    ) -> httpx.Response:
        """The answer. `may_repeat`: once more does no harm; by default all but POST. `patience`: seconds that the
        service may take besides. `within`: it is not sent again after so many seconds.

        Raises the error of a refusal, UnavailableError once `retry_for` is over, and OutcomeUnknownError for what may
        have been carried out.
        """
        repeats = method != "POST" if may_repeat is None else may_repeat
        asked = {name: value for name, value in (query or {}).items() if value is not None and value != ()}
        timeout = httpx.Timeout(self.timeout, read=self.timeout + patience)
        request = self.http.build(
            method, self.url + path, json=body, params=asked, headers=self._headers(headers), timeout=timeout
        )
        retrying = AsyncRetrying(
            sleep=self.http.sleep, stop=stop_before_delay(min(self.retry_for, within)), wait=_pause,
            retry=retry_if_exception(lambda error: _is_worth_a_repeat(error, repeats=repeats)), reraise=True,
        )  # fmt: skip
        return await retrying(partial(self._send, request))

    async def pages(self, path: str) -> Sequence[Any]:
        """The items of all pages of a list."""
        found: list[Any] = []
        cursor = None
        while True:
            page = json_of(await self.call("GET", path, query={"cursor": cursor}))
            found += page["items"]
            if (cursor := page["next_cursor"]) is None:
                return found

    async def events(self, path: str, query: Mapping[str, Any], since: str | None) -> AsyncGenerator[JobEvent | Gap]:
        """The events of a stream, after the one with the id `since`. Asks again for one that breaks off, until the
        service has been away for `retry_for` seconds.
        """
        asked = {name: value for name, value in query.items() if value != ()}
        timeout = httpx.Timeout(self.timeout, read=_SILENCE)
        pause, away_since = _RECONNECT, math.inf
        while True:
            headers = self._headers({"Accept": "text/event-stream", **({"Last-Event-ID": since} if since else {})})
            request = self.http.build("GET", self.url + path, params=asked, headers=headers, timeout=timeout)
            retry_after = 0
            try:
                async with self._opened(request) as sent:
                    away_since = math.inf
                    async for each in sent:
                        since = each.id or begins_at(each) or since
                        pause = pause if each.retry is None else each.retry / 1000
                        if (event := event_of(each)) is not None:
                            yield event
                        if is_last(each):
                            return
            except UnavailableError as error:
                away_since = min(away_since, time.monotonic())
                if time.monotonic() - away_since >= self.retry_for:
                    raise
                retry_after = error.retry_after
            await self.http.sleep(max(pause, retry_after))

    @asynccontextmanager
    async def _opened(self, request: httpx.Request) -> AsyncIterator[AsyncIterator[ServerSentEvent]]:
        """Raises as `call`, also where it breaks off."""
        try:
            async with self.http.stream(request) as (response, sent):
                require(response)
                yield sent if response.status_code == HTTPStatus.OK else _ended()
        except httpx.TransportError as error:
            raise _failure(request, error) from error

    async def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            response = await self.http.send(request)
        except httpx.TransportError as error:
            raise _failure(request, error) from error
        require(response)
        return response

    def _headers(self, others: Mapping[str, str] | None) -> Mapping[str, str]:
        own = {} if self.key is None else {"Authorization": f"Bearer {self.key}"}
        return {**own, **(others or {})}


class Calls:
    """Calls of the service on a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection: Final = connection


async def _ended() -> AsyncIterator[ServerSentEvent]:
    """For a stream that the service does not begin, as its reader knows the end already."""
    yield ServerSentEvent("end", '{"reason": "ended"}')


def _failure(request: httpx.Request, error: httpx.TransportError) -> Exception:
    """The error of a connection that failed."""
    if isinstance(error, _MISTAKES):
        return error
    reason = f"{type(error).__name__} {error}".strip()
    if isinstance(error, _NOT_SENT):
        return UnavailableError(f"{request.url.copy_with(raw_path=b'/')} cannot be reached: {reason}", retry_after=0)
    return lost(request, f"the connection broke off: {reason}", retry_after=0)


def _is_worth_a_repeat(error: BaseException, *, repeats: bool) -> bool:
    """A 429 is an answer: the service lives, and wants less."""
    if isinstance(error, OverloadedError) or not isinstance(error, UnavailableError):
        return False
    return repeats or not isinstance(error, OutcomeUnknownError)


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    told = error.retry_after if isinstance(error, UnavailableError) else 0
    return told + _BACK_OFF(state)
