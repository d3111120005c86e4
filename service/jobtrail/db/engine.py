"""The three pools of a process: for grouped single statements, for transactions, and for the job sessions of tasks.

The first two may be one that a host lends. Nothing is built at import.

A connection is lent for so many seconds, whatever becomes of it. A cancellation does not do: SQLAlchemy ends a COMMIT
or a ROLLBACK that it began, however long that takes, and says a goodbye to a connection that was cancelled. So the
connection itself is broken when its time is over. A caller that waits for it then meets a lost connection, and the pool
takes all that are older for lost too.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from opentelemetry import context
from sqlalchemy import Engine, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.pool import AssertionPool, StaticPool

from jobtrail.db.connecting import ISOLATION, Limits, connect, limit_each_transaction
from jobtrail.db.errors import NotConnectedError, follow_the_primary, quote_no_row
from jobtrail.db.host_engine import SPARE, HostEngine, own_engine
from jobtrail.db.job_connection import note_preparation, watch
from jobtrail.db.tables import SCHEMA, keep_to
from jobtrail.errors import SettingsError

GROUPS: Final = 10
"""Connections for single statements: inserts, both claims, ends, cancels, progress, lines, the watch and keys."""


@dataclass(frozen=True)
class Database:
    """`grouped` runs each statement as its own transaction, in one round trip: AUTOCOMMIT and no ping before use,
    so its callers repeat a statement that met a dead connection. `sessions` pings first and commits when told.
    `jobs` is for job sessions, which tasks may hold for minutes: they wait for each other, and nobody else for them.
    `own`: what is closed in the end, and not somebody else's. `schema`: where the statements
    of all but `jobs` are sent; those of tasks are sent as they are.
    """

    grouped: AsyncEngine
    engine: AsyncEngine
    sessions: async_sessionmaker[AsyncSession]
    jobs: AsyncEngine
    own: Sequence[AsyncEngine]
    schema: str = SCHEMA

    @asynccontextmanager
    async def autocommit(self, seconds: float | None = None) -> AsyncIterator[AsyncConnection]:
        """For single statements. Raises NotConnectedError: nothing was sent. `seconds`: LONGEST, unless it is said."""
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
        async with session_of(self.sessions, seconds or LONGEST) as session:
            yield session

    async def dispose(self) -> None:
        """Close what is open; a server that does not answer a goodbye is left without one."""
        for engine in self.own:
            with suppress(TimeoutError):
                await asyncio.wait_for(engine.dispose(), 3)


GROUP_LOCK_TIMEOUT: Final = 0.5
"""Seconds; short, since a row that somebody locked must not hold up the others of its group."""

LOCK_TIMEOUT: Final = 3.0
"""Seconds that a transaction waits for a row; then its caller is told to try again."""

STATEMENT_TIMEOUT: Final = 10.0
"""Seconds after which PostgreSQL ends a statement of ours; those of tasks have no limit of ours."""

LONGEST: Final = 15.0
"""Seconds for a connection, a statement and its commit: what has no answer by then is on a connection that is dead."""

LEASE_LOCK_TIMEOUT: Final = 0.1
"""Seconds; a renewal has no time for a row that somebody locked, and goes round it."""

_LEASES: Final = Limits(LEASE_LOCK_TIMEOUT, STATEMENT_TIMEOUT)
_GROUPED: Final = Limits(GROUP_LOCK_TIMEOUT, STATEMENT_TIMEOUT)
_TRANSACTIONS: Final = Limits(LOCK_TIMEOUT, STATEMENT_TIMEOUT)
_JOBS: Final = Limits(LOCK_TIMEOUT, None, zone=None)


def open_database(url: str, *, pool_size: int = 5, connect_timeout: float = 10, schema: str = SCHEMA) -> Database:
    """The pools for a `postgresql+asyncpg://` URL; connections are made when first used, in `connect_timeout` s.

    `pool_size` counts for transactions and for job sessions, each.
    """
    grouped = connect(url, _GROUPED, connect_timeout, isolation_level="AUTOCOMMIT", pool_size=GROUPS)
    pinged: dict[str, Any] = {"pool_pre_ping": True, "pool_size": pool_size}
    engine = connect(url, _TRANSACTIONS, connect_timeout, **pinged)
    # Whatever the database's default is: above READ COMMITTED a renewal of the lease would fail the end of the job.
    jobs = connect(url, _JOBS, connect_timeout, **pinged, pool_timeout=None, isolation_level=ISOLATION)
    watch(jobs)
    for each in (grouped, engine):
        quote_no_row(each)
        keep_to(each, schema)
    follow_the_primary(grouped, engine)
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    return Database(grouped, engine, sessions, jobs, own=(grouped, engine, jobs), schema=schema)


def open_single(url: str, schema: str = SCHEMA) -> AsyncEngine:
    """One connection, kept, for the thread of the leases. Statements are to be put into `connected`, and repeated:
    without a ping a connection that died is noticed by them.
    """
    single = connect(url, _LEASES, isolation_level="AUTOCOMMIT", pool_size=1)
    quote_no_row(single)
    keep_to(single, schema)
    follow_the_primary(single)
    return single


def lend_database(engine: AsyncEngine, *, pool_size: int = 5, schema: str = SCHEMA) -> Database:
    """Work on a host's engine and in its pool, and leave no trace on a connection: everything is a transaction, READ
    COMMITTED whatever the host's own are, and what is set is set for it alone. So PgBouncer may stand between, in
    transaction mode too. A group takes three more round trips than one of our own does.

    While all `pool_size` connections of the host are in use there are up to SPARE beside them. Job sessions have
    `pool_size` of their own, and are in all else sessions on the host's engine. The engine must have connected once
    before `lend_single` is used in another thread. Raises SettingsError for another driver, and for a pool of one
    connection for everything.
    """
    host = _lendable(engine)
    spare = own_engine(host, pool_size=SPARE, timeout=10)
    grouped, transactions = (
        AsyncEngine(HostEngine(host, spare, shared=True, isolation_level=ISOLATION)) for _ in range(2)
    )
    jobs = AsyncEngine(HostEngine(host, own_engine(host, pool_size=pool_size, timeout=None)))
    watch(jobs)
    note_preparation(jobs)
    for each, limits in ((grouped, _GROUPED), (transactions, _TRANSACTIONS), (jobs, _JOBS)):
        limit_each_transaction(each, limits)
    for each in (grouped, transactions):
        quote_no_row(each)
        keep_to(each, schema)
    follow_the_primary(grouped, transactions)
    sessions = async_sessionmaker(transactions, expire_on_commit=False)
    return Database(grouped, transactions, sessions, jobs, own=(AsyncEngine(spare), jobs), schema=schema)


def lend_single(engine: AsyncEngine, schema: str = SCHEMA) -> AsyncEngine:
    """As `open_single`, connecting as a host's engine does."""
    single = AsyncEngine(own_engine(_lendable(engine), pool_size=1, timeout=10, pre_ping=False))
    limit_each_transaction(single, _LEASES)
    quote_no_row(single)
    keep_to(single, schema)
    follow_the_primary(single)
    return single


