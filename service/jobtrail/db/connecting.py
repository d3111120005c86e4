"""How a connection to a database of our own is made, and what limits it has: directly, or through PgBouncer.

Directly the limits and the zone are settings of the connection. Behind PgBouncer in transaction mode each transaction
may be on another connection of the server, so both are said anew in each, everything is a transaction, and no prepared
statement has a name that somebody else could meet (PgBouncer 1.21 and later keep names apart, older ones do not).
"""

from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from jobtrail.db.url import POOLER
from jobtrail.task.storable import dump

ISOLATION: Final = "READ COMMITTED"

_RECYCLE: Final = 1800
"""Seconds after which a connection is made anew, so that none leads for ever to where the URL once led."""

UTC: Final = "UTC"
"""Of every session but those of tasks: `timestamptz + interval` goes by the days of the session's zone, and where its
clock changes a day has 23 hours.
"""


class Limits(NamedTuple):
    """In seconds; None leaves the server's own. `zone`: of the session; None leaves what the database, the role or the
    host says.
    """

    lock: float
    statement: float | None
    zone: str | None = UTC


def connect(url: str, limits: Limits, connect_timeout: float = 10, **options: Any) -> AsyncEngine:
    """An engine for a `postgresql+asyncpg://` URL, as `DatabaseUrl.sqlalchemy` has it; `options` are the engine's."""
    shared: dict[str, Any] = {
        "json_serializer": dump,
        "pool_timeout": 10,
        "max_overflow": 0,
        "pool_recycle": _RECYCLE,
        "hide_parameters": True,  # an error is logged with its text, and args may be secrets
        **options,
    }
    if not is_pooled(url):
        settings = {**_name(url), "lock_timeout": _ms(limits.lock)}
        settings["default_transaction_isolation"] = ISOLATION.lower()  # AUTOCOMMIT's implicit ones have the session's
        if limits.statement is not None:
            settings["statement_timeout"] = _ms(limits.statement)
        if limits.zone is not None:
            settings["TimeZone"] = limits.zone
        return create_async_engine(
            url, **shared, connect_args={"timeout": connect_timeout, "server_settings": settings}
        )
    shared["isolation_level"] = ISOLATION
    engine = create_async_engine(_direct(url), **shared, connect_args=_unnamed(connect_timeout, url))
    limit_each_transaction(engine, limits)
    return engine


def connect_once(url: str, **options: Any) -> AsyncEngine:
    """For migrations, and for who makes databases: without a pool, and without limits."""
    options.setdefault("isolation_level", ISOLATION)  # who waited for another that migrates sees what that one did
    if is_pooled(url):
        options["connect_args"] = _unnamed(10, url)
    return create_async_engine(_direct(url), poolclass=NullPool, **options)


def is_pooled(url: str) -> bool:
    """Whether PgBouncer stands between."""
    return POOLER in make_url(url).query


def limit_each_transaction(engine: AsyncEngine, limits: Limits) -> None:
    """Say how each transaction of this engine begins, and of no other on the same pool."""
    said = [f"set_config('lock_timeout', '{_ms(limits.lock)}', true)"]
    if limits.statement is not None:
        said.append(f"set_config('statement_timeout', '{_ms(limits.statement)}', true)")
    if limits.zone is not None:
        said.append(f"set_config('TimeZone', '{limits.zone}', true)")
    statement = f"SELECT {', '.join(said)}"

    def begin(connection: Connection) -> None:
        # here, since of two engines that set it by their options the outer one's does not count
        raw: Any = connection.connection.dbapi_connection
        connection.dialect.set_isolation_level(raw, ISOLATION)
        connection.exec_driver_sql(statement)

    event.listen(engine.sync_engine, "begin", begin)


def _direct(url: str) -> Any:
    return make_url(url).difference_update_query([POOLER])


def _name(url: str) -> dict[str, str]:
    """The application_name of ours; the one that the URL has is kept."""
    return {} if "application_name=" in str(make_url(url).query.get("dsn", "")) else {"application_name": "jobtrail"}


def _unnamed(connect_timeout: float, url: str) -> dict[str, Any]:
    return {
        "timeout": connect_timeout,
        "server_settings": _name(url),
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "prepared_statement_name_func": str,  # the unnamed statement, which the next one replaces
    }


def _ms(seconds: float) -> str:
    return f"{int(seconds * 1000)}ms"
