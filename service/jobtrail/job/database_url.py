"""One database URL in the three forms that its readers understand: SQLAlchemy with asyncpg, psql, and a log line.

SQLAlchemy hands each parameter of the query to `asyncpg.connect` as a keyword: there the mode of TLS is named `ssl`,
and what asyncpg reads only from a URI of its own travels inside `dsn`, which the other keywords overrule.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from jobtrail.job.errors import SettingsError
from jobtrail.job.libpq_uri import read_uri

_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

_PLACE: Final = frozenset({"user", "password", "host", "port", "dbname"})

# fmt: off — tables of words are read as sentences, not one word a line
_IN_DSN: Final = frozenset(
    {
        "application_name",
        "options",
        "passfile",
        "service",
        "target_session_attrs",
        "krbsrvname",
        "gsslib",
        "sslcert",
        "sslkey",
        "sslpassword",
        "sslrootcert",
        "sslcrl",
        "sslnegotiation",
        "ssl_min_protocol_version",
        "ssl_max_protocol_version",
    }
)
_PSQL_ONLY: Final = frozenset(
    {
        "connect_timeout",
        "channel_binding",
        "gssencmode",
        "client_encoding",
        "fallback_application_name",
        "keepalives",
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_count",
        "tcp_user_timeout",
        "sslcompression",
        "sslsni",
    }
)
# What some object mapper or other driver reads: its own pool, and where its own tables lie.
_OTHERS: Final = frozenset(
    {
        "connection_limit",
        "pool_timeout",
        "socket_timeout",
        "statement_cache_size",
        "max_idle_connection_lifetime",
        "schema",
        "supa",
        "uselibpqcompat",
    }
)
_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
# fmt: on
POOLER: Final = "pgbouncer"
"""The parameter that tells, by `true`, that PgBouncer stands between, in transaction mode."""

_SQLALCHEMY_ONLY: Final = frozenset({"prepared_statement_cache_size", POOLER})
_WHOLE_NUMBERS: Final = frozenset({"prepared_statement_cache_size", "connect_timeout"})
_SECRETS: Final = frozenset({"password", "sslpassword"})

_BEYOND_ASYNCPG: Final = {
    ("channel_binding", "require"): (
        "asyncpg cannot bind channels: leave the parameter out; to know that the server is who it says, write "
        "sslmode=verify-full with its sslrootcert"
    ),
    ("gssencmode", "require"): "asyncpg cannot encrypt by GSSAPI: leave the parameter out and use sslmode",
    ("sslrootcert", "system"): "asyncpg needs the name of a file, such as /etc/ssl/certs/ca-certificates.crt",
}

_MISNAMED: Final = {
    "sslaccept": "is Prisma's: write sslmode=verify-full for strict, sslmode=require for accept_invalid_certs",
    "sslidentity": "is Prisma's: write sslcert and sslkey",
    "pool_mode": "is PgBouncer's: write pgbouncer=true for transaction mode, and nothing for session mode",
}

_PLAIN_HOST: Final = re.compile(r"[A-Za-z0-9._:-]+")


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """`shown` has no password and is the only form for logs. `connect_timeout`, in seconds, cannot ride in the URL
    of SQLAlchemy: pass it as `connect_args={"timeout": ...}`; None leaves the driver's own. Behind PgBouncer
    `sqlalchemy` keeps `pgbouncer=true`, which only `db/connecting.py` understands.
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
    return DatabaseUrl(
        sqlalchemy=_render("postgresql+asyncpg", parameters, _for_sqlalchemy(parameters)),
        libpq=_render("postgresql", parameters, _for_psql(parameters)),
        shown=_render("postgresql", _masked(parameters), _masked(_for_psql(parameters))),
        connect_timeout=int(parameters.get("connect_timeout", "0")) or None,
        files=tuple((name, parameters[name]) for name in _FILES if name in parameters),
    )


def _check(name: str, value: str) -> None:
    if name in _MISNAMED:
        raise ValueError(f"{name} {_MISNAMED[name]}")
    if name not in _PLACE | _IN_DSN | _PSQL_ONLY | _SQLALCHEMY_ONLY | {"sslmode"}:
        raise ValueError(f"the parameter {name} is unknown; a setting of the server goes in options=-c%20name%3Dvalue")
    if (name, value) == ("sslmode", "no-verify"):
        raise ValueError("sslmode=no-verify is another driver's: write sslmode=require, which is the same")
    if name == "sslmode" and value not in _SSL_MODES:
        raise ValueError(f"sslmode is one of {', '.join(_SSL_MODES)}")
    if name == POOLER and value not in ("true", "false"):
        raise ValueError(f"{POOLER} is true, for PgBouncer in transaction mode, or false")
    if name in _WHOLE_NUMBERS and not re.fullmatch("[0-9]{1,9}", value):
        raise ValueError(f"{name} is a whole number")
    if (name, value) in _BEYOND_ASYNCPG:
        raise ValueError(f"{name}={value}: {_BEYOND_ASYNCPG[name, value]}")


def _for_sqlalchemy(parameters: Mapping[str, str]) -> dict[str, str]:
    query = {name: value for name, value in parameters.items() if name in _SQLALCHEMY_ONLY}
    if query.get(POOLER) == "false":
        del query[POOLER]
    if "sslmode" in parameters:
        query["ssl"] = parameters["sslmode"]
    if in_dsn := {name: value for name, value in parameters.items() if name in _IN_DSN}:
        query["dsn"] = "postgresql://" + _query(in_dsn)
    return query


def _for_psql(parameters: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if name not in _PLACE | _SQLALCHEMY_ONLY}


def _masked(parameters: Mapping[str, str]) -> dict[str, str]:
    return {name: "***" if name in _SECRETS else value for name, value in parameters.items()}


def _render(scheme: str, place: Mapping[str, str], query: Mapping[str, str]) -> str:
    """A single plain host stands before the slash; a socket folder or a list goes in the query, which all read."""
    host, port = place.get("host", ""), place.get("port", "")
    where = ""
    if _PLAIN_HOST.fullmatch(host):
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
