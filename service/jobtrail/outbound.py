"""Receivers of webhooks: which URLs are taken, which addresses are connected to, and the secrets that sign. No I/O.

A URL is judged when it is given, and its addresses each time they are connected to: by then a name may lead elsewhere.
"""

import base64
import binascii
import re
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Self
from urllib.parse import SplitResult, urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL: Final = 2000
PORTS: Final = frozenset({80, 443})

SECRET: Final = "whsec_"  # noqa: S105 - how a secret begins (Standard Webhooks, "Signature scheme")
MIN_SECRET: Final = 24
MAX_SECRET: Final = 64
"""Bytes, of what stands behind it as base64."""
MOST_SECRETS: Final = 2
"""At a rotation the new and the old one sign."""

# Written out, since Python's own `is_private` and `is_global` differ between its releases and let some through
# (IANA, "Special-Purpose Address Registry" of IPv4 and of IPv6).
_REFUSED: Final = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
            "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
            "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "2001::/23", "2001:db8::/32", "3fff::/20",
        ),
    )
)  # fmt: skip
_UNICAST: Final = ip_network("2000::/3")
"""All of IPv6 that is public; what is refused of it stands above."""

_LAST_32_BITS: Final = (ip_network("64:ff9b::/96"), ip_network("::/96"))
"""Prefixes with an IPv4 address behind them: NAT64, and the IPv4-compatible ones of old."""

_VISIBLE: Final = re.compile(r"[!-\[\]-~]+")  # no backslash, which some take for a slash
_NETLOC: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(:[0-9]*)?")
"""Brackets are of an IPv6 address as a whole: of no later version, and without a zone, which is of one machine (RFC
3986, section 3.2.2; RFC 6874).
"""
_NAME: Final = re.compile(r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER: Final = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)")
"""Names that some resolvers take for an IPv4 address (WHATWG URL, "ends in a number")."""


@dataclass(frozen=True, slots=True)
class Outbound:
    """Where requests may go. `hosts` and `networks` are allowed whatever they are, over http and at any port too.
    `secrets`, the newest first, sign callbacks.
    """

    hosts: frozenset[str] = frozenset()
    networks: Sequence[Network] = ()
    secrets: Sequence[str] = field(default=(), repr=False)

    @classmethod
    def of(cls, allow: Iterable[str], secrets: Sequence[str] = ()) -> Self:
        """`allow`: names of hosts, addresses and networks. Raises ValueError."""
        found = [allowed(each) for each in allow]
        hosts = frozenset(each for each in found if isinstance(each, str))
        return cls(hosts, tuple(each for each in found if not isinstance(each, str)), tuple(secrets))

    def flaw_of(self, url: str) -> str | None:
        """The reason why this URL is not taken, whatever its name leads to."""
        try:
            parts = _parsed(url)
            port = parts.port
        except ValueError as error:
            return str(error)
        host, address = _host_of(parts)
        if host in self.hosts or (address is not None and self._allows(address)):
            return None
        if host == "localhost" or host.endswith(".localhost") or (address is not None and self.refuses(host, address)):
            return f"{host} is not public: allow it with JOBTRAIL_WEBHOOK_ALLOW"
        if parts.scheme != "https":
            return f"write https://; http is for what JOBTRAIL_WEBHOOK_ALLOW names, such as {host}"
        if port is not None and port not in PORTS:
            return f"port {port} is for what JOBTRAIL_WEBHOOK_ALLOW names, such as {host}; others listen at 443"
        return None

    def refuses(self, host: str, address: Address) -> bool:
        """Whether this address, which `host` leads to now, is not to be connected to."""
        if host in self.hosts or self._allows(address):
            return False
        found = _inner(address)
        return any(found in each for each in _REFUSED) or (isinstance(found, IPv6Address) and found not in _UNICAST)

    def _allows(self, address: Address) -> bool:
        return any(address in each for each in self.networks)


def _parsed(url: str) -> SplitResult:
    """Raises ValueError for what is no URL of a receiver, wherever requests may go."""
    if len(url) > MAX_URL:
        raise ValueError(f"it has {len(url)} characters: at most {MAX_URL}")
    if not _VISIBLE.fullmatch(url):
        raise ValueError("write it in visible ASCII characters, others as %XX, and no backslash")
    parts = urlsplit(url)
    host, address = _host_of(parts)
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("write a URL such as https://example.com/hooks")
    if "@" in parts.netloc:
        raise ValueError("it names a user or a password: each request is signed instead")
    if not _NETLOC.fullmatch(parts.netloc) or isinstance(address, IPv6Address) != ("[" in parts.netloc):
        raise ValueError("write a name or an address, an IPv6 one in brackets and without a zone, and perhaps a port")
    if parts.port == 0:
        raise ValueError("nothing listens at port 0")
    if parts.fragment:
        raise ValueError("leave out what comes after #: no server gets it")
    if address is None and (not _NAME.fullmatch(host) or _NUMBER.fullmatch(host)):
        raise ValueError(f"{host!r:.100} is no name of a host: write letters, digits, - and dots, or a whole address")
    return parts


def host_of(url: str) -> str:
    """Name or address, in lower case and without brackets; `?` for what is no URL, as somebody may write in SQL."""
    try:
        return _host_of(urlsplit(url))[0] or "?"
    except ValueError:
        return "?"


def _host_of(parts: SplitResult) -> tuple[str, Address | None]:
    host = parts.hostname or ""
    try:
        return host, ip_address(host)
    except ValueError:
        return host, None


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 one leads to: mapped, 6to4, Teredo, NAT64, compatible."""
    if isinstance(address, IPv4Address):
        return address
    if (found := address.ipv4_mapped or address.sixtofour) is not None:
        return found
    if address.teredo is not None:
        return address.teredo[1]
    if any(address in each for each in _LAST_32_BITS):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def allowed(word: str) -> str | Network:
    """The name of a host, or an address or network, as JOBTRAIL_WEBHOOK_ALLOW has it. Raises ValueError."""
    try:
        return ip_network(word)
    except ValueError as error:
        name = word.lower()
        if _NAME.fullmatch(name) and not _NUMBER.fullmatch(name):
            return name
        raise ValueError(f"{word!r:.60} is neither the name of a host nor a network: {error}") from None


def new_secret() -> str:
    return SECRET + base64.b64encode(secrets.token_bytes(32)).decode()


def signing(secrets: Iterable[str]) -> Sequence[str]:
    """Those that can sign: in SQL anything may be written."""
    found = []
    for each in secrets:
        with suppress(ValueError):
            key_of(each)
            found.append(each)
    return found


def key_of(secret: str) -> bytes:
    """The bytes that sign. Raises ValueError, in which no secret is."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET), validate=True) if secret.startswith(SECRET) else b""
    except binascii.Error:
        key = b""
    if not MIN_SECRET <= len(key) <= MAX_SECRET:
        raise ValueError(
            f"a secret is {SECRET} and {MIN_SECRET} to {MAX_SECRET} random bytes as base64: what "
            f"`openssl rand -base64 32` prints, with {SECRET} before it"
        )
    return key
