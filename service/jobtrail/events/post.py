"""One signed POST to a receiver (Standard Webhooks), to an address that is judged in the connection itself.

A check before the connection would ask the DNS another time than the connection does, and may get another answer.
"""

import asyncio
import base64
import hashlib
import hmac
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from ipaddress import ip_address
from typing import Any, Final
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
        addresses = await self._resolve(host, port)
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

    async def post(self, url: str, body: bytes, *, message_id: str, timestamp: int, secrets: Sequence[str]) -> int:
        """The status of the answer, whatever it is; a redirect is not followed, no proxy is asked.

        Raises RefusedReceiverError, and TimeoutError or an error of httpcore's where there is no answer.
        """
        if (flaw := self.outbound.flaw_of(url)) is not None:
            raise RefusedReceiverError(flaw)
        parts = urlsplit(url)
        # not of the whole text: it would lose what follows a semicolon
        target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        at = httpcore.URL(scheme=parts.scheme, host=parts.hostname or "", port=parts.port, target=target)
        headers: Mapping[str | bytes, str | bytes] = {
            "Host": parts.netloc,
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
            return int(answer.status)


def signatures(secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: one for each secret, so that receivers need not change with us at once."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digests = [hmac.digest(key_of(secret), signed, hashlib.sha256) for secret in secrets]
    return " ".join(f"v1,{base64.b64encode(each).decode()}" for each in digests)
