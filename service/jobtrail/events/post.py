"""One signed POST to a receiver (Standard Webhooks), to an address that is judged in the connection itself.

A check before the connection would ask the DNS another time than the connection does, and may get another answer.
"""

import asyncio
import base64
import hashlib
import hmac
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from importlib.metadata import version
from ipaddress import ip_address
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import httpcore

from jobtrail.outbound import Outbound, key_of

LONGEST: Final = 15.0
"""Seconds for all of it, from the DNS to the end of the answer."""

CONNECTING: Final = 5.0
"""Seconds for one of several addresses."""

MOST_READ: Final = 16 * 1024
"""Bytes of an answer; it is not kept."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses that a name has now."""


class RefusedReceiverError(Exception):
    """The URL, or an address that its name leads to, is none that may be called; nothing was sent."""


class Answer(NamedTuple):
    """`retry_after`: seconds for which the receiver asks to be left alone, whatever its status; None: none are said."""

    status: int
    retry_after: float | None


async def resolve(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(each[4][0]) for each in found]


@cache
def trusted() -> ssl.SSLContext:
    """The authorities of the system, or those that SSL_CERT_FILE names. Reading them takes a while, so once."""
    return ssl.create_default_context()


class _JudgedAddresses(httpcore.AsyncNetworkBackend):
    """Connects to an address that was judged, never to a name. One that is refused refuses them all."""

    def __init__(self, outbound: Outbound, resolve: Resolve) -> None:
        self._outbound = outbound
        self._resolve = resolve
        self._plain = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109, ARG002 - httpcore's name; ours holds for all of the request
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            addresses = await self._resolve(host, port)
        except (socket.gaierror, UnicodeError) as error:  # a name that cannot be asked for, too
            raise httpcore.ConnectError(f"no address of {host} is known: {getattr(error, 'strerror', error)}") from None
        for each in addresses:
            if self._outbound.refuses(host, ip_address(each)):
                raise RefusedReceiverError(f"{host} leads to {each}, which is not public: see JOBTRAIL_WEBHOOK_ALLOW")
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for each in addresses:
            try:
                return await self._plain.connect_tcp(each, port, CONNECTING, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends to receivers that `outbound` lets it; `seconds` for each request. `trusted` says whose certificates."""

    outbound: Outbound
    seconds: float = LONGEST
    resolve: Resolve = resolve
    trusted: Callable[[], ssl.SSLContext] = trusted

    async def post(self, url: str, body: bytes, *, message_id: str, timestamp: int, secrets: Sequence[str]) -> Answer:
        """What is answered, with any status; a redirect is not followed, no proxy is asked.

        Raises RefusedReceiverError, and TimeoutError or an error of httpcore's where there is no answer.
        """
        if (flaw := self.outbound.flaw_of(url)) is not None:
            raise RefusedReceiverError(flaw)
        parts = urlsplit(url)
        # not of the whole text: it would lose what follows a semicolon
        target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        at = httpcore.URL(scheme=parts.scheme, host=parts.hostname or "", port=parts.port, target=target)
        headers: Mapping[str | bytes, str | bytes] = {
            "Host": parts.netloc.removesuffix(":"),
            "Content-Type": "application/json",
            "User-Agent": f"Jobtrail/{version('jobtrail')}",
            "Connection": "close",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signatures(secrets, message_id, timestamp, body),
        }
        backend = _JudgedAddresses(self.outbound, self.resolve)
        async with (
            asyncio.timeout(self.seconds),
            httpcore.AsyncConnectionPool(self.trusted(), network_backend=backend) as pool,
            pool.stream("POST", at, headers=headers, content=body) as answer,
        ):
            read = 0
            async for part in answer.aiter_stream():
                read += len(part)
                if read > MOST_READ:
                    break
            return Answer(int(answer.status), _retry_after(answer.headers))


def _retry_after(headers: Iterable[tuple[bytes, bytes]]) -> float | None:
    """Seconds to wait, from a number of them or a date in the three forms that there are (RFC 9110, sections 10.2.3 and
    5.6.7); None for what is neither.
    """
    said = next((value.decode("latin-1").strip() for name, value in headers if name.lower() == b"retry-after"), "")
    if re.fullmatch("[0-9]+", said):
        return float(said)
    try:
        at = parsedate_to_datetime(said)
        return max(0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):  # such as the year 10000
        return None


def signatures(secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: one for each secret, so that receivers need not change with us at once."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digests = [hmac.digest(key_of(secret), signed, hashlib.sha256) for secret in secrets]
    return " ".join(f"v1,{base64.b64encode(each).decode()}" for each in digests)
