"""The way of a call to the service and back: sent again while the service cannot be reached or answers 503."""

import math
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any, Final, TypeVar

import httpx
from httpx_sse import ServerSentEvent
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_before_delay,
    wait_random_exponential,
)
from tenacity.stop import stop_base

from jobtrail.client.events import Given, can_be_id, frame_of
from jobtrail.client.http import Http, Stream
from jobtrail.client.parsing import items_of, parsed
from jobtrail.client.problems import LONGEST_PAUSE, alien, lost, require
from jobtrail.errors import OutcomeUnknownError, OverloadedError, UnavailableError
from jobtrail.task.job_events import Gap, JobEvent

T = TypeVar("T")

_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)

_BROKEN: Final = (httpx.ReadError, httpx.RemoteProtocolError)

_MISTAKES: Final = (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.TooManyRedirects)
"""Errors that no repeat mends."""

_BACK_OFF: Final = wait_random_exponential(multiplier=0.2, max=5)

_SILENCE: Final = 60.0
"""Seconds without a byte after which a stream counts as broken; the service sends one each 15 seconds."""

_RECONNECT: Final = 1.0
"""Seconds before a stream is asked for again, where the service does not say."""


@dataclass(frozen=True)
class Connection:
    """`url` is where the calls begin. `timeout`: seconds for one answer. `retry_for`: seconds that a call is sent again
    for, from its first failure.
    """

    http: Http
    url: str
    key: str | None = field(repr=False)
    timeout: float
    retry_for: float

    def __post_init__(self) -> None:
        """Raises ValueError."""
        try:
            url = httpx.URL(self.url)
        except httpx.InvalidURL:
            url = httpx.URL()
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError(f"{self.url!r} is no address of a service: write one such as http://127.0.0.1:8000/v1")
        if self.key is not None and not re.fullmatch("[!-~]+", self.key):
            raise ValueError("the access key is empty, or has characters that no access key has")

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
            sleep=self.http.sleep, wait=_pause,
            stop=stop_before_delay(within) | _AwayFor(self.retry_for, self.timeout),
            retry=retry_if_exception(lambda error: _is_worth_a_repeat(error, repeats=repeats)), reraise=True,
        )  # fmt: skip
        return await retrying(partial(self._send, request))

    async def pages(self, path: str, reading: Callable[[Any], T]) -> Sequence[T]:
        """The items of all pages of a list, each by `reading`."""
        found: list[T] = []
        cursor = None
        while True:
            answer = await self.call("GET", path, query={"cursor": cursor})
            items, cursor = parsed(answer, lambda said: (items_of(reading)(said), said["next_cursor"]))
            found += items
            if cursor is None:
                return found

    def events(self, path: str, query: Mapping[str, Any], since: str | None) -> AsyncGenerator[JobEvent | Gap]:
        """The events of a stream, after the one with the id `since`. Asks again for one that breaks off, until the
        service has been away for `retry_for` seconds.

        Raises ValueError at once for what can be no id.
        """
        if since is not None and not can_be_id(since):
            raise ValueError(f"since={since!a:.60} is no id of an event")
        return self._events(path, {name: value for name, value in query.items() if value != ()}, since)

    async def _events(self, path: str, asked: Mapping[str, Any], since: str | None) -> AsyncGenerator[JobEvent | Gap]:
        timeout = httpx.Timeout(self.timeout, read=_SILENCE)
        pause, away_since, given = _RECONNECT, math.inf, Given()
        while True:
            headers = self._headers({"Accept": "text/event-stream", **({"Last-Event-ID": since} if since else {})})
            request = self.http.build("GET", self.url + path, params=asked, headers=headers, timeout=timeout)
            retry_after, begun = 0, None
            try:
                async with self._opened(request) as (response, sent):
                    away_since = math.inf
                    async for each in sent:
                        pause = pause if each.retry is None else min(each.retry / 1000, LONGEST_PAUSE)
                        frame = frame_of(response, each)
                        # a gap may follow where it begins, and would be lost if that were the place before it has come
                        since = each.id or begun or since or frame.begins_at
                        begun = frame.begins_at
                        if frame.event is not None and given.is_new(frame.event):
                            yield frame.event
                        if frame.is_last:
                            return
            except UnavailableError as error:
                away_since = min(away_since, time.monotonic())
                if time.monotonic() - away_since >= self.retry_for:
                    raise
                retry_after = error.retry_after
            await self.http.sleep(max(pause, retry_after))

    @asynccontextmanager
    async def _opened(self, request: httpx.Request) -> AsyncIterator[Stream]:
        """Raises as `call`, also where it breaks off."""
        try:
            async with self.http.stream(request) as stream:
                response = stream.response
                require(response)
                if response.status_code == HTTPStatus.NO_CONTENT:
                    yield Stream(response, _ended())
                elif "text/event-stream" in response.headers.get("Content-Type", "").partition(";")[0]:
                    yield stream
                else:
                    raise alien(response, "not with events")
        except httpx.RequestError as error:
            raise _failure(request, error) from error

    async def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            response = await self.http.send(request)
        except httpx.RequestError as error:
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


def _failure(request: httpx.Request, error: httpx.RequestError) -> Exception:
    """The error of a connection that failed."""
    if isinstance(error, _MISTAKES):
        return error
    if isinstance(error, httpx.PoolTimeout):
        return UnavailableError(f"{request.method} {request.url} was not sent: {_ALL_IN_USE}", retry_after=0)
    reason = f"{type(error).__name__} {error}".strip()
    if isinstance(error, _NOT_SENT):
        return UnavailableError(f"{request.url.copy_with(raw_path=b'/')} cannot be reached: {reason}", retry_after=0)
    return lost(request, f"the connection broke off: {reason}", retry_after=0)


_ALL_IN_USE: Final = (
    "all connections that the given httpx client may have are in use, and each wait and each stream holds one; "
    "raise its limits (httpx.Limits)"
)


class _AwayFor(stop_base):
    """After `seconds` without the service, from the first failure on. A request that broke off after it was held for
    longer than `held` seconds was in its hands: so it is away from then on.
    """

    def __init__(self, seconds: float, held: float) -> None:
        self._seconds = seconds
        self._held = held
        self._since = math.inf
        self._sent_at = time.monotonic()

    def __call__(self, state: RetryCallState) -> bool:
        now = time.monotonic()
        error = state.outcome.exception() if state.outcome else None
        if error is not None and isinstance(error.__cause__, _BROKEN) and now - self._sent_at > self._held:
            self._since = now
        self._since = min(self._since, now)
        self._sent_at = now + state.upcoming_sleep
        return self._sent_at - self._since >= self._seconds


def _is_worth_a_repeat(error: BaseException, *, repeats: bool) -> bool:
    """A 429 is an answer: the service lives, and wants less."""
    if isinstance(error, OverloadedError) or not isinstance(error, UnavailableError):
        return False
    return repeats or not isinstance(error, OutcomeUnknownError)


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    told = error.retry_after if isinstance(error, UnavailableError) else 0
    return told + _BACK_OFF(state)
