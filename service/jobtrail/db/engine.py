"""The three pools of a process: for grouped single statements, for transactions, and for the job sessions of tasks.

Nothing is built at import. On a host's engine they are made by `host_engine`.

Directly, the limits and the zone of a session are settings of its connection. Behind PgBouncer in transaction mode each
transaction may be on another connection of the server, so both are set anew in each, everything is a transaction, and
no prepared statement has a name that another client could meet (PgBouncer 1.21 and later keep names apart, older ones
do not).

A connection is lent for so many seconds, whatever becomes of it. A cancellation does not do: SQLAlchemy ends a COMMIT
or a ROLLBACK that it began, however long that takes, and says a goodbye to a connection that was cancelled. So the
connection itself is broken when its time is over. A caller that waits for it then meets a lost connection, and the pool
takes all that are older for lost too.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

from opentelemetry import context
from sqlalchemy import Connection, event, make_url, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import NullPool

from jobtrail.db.direct import CONNECTING, MOST, RECYCLE, DirectConnections, Statement, fetch_on
from jobtrail.db.errors import NotConnectedError, Primary, quote_no_row
from jobtrail.db.hints import Hints
from jobtrail.db.job_connection import watch
from jobtrail.db.tables import SCHEMA, keep_to
from jobtrail.db.url import POOLER
from jobtrail.task.storable import dump

GROUPS: Final = 10
"""Connections for single statements: inserts, claims, outcomes, reads, cancels, progress, lines, the watch and keys.
Of ours, MOST are those of `DirectConnections`.
"""

READERS: Final = 2
"""Connections of these for reading single jobs: many who ask at once must not hold up claims and outcomes."""

LOCK_TIMEOUT: Final = 3.0
"""Seconds that a transaction waits for a row; then its caller gets an error that says to try again."""

STATEMENT_TIMEOUT: Final = 10.0
"""Seconds after which PostgreSQL ends a statement of ours; those of tasks have no limit of ours."""

LONGEST: Final = 15.0
"""Seconds for a connection, a statement and its commit: what has no answer by then is on a connection that is dead."""

ISOLATION: Final = "READ COMMITTED"


BY_INDEX: Final = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "jit": "off",
}
"""For statements whose text leaves one index: planned once for a connection, which may be when the table is small or
its statistics are old. Triggers inherit it, so it must leave them their hash joins.
"""


class Limits(NamedTuple):
    """In seconds; None leaves the server's own. `zone`: of the session; None leaves what the database, the role or the
    host says. Sessions of ours are in UTC: `timestamptz + interval` goes by the days of the session's zone, and where
    its clock changes a day has 23 hours. `planner`: more settings.
    """

    lock: float
    statement: float | None = STATEMENT_TIMEOUT
    zone: str | None = "UTC"
    planner: Mapping[str, str] = MappingProxyType({})

    @property
    def settings(self) -> dict[str, str]:
        found = {"lock_timeout": f"{int(self.lock * 1000)}ms", **self.planner}
        if self.statement is not None:
            found["statement_timeout"] = f"{int(self.statement * 1000)}ms"
        return found if self.zone is None else {**found, "TimeZone": self.zone}


FOR_LEASES: Final = Limits(0.1, planner=BY_INDEX)
"""A renewal has no time for a row that somebody locked, and goes round it."""

FOR_GROUPS: Final = Limits(0.5, planner=BY_INDEX)
"""A row that somebody locked must not hold up the others of its group."""

FOR_TRANSACTIONS: Final = Limits(LOCK_TIMEOUT, planner={"jit": "off"})
"""Statements of few rows, which PostgreSQL may take for millions: to compile one takes longer than to run it."""

FOR_JOBS: Final = Limits(LOCK_TIMEOUT, None, None)


@dataclass(frozen=True)
class Database:
    """`grouped` runs each statement as its own transaction, in one round trip: AUTOCOMMIT and no ping before use,
    so its callers repeat a statement that met a dead connection. `sessions` pings first and commits when told.
    `jobs` is for job sessions, which tasks may hold for minutes: only they wait for each other.
    `own`: what is closed in the end, and not a host's. `schema`: where the statements of all but `jobs` are sent; those
    of tasks are sent as they are. `direct`: a quicker way for the single statements of `fetch`; none on a host's engine
    and behind PgBouncer, where each is a transaction with its limits. `readers`: who reads single jobs takes no
    connection that claims and outcomes wait for. `is_pooled`: PgBouncer stands between. `primary` counts errors.
    """

    grouped: AsyncEngine
    engine: AsyncEngine
    sessions: async_sessionmaker[AsyncSession]
    jobs: AsyncEngine
    own: Sequence[AsyncEngine]
    schema: str = SCHEMA
    direct: DirectConnections | None = None
    readers: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(READERS))
    is_pooled: bool = False
    primary: Primary = field(default_factory=Primary)

    @cached_property
    def hints(self) -> Hints:
        return Hints(self.fetch, f"{self.schema}.jobs")

    async def fetch(self, statement: Statement, seconds: float | None = None, /, **values: Any) -> Sequence[Any]:
        """The rows of one statement, committed when this returns. `seconds` and errors as of `autocommit`, or the
        driver's own.
        """
        if self.direct is not None:
            return await self.direct.fetch(statement, values, seconds or LONGEST)
        async with self.autocommit(seconds) as connection:
            return await fetch_on(connection, statement, **values)

    @asynccontextmanager
    async def autocommit(self, seconds: float | None = None) -> AsyncIterator[AsyncConnection]:
        """For single statements. Raises NotConnectedError: nothing was sent. `seconds`: LONGEST, unless it is given."""
        async with connected(self.grouped, seconds or LONGEST) as connection:
            yield connection

    @asynccontextmanager
    async def transaction(self, seconds: float | None = None) -> AsyncIterator[AsyncSession]:
        """It commits at its end. Raises as `autocommit`."""
        async with self.reading(seconds) as session:
            yield session
            await session.commit()

    @asynccontextmanager
    async def reading(self, seconds: float | None = None) -> AsyncIterator[AsyncSession]:
        """It is rolled back at its end. Raises as `autocommit`."""
        async with _limited(self.sessions(), seconds or LONGEST) as session:
            yield session

    async def dispose(self) -> None:
        """Close what is open; a server that does not answer a goodbye is left without one."""
        await self.hints.close()
        if self.direct is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.direct.close(), 3)
        for engine in self.own:
            with suppress(TimeoutError):
                await asyncio.wait_for(engine.dispose(), 3)


def open_database(url: str, *, pool_size: int = 5, connect_timeout: float = 10, schema: str = SCHEMA) -> Database:
    """The pools for a `postgresql+asyncpg://` URL; connections are made when first used, in `connect_timeout` s.

    `pool_size` counts for transactions and for job sessions, each.
    """
    others = GROUPS if is_pooled(url) else GROUPS - MOST
    grouped = _connect(url, FOR_GROUPS, connect_timeout, isolation_level="AUTOCOMMIT", pool_size=others)
    pinged: dict[str, Any] = {"pool_pre_ping": True, "pool_size": pool_size}
    engine = _connect(url, FOR_TRANSACTIONS, connect_timeout, **pinged)
    # Whatever the database's default is: above READ COMMITTED a renewal of the lease would fail the end of the job.
    jobs = _connect(url, FOR_JOBS, connect_timeout, **pinged, pool_timeout=None, isolation_level=ISOLATION)
    watch(jobs)
    primary = take_for_ours(schema, grouped, engine)
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    own, direct = [grouped, engine, jobs], None
    if not is_pooled(url):
        unpooled = _connect(url, FOR_GROUPS, connect_timeout, isolation_level="AUTOCOMMIT", poolclass=NullPool)
        own, direct = [*own, unpooled], DirectConnections(unpooled, schema, primary)
    pooled = is_pooled(url)
    return Database(grouped, engine, sessions, jobs, own, schema, direct, is_pooled=pooled, primary=primary)


def open_single(url: str, schema: str = SCHEMA) -> AsyncEngine:
    """One connection, kept, for the thread of the leases. Statements are to be put into `connected`, and repeated:
    without a ping a connection that died is noticed by them.
    """
    single = _connect(url, FOR_LEASES, isolation_level="AUTOCOMMIT", pool_size=1)
    take_for_ours(schema, single)
    return single


def take_for_ours(schema: str, *engines: AsyncEngine) -> Primary:
    """Send the statements of these engines to the tables of `schema`, show no rows in their errors, and leave old
    connections after a failover.
    """
    for engine in engines:
        quote_no_row(engine)
        keep_to(engine, schema)
    primary = Primary()
    primary.follow(*engines)
    return primary


def _connect(url: str, limits: Limits, connect_timeout: float = 10, **options: Any) -> AsyncEngine:
    """An engine for a `postgresql+asyncpg://` URL, as `DatabaseUrl.sqlalchemy` has it; `options` are the engine's."""
    settings = _name(url)
    arguments: dict[str, Any] = {"timeout": connect_timeout, "server_settings": settings}
    if is_pooled(url):
        arguments |= _UNNAMED
        options["isolation_level"] = ISOLATION
    else:
        settings |= limits.settings
        settings["default_transaction_isolation"] = ISOLATION.lower()  # AUTOCOMMIT's implicit ones have the session's
    shared: dict[str, Any] = {
        "connect_args": arguments,
        "json_serializer": dump,
        "hide_parameters": True,  # an error is logged with its text, and args may be secrets
    }
    if "poolclass" not in options:
        shared |= {"pool_timeout": 10, "max_overflow": 0, "pool_recycle": RECYCLE}
    engine = create_async_engine(_direct(url), **shared | options)
    if is_pooled(url):
        limit_each_transaction(engine, limits)
    return engine