def _lendable(engine: object) -> Engine:
    if not isinstance(engine, AsyncEngine):
        raise SettingsError(
            f"engine is {type(engine).__name__}: Jobtrail works on an AsyncEngine, such as create_async_engine("
            '"postgresql+asyncpg://…") makes; or leave `engine` out, and set JOBTRAIL_DATABASE_URL'
        )
    host = engine.sync_engine
    if (host.dialect.name, host.dialect.driver) != ("postgresql", "asyncpg"):
        raise SettingsError(
            f"engine={engine!r:.100}: Jobtrail works on PostgreSQL with asyncpg, and this engine has "
            f"{host.dialect.name} with {host.dialect.driver}: write postgresql+asyncpg:// in its URL; or leave "
            "`engine` out, and set JOBTRAIL_DATABASE_URL"
        )
    if isinstance(host.pool, StaticPool | AssertionPool):
        raise SettingsError(
            f"engine={engine!r:.100}: it has one connection for everything ({type(host.pool).__name__}), and Jobtrail "
            "works beside your requests: leave `poolclass` out where you make it; or leave `engine` out, and set "
            "JOBTRAIL_DATABASE_URL"
        )
    return host


CONNECTING: Final = 8.0
"""Seconds until a connection is there and answers, at most; shorter than what any caller waits."""


@asynccontextmanager
async def connected(engine: AsyncEngine, seconds: float) -> AsyncIterator[AsyncConnection]:
    """What is done within is committed at its end, unless it raises; with AUTOCOMMIT each statement was already.

    Raises NotConnectedError, whatever the server said to who came in: nothing was sent.
    """
    with _limited(seconds) as limit:
        async with limit.connecting, engine.connect() as connection:
            await limit.begin(connection)
            yield connection
            await connection.commit()


@asynccontextmanager
async def session_of(sessions: async_sessionmaker[AsyncSession], seconds: float) -> AsyncIterator[AsyncSession]:
    """A session that is rolled back at its end, if it is not committed within. Raises as `connected`."""
    with _limited(seconds) as limit:
        async with limit.connecting, sessions() as session:
            await limit.begin(await session.connection())
            yield session


@contextmanager
def _limited(seconds: float) -> Iterator["_Limit"]:
    """It holds until the connection was given back."""
    limit = _Limit(seconds)
    try:
        yield limit
    except Exception as error:
        # a host's engine may raise anything here: an error of its driver's, or of the service that lends the password
        if not limit.is_connected:
            raise NotConnectedError(str(error)) from error
        raise
    finally:
        limit.end()


class _Limit:
    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + seconds
        self.connecting: Final = asyncio.timeout_at(min(self._until, self._loop.time() + CONNECTING))
        self._breaking: asyncio.TimerHandle | None = None

    async def begin(self, connection: AsyncConnection) -> None:
        """Where PgBouncer or a host's pool stands between, only the first statement shows that the server answers."""
        if not connection.in_transaction():
            await connection.begin()
        driver: Any = (await connection.get_raw_connection()).driver_connection
        self.connecting.reschedule(None)
        self._breaking = self._loop.call_at(self._until, driver.terminate)

    @property
    def is_connected(self) -> bool:
        return self._breaking is not None

    def end(self) -> None:
        if self._breaking is not None:
            self._breaking.cancel()


def trace_no_more() -> None:
    """From here on instrumentation of the database leaves out what is done in this context, and in copies of it."""
    found = context.set_value(context._SUPPRESS_INSTRUMENTATION_KEY, True)  # noqa: SLF001 - it has no other name
    context.attach(context.set_value("suppress_instrumentation", True, found))  # for older ones


async def clock(session: AsyncSession) -> datetime:
    """The database's time, the only one that jobs go by."""
    found: datetime = (await session.execute(text("SELECT clock_timestamp()"))).scalar_one()
    return found
