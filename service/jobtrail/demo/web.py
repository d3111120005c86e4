"""Fetching pages, from this machine only unless somebody opened the door.

A name is resolved once and the connection goes to the address that was looked at, so that no second answer of a DNS
server leads elsewhere. Proxies of the environment are not asked: they would fetch what is refused here.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv6Address, ip_address
from socket import SOCK_STREAM
from typing import Final, NotRequired, TypedDict

import httpx

PATIENCE: Final = 10.0
"""Seconds for one URL with all its redirects."""

LARGEST: Final = 5 * 1024 * 1024
"""Bytes of one page."""

MOST_REDIRECTS: Final = 5

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class Fetched(TypedDict):
    """`status` and `bytes`, or else `error`."""

    url: str
    seconds: float
    status: NotRequired[int]
    bytes: NotRequired[int]
    error: NotRequired[str]


class RefusedError(Exception):
    """A page that the demo does not fetch."""


async def resolve(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def open_client() -> httpx.AsyncClient:
    headers = {"User-Agent": "jobtrail-demo", "Accept-Encoding": "identity"}
    return httpx.AsyncClient(trust_env=False, timeout=PATIENCE, headers=headers)


async def fetch(client: httpx.AsyncClient, url: str, *, anywhere: bool, resolve: Resolve = resolve) -> Fetched:
    """What came of it; every trouble with the URL is an `error` in words."""
    began = time.monotonic()
    fetched: Fetched = {"url": url, "seconds": 0.0}
    try:
        async with asyncio.timeout(PATIENCE):
            fetched["status"], fetched["bytes"] = await _follow(client, httpx.URL(url), anywhere, resolve)
    except TimeoutError:
        fetched["error"] = f"no answer within {PATIENCE:g} s"
    except (RefusedError, httpx.HTTPError, httpx.InvalidURL, UnicodeError, OSError) as error:
        fetched["error"] = str(error) or type(error).__name__
    fetched["seconds"] = round(time.monotonic() - began, 3)
    return fetched


async def _follow(client: httpx.AsyncClient, url: httpx.URL, anywhere: bool, resolve: Resolve) -> tuple[int, int]:
    for _ in range(MOST_REDIRECTS + 1):
        status, size, target = await _get(client, url, await _addresses(url, anywhere, resolve))
        if target is None:
            return status, size
        following = url.join(target)
        if following.host != url.host:
            raise RefusedError(f"redirects to another host, {following.host}, which is not followed")
        url = following
    raise RefusedError(f"more than {MOST_REDIRECTS} redirects")


async def _addresses(url: httpx.URL, anywhere: bool, resolve: Resolve) -> Sequence[str]:
    """Where to connect to."""
    if anywhere:
        return [url.host]
    found = await resolve(url.host, url.port or (443 if url.scheme == "https" else 80))
    if far := [address for address in found if not _is_loopback(address)]:
        where = url.host if far == [url.host] else f"{url.host} ({far[0]})"
        raise RefusedError(f"{where} is not on this machine; JOBTRAIL_DEMO_FETCH_ANYWHERE=1 would allow it")
    return found


def _is_loopback(address: str) -> bool:
    found = ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return (mapped or found).is_loopback


async def _get(client: httpx.AsyncClient, url: httpx.URL, addresses: Sequence[str]) -> tuple[int, int, str | None]:
    """Status, bytes, and where a redirect leads to; from the first of the addresses that accepts a connection."""
    *others, last = addresses
    for address in others:
        try:
            return await _get_from(client, url, address)
        except httpx.ConnectError:
            continue
    return await _get_from(client, url, last)


async def _get_from(client: httpx.AsyncClient, url: httpx.URL, address: str) -> tuple[int, int, str | None]:
    request = client.build_request(
        "GET",
        url.copy_with(host=address),
        headers={"Host": url.netloc.decode("ascii")},
        extensions={"sni_hostname": url.raw_host.decode("ascii")},
    )
    response = await client.send(request, stream=True)
    try:
        if response.has_redirect_location:
            return response.status_code, 0, response.headers["Location"]
        size = 0
        async for chunk in response.aiter_raw():
            size += len(chunk)
            if size > LARGEST:
                raise RefusedError(f"more than {LARGEST // 1024**2} MiB")
        return response.status_code, size, None
    finally:
        await response.aclose()