def connect_once(url: str, **options: Any) -> AsyncEngine:
    """For migrations, and for making databases: without a pool, and without limits."""
    options.setdefault("isolation_level", ISOLATION)  # who waited for another that migrates sees what that one did
    if is_pooled(url):
        options["connect_args"] = {"timeout": 10, "server_settings": _name(url), **_UNNAMED}
    return create_async_engine(_direct(url), poolclass=NullPool, **options)


def is_pooled(url: str) -> bool:
    """Whether PgBouncer stands between."""
    return POOLER in make_url(url).query


def _direct(url: str) -> Any:
    return make_url(url).difference_update_query([POOLER])


def _name(url: str) -> dict[str, str]:
    """The application_name of ours; the one that the URL has is kept."""
    return {} if "application_name=" in str(make_url(url).query.get("dsn", "")) else {"application_name": "jobtrail"}


_UNNAMED: Final = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": str,  # the unnamed statement, which the next one replaces
}


def limit_each_transaction(engine: AsyncEngine, limits: Limits) -> None:
    """Say how each transaction of this engine begins, and of no other on the same pool."""
    settings = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in limits.settings.items())

    def begin(connection: Connection) -> None:
        # here, since of two engines that set it by their options the outer one's does not count
        raw: Any = connection.connection.dbapi_connection
        connection.dialect.set_isolation_level(raw, ISOLATION)
        connection.exec_driver_sql(f"SELECT {settings}")

    event.listen(engine.sync_engine, "begin", begin)


