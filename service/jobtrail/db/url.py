"""One database URL in the three forms that its readers understand: SQLAlchemy with asyncpg, psql, and a log line.

It is read by libpq's rules (PostgreSQL's manual, "Connection URIs"); a `+` in the query is a plus. SQLAlchemy hands
each parameter of the query to `asyncpg.connect` as a keyword: there the mode of TLS is named `ssl`, and what asyncpg
reads only from a URI of its own travels inside `dsn`, which the other keywords overrule.

No message repeats more of the text than a scheme or a parameter's name: what cannot be taken apart may be a password.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote

from jobtrail.errors import SettingsError

POOLER: Final = "pgbouncer"
"""The parameter that tells, by `true`, that PgBouncer stands between, in transaction mode."""

# fmt: off
_PLACE: Final = frozenset({"user", "password", "host", "port", "dbname"})
_IN_DSN: Final = frozenset({
    "application_name", "options", "passfile", "service", "target_session_attrs", "krbsrvname", "gsslib",
    "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "sslnegotiation",
    "ssl_min_protocol_version", "ssl_max_protocol_version",
})
_PSQL_ONLY: Final = frozenset({
    "connect_timeout", "channel_binding", "gssencmode", "client_encoding", "fallback_application_name",
    "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
    "sslcompression", "sslsni",
})
# What some object mapper or other driver reads: its own pool, and where its own tables lie.
_OTHERS: Final = frozenset({
    "connection_limit", "pool_timeout", "socket_timeout", "statement_cache_size", "max_idle_connection_lifetime",
    "schema", "supa", "uselibpqcompat",
})
# fmt: on
_SQLALCHEMY_ONLY: Final = frozenset({"prepared_statement_cache_size", POOLER})
_SECRETS: Final = frozenset({"password", "sslpassword"})
_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

_OTHER_NAMES: Final = {"database": "dbname", "ssl": "sslmode"}
_SSL_WORDS: Final = {"true": "require", "false": "disable"}

_FIXES: Final = {
    "sslaccept": "is Prisma's: write sslmode=verify-full for strict, sslmode=require for accept_invalid_certs",
    "sslidentity": "is Prisma's: write sslcert and sslkey",
    "pool_mode": "is PgBouncer's: write pgbouncer=true for transaction mode, and nothing for session mode",
    "sslmode=no-verify": "is another driver's: write sslmode=require, which is the same",
    "sslrootcert=system": "is not for asyncpg: write the name of a file, such as /etc/ssl/certs/ca-certificates.crt",
    "gssencmode=require": "is not for asyncpg, which cannot encrypt by GSSAPI: leave it out and use sslmode",
    "channel_binding=require": (
        "is not for asyncpg, which cannot bind channels: leave it out; to know that the server is who it says, write "
        "sslmode=verify-full with its sslrootcert"
    ),
}
"""What is said of parameters, and of their values, that other programs read."""

_ACCEPTED: Final = "postgresql://user:password@host:5432/database"
_ESCAPES: Final = (
    "in a user, password or database name write @ as %40, / as %2F, : as %3A, ? as %3F, # as %23, % as %25"
)


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """`shown` has no password and is the only form for logs. `connect_timeout`, in seconds, cannot ride in the URL
    of SQLAlchemy: pass it as `connect_args={"timeout": ...}`; None leaves the driver's own. Behind PgBouncer
    `sqlalchemy` keeps `pgbouncer=true`, which only `db/engine.py` understands.
    """

    sqlalchemy: str = field(repr=False)
    libpq: str = field(repr=False)
    shown: str
    connect_timeout: int | None
    files: Sequence[tuple[str, str]] = ()
    """The files that it names, each with its parameter."""


def normalize(url: str, variable: str = "JOBTRAIL_DATABASE_URL") -> DatabaseUrl:
    """Raises SettingsError, which names `variable` and the fix and never repeats what could be a password."""
    try:
        parameters = {name: value for name, value in read_uri(url.strip()).items() if name not in _OTHERS}
        for name, value in parameters.items():
            _check(name, value)
    except ValueError as wrong:
        raise SettingsError(f"{variable}: {wrong}") from None
    for_sqlalchemy = {
        name: value for name, value in parameters.items() if name in _SQLALCHEMY_ONLY and value != "false"
    }
    if "sslmode" in parameters:
        for_sqlalchemy["ssl"] = parameters["sslmode"]
    if in_dsn := {name: value for name, value in parameters.items() if name in _IN_DSN}:
        for_sqlalchemy["dsn"] = "postgresql://" + _query(in_dsn)
    for_psql = {name: value for name, value in parameters.items() if name not in _PLACE | _SQLALCHEMY_ONLY}
    return DatabaseUrl(
        sqlalchemy=_render("postgresql+asyncpg", parameters, for_sqlalchemy),
        libpq=_render("postgresql", parameters, for_psql),
        shown=_render("postgresql", _masked(parameters), _masked(for_psql)),
        connect_timeout=int(parameters.get("connect_timeout", "0")) or None,
        files=tuple((name, parameters[name]) for name in _FILES if name in parameters),
    )


def read_uri(uri: str) -> dict[str, str]:
    """The parameters of a URL, decoded, under libpq's names; the query overrides what stands before it.

    A list of hosts has as many ports, in `host` and `port`, both separated by commas. Raises ValueError with the fix.
    """
    scheme, separator, _ = uri.partition("://")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        raise ValueError(f"not a URL; write {_ACCEPTED}")
    if scheme.lower() not in {"postgres", "postgresql", "postgresql+asyncpg"}:
        of_another = scheme.lower().startswith(("postgres+", "postgresql+"))
        reason = "names another driver, and Jobtrail brings asyncpg" if of_another else "is not PostgreSQL"
        raise ValueError(f"{scheme}:// {reason}; write {_ACCEPTED}")
    if re.search(r"[\s\x00-\x1f#]|%(?![0-9A-Fa-f]{2})|%00", uri):
        raise ValueError(f"a space, a # or a lone % inside; {_ESCAPES}")
    parts = _URI.fullmatch(uri)
    if parts is None:
        raise ValueError(f"not to be taken apart; write {_ACCEPTED} and {_ESCAPES}")
    hosts = [_HOST.fullmatch(host) for host in parts["hosts"].split(",")]
    if None in hosts:
        raise ValueError(f"a host or port that is none; write {_ACCEPTED} and {_ESCAPES}")
    user, _, password = (parts["login"] or "").partition(":")
    found = {
        "user": user,
        "password": password,
        "host": ",".join(host["ipv6"] or host["name"] for host in hosts if host),
        "port": ",".join(host["port"] or "" for host in hosts if host),
        "dbname": parts["database"] or "",
    }
    decoded = {name: _decode(value) for name, value in found.items() if value} | _read_query(parts["query"] or "")
    return decoded | _ports(decoded)


_URI: Final = re.compile(
    r"[^:]*://(?:(?P<login>[^/?]*)@)?(?P<hosts>[^/?@]*)(?:/(?P<database>[^?@/]*))?(?:\?(?P<query>[^@]*))?"
)
_HOST: Final = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<name>[^:\[\]]*))(?::(?P<port>[0-9]*))?")


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


def _decode(part: str) -> str:
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("a %-escape that is not UTF-8") from None


def _ports(parameters: Mapping[str, str]) -> dict[str, str]:
    """One for each host of a list, since SQLAlchemy knows no default there; a single host may leave it out."""
    hosts, ports = parameters.get("host", "").split(","), parameters.get("port", "").split(",")
    if len(hosts) > 1:
        ports = [port or "5432" for port in (ports * len(hosts) if len(ports) == 1 else ports)]
    if len(ports) != len(hosts):
        raise ValueError("as many ports as hosts, or one for all")
    if not all(re.fullmatch("[0-9]{1,5}", port) and 1 <= int(port) <= 65535 for port in ports if port):  # noqa: PLR2004
        raise ValueError("a port is a number from 1 to 65535")
    return {"port": ",".join(ports)} if any(ports) else {}


def _check(name: str, value: str) -> None:
    for written in (name, f"{name}={value}"):
        if written in _FIXES:
            raise ValueError(f"{written} {_FIXES[written]}")
    if name not in _PLACE | _IN_DSN | _PSQL_ONLY | _SQLALCHEMY_ONLY | {"sslmode"}:
        raise ValueError(f"the parameter {name} is unknown; a setting of the server goes in options=-c%20name%3Dvalue")
    if name == "sslmode" and value not in _SSL_MODES:
        raise ValueError(f"sslmode is one of {', '.join(_SSL_MODES)}")
    if name == POOLER and value not in ("true", "false"):
        raise ValueError(f"{POOLER} is true, for PgBouncer in transaction mode, or false")
    if name in ("prepared_statement_cache_size", "connect_timeout") and not re.fullmatch("[0-9]{1,9}", value):
        raise ValueError(f"{name} is a whole number")


def _masked(parameters: Mapping[str, str]) -> dict[str, str]:
    return {name: "***" if name in _SECRETS else value for name, value in parameters.items()}


def _render(scheme: str, place: Mapping[str, str], query: Mapping[str, str]) -> str:
    """A single plain host stands before the slash; a socket folder or a list goes in the query, which all read."""
    host, port = place.get("host", ""), place.get("port", "")
    where = ""
    if re.fullmatch(r"[A-Za-z0-9._:-]+", host):
        where = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    else:
        query = {name: value for name, value in (("host", host), ("port", port)) if value} | dict(query)
    login = quote(place.get("user", ""), safe="")
    if "password" in place:
        login += ":" + quote(place["password"], safe="*")
    return f"{scheme}://{login}{'@' if login else ''}{where}/{quote(place.get('dbname', ''), safe='')}{_query(query)}"


def _query(parameters: Mapping[str, str]) -> str:
    text = "&".join(f"{name}={quote(value, safe='/*')}" for name, value in parameters.items())
    return f"?{text}" if text else ""
