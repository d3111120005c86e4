"""Reading a connection URI by libpq's rules (PostgreSQL's manual, "Connection URIs") into libpq's parameters.

A `+` in the query is a plus. No message repeats more of the text than a scheme or a parameter's name: what cannot be
taken apart may be a password.
"""

import re
from typing import Final
from urllib.parse import unquote

_ACCEPTED: Final = "postgresql://user:password@host:5432/database"
_ESCAPES: Final = (
    "in a user, password or database name write @ as %40, / as %2F, : as %3A, ? as %3F, # as %23, % as %25"
)

_SCHEMES: Final = frozenset({"postgres", "postgresql", "postgresql+asyncpg"})
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")

_URI: Final = re.compile(
    r"[^:]*://(?:(?P<login>[^/?]*)@)?(?P<hosts>[^/?@]*)(?:/(?P<database>[^?@/]*))?(?:\?(?P<query>[^@]*))?"
)
_MISWRITTEN: Final = re.compile(r"[\s\x00-\x1f#]|%(?![0-9A-Fa-f]{2})|%00")
_HOST: Final = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<name>[^:\[\]]*))(?::(?P<port>[0-9]*))?")

_PORTS: Final = range(1, 65536)
_PORT: Final = re.compile(r"[0-9]{1,5}")

_OTHER_NAMES: Final = {"database": "dbname", "ssl": "sslmode"}
_SSL_WORDS: Final = {"true": "require", "false": "disable"}


def read_uri(uri: str) -> dict[str, str]:
    """What was given, decoded, under libpq's names; the query overrides what stands before it.

    A list of hosts has as many ports, in `host` and `port`, both separated by commas. Raises ValueError with the fix.
    """
    _check_scheme(uri)
    if _MISWRITTEN.search(uri):
        raise ValueError(f"a space, a # or a lone % inside; {_ESCAPES}")
    parts = _URI.fullmatch(uri)
    if parts is None:
        raise ValueError(f"not to be taken apart; write {_ACCEPTED} and {_ESCAPES}")
    user, _, password = (parts["login"] or "").partition(":")
    hosts, ports = _read_hosts(parts["hosts"])
    found = {"user": user, "password": password, "host": hosts, "port": ports, "dbname": parts["database"] or ""}
    decoded = {name: _decode(value) for name, value in found.items() if value}
    return _with_ports(decoded | _read_query(parts["query"] or ""))


def _check_scheme(uri: str) -> None:
    scheme, separator, _ = uri.partition("://")
    if separator and scheme.lower() in _SCHEMES:
        return
    if not separator or not _SCHEME.fullmatch(scheme):
        raise ValueError(f"not a URL; write {_ACCEPTED}")
    if scheme.lower().startswith(("postgres+", "postgresql+")):
        raise ValueError(f"{scheme}:// names another driver, and Jobtrail brings asyncpg; write {_ACCEPTED}")
    raise ValueError(f"{scheme}:// is not PostgreSQL; write {_ACCEPTED}")


def _read_hosts(hosts: str) -> tuple[str, str]:
    """`a:1,b` as libpq lists them: `a,b` and `1,`."""
    pairs = [_HOST.fullmatch(host) for host in hosts.split(",")]
    found = [(pair["ipv6"] or pair["name"], pair["port"] or "") for pair in pairs if pair is not None]
    if len(found) < len(pairs):
        raise ValueError(f"a host or port that is none; write {_ACCEPTED} and {_ESCAPES}")
    return ",".join(name for name, _ in found), ",".join(port for _, port in found)


def _decode(part: str) -> str:
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("a %-escape that is not UTF-8") from None


def _read_query(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        given, _, value = pair.partition("=")
        name = _OTHER_NAMES.get(given, given)
        if not re.fullmatch(r"[A-Za-z_]{1,40}", name):
            raise ValueError(f"a parameter that has no name; write {_ACCEPTED}?name=value and {_ESCAPES}")
        if name in found:
            raise ValueError(f"the parameter {name} is given twice")
        found[name] = _decode(value)
    if "sslmode" in found:
        found["sslmode"] = _SSL_WORDS.get(found["sslmode"], found["sslmode"])
    return {name: value for name, value in found.items() if value}


def _with_ports(parameters: dict[str, str]) -> dict[str, str]:
    """One port for each host of a list, since SQLAlchemy knows no default there; a single host may leave it out."""
    hosts, ports = parameters.get("host", "").split(","), parameters.get("port", "").split(",")
    if len(hosts) > 1:
        ports = [port or "5432" for port in (ports * len(hosts) if len(ports) == 1 else ports)]
    if len(ports) != len(hosts):
        raise ValueError("as many ports as hosts, or one for all")
    if not all(_is_port(port) for port in ports if port):
        raise ValueError("a port is a number from 1 to 65535")
    return parameters | ({"port": ",".join(ports)} if any(ports) else {})


def _is_port(text: str) -> bool:
    return _PORT.fullmatch(text) is not None and int(text) in _PORTS