@asynccontextmanager
async def connected(engine: AsyncEngine, seconds: float) -> AsyncIterator[AsyncConnection]:
    """A connection whose work is committed at its end, unless it raises; with AUTOCOMMIT each statement was already.

    Raises NotConnectedError, whatever the server said before the first statement: nothing was sent.
    """
    async with _limited(engine.connect(), seconds) as connection:
        yield connection
        await connection.commit()


_Lent = TypeVar("_Lent", bound=AsyncConnection | AsyncSession)


@asynccontextmanager
async def _limited(lent: _Lent, seconds: float) -> AsyncIterator[_Lent]:
    """The limit holds until the connection was given back."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    breaking: asyncio.TimerHandle | None = None
    driver: Any = None
    try:
        async with asyncio.timeout_at(min(until, loop.time() + CONNECTING)) as connecting, lent:
            connection = await lent.connection() if isinstance(lent, AsyncSession) else lent
            if not connection.in_transaction():  # through a pooler only the first statement shows that a server answers
                await connection.begin()
            driver = (await connection.get_raw_connection()).driver_connection
            connecting.reschedule(None)
            # one that was given back a moment ago is already another's
            breaking = loop.call_at(until, lambda: None if connection.closed else driver.terminate())
            yield lent
    except Exception as error:
        # a host's engine may raise anything here: an error of its driver's, or of the service that lends the password
        if breaking is None:
            raise NotConnectedError(str(error)) from error
        if isinstance(error, AttributeError) and driver.is_closed():  # asyncpg's own, in the midst of a statement
            raise ConnectionResetError("the database did not answer in time") from error
        raise
    finally:
        if breaking is not None:
            breaking.cancel()


def trace_no_more() -> None:
    """From here on instrumentation of the database leaves out what is done in this context, and in copies of it."""
    found = context.set_value(context._SUPPRESS_INSTRUMENTATION_KEY, True)  # noqa: SLF001 - it has no other name
    context.attach(context.set_value("suppress_instrumentation", True, found))  # for older ones


async def clock(session: AsyncSession) -> datetime:
    """The database's time, the only one that jobs go by."""
    found: datetime = (await session.execute(text("SELECT clock_timestamp()"))).scalar_one()
    return found
