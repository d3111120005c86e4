"""Work on a host's engine: in its pool while that has room, else on connections of ours that are made as its are."""

from typing import Any, Final, cast

from sqlalchemy import Engine
from sqlalchemy.engine.base import OptionEngine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.pool import AssertionPool, AsyncAdaptedQueuePool, ConnectionPoolEntry, Pool, QueuePool, StaticPool

from jobtrail.db import engine as ours
from jobtrail.db.direct import RECYCLE
from jobtrail.db.job_connection import note_preparation, watch
from jobtrail.db.tables import SCHEMA
from jobtrail.errors import SettingsError

SPARE: Final = 3
"""Connections for when a host has all of its own in use. Requests that each hold one while their jobs are stored would
otherwise wait for each other, and jobs could not end while a host is busy.
"""


def lend_database(engine: AsyncEngine, *, pool_size: int = 5, schema: str = SCHEMA) -> ours.Database:
    """Work on a host's engine and in its pool, and leave no trace on a connection: everything is a transaction, READ
    COMMITTED whatever the host's own are, and what is set is set for it alone. So PgBouncer may stand between, in
    transaction mode too. A group takes three more round trips than one of our own does.

    While all `pool_size` connections of the host are in use there are up to SPARE beside them. Job sessions have
    `pool_size` of their own, and are in all else sessions on the host's engine. The engine must have connected once
    before `lend_single` is used in another thread. Raises SettingsError for another driver, and for a pool of one
    connection for everything.
    """
    host = _lendable(engine)
    spare = _own_engine(host, pool_size=SPARE, timeout=10)
    grouped, transactions = (
        AsyncEngine(_HostEngine(host, spare, shared=True, isolation_level=ours.ISOLATION)) for _ in range(2)
    )
    jobs = AsyncEngine(_HostEngine(host, _own_engine(host, pool_size=pool_size, timeout=None)))
    watch(jobs)
    note_preparation(jobs)
    limits = ((grouped, ours.FOR_GROUPS), (transactions, ours.FOR_TRANSACTIONS), (jobs, ours.FOR_JOBS))
    for each, limit in limits:
        ours.limit_each_transaction(each, limit)
    primary = ours.take_for_ours(schema, grouped, transactions)
    sessions = async_sessionmaker(transactions, expire_on_commit=False)
    own = (AsyncEngine(spare), jobs)
    return ours.Database(grouped, transactions, sessions, jobs, own=own, schema=schema, primary=primary)


def lend_single(engine: AsyncEngine, schema: str = SCHEMA) -> AsyncEngine:
    """As `open_single`, connecting as a host's engine does."""
    single = AsyncEngine(_own_engine(_lendable(engine), pool_size=1, timeout=10, pre_ping=False))
    ours.limit_each_transaction(single, ours.FOR_LEASES)
    ours.take_for_ours(schema, single)
    return single


def _lendable(engine: object) -> Engine:
    if not isinstance(engine, AsyncEngine):
        raise SettingsError(
            f"engine is {type(engine).__name__}: Jobtrail works on an AsyncEngine, such as create_async_engine("
            f'"postgresql+asyncpg://…") makes; {_OR}'
        )
    host = engine.sync_engine
    if (host.dialect.name, host.dialect.driver) != ("postgresql", "asyncpg"):
        raise SettingsError(
            f"engine={engine!r:.100}: Jobtrail works on PostgreSQL with asyncpg, and this engine has "
            f"{host.dialect.name} with {host.dialect.driver}: write postgresql+asyncpg:// in its URL; {_OR}"
        )
    if isinstance(host.pool, StaticPool | AssertionPool):
        raise SettingsError(
            f"engine={engine!r:.100}: it has one connection for everything ({type(host.pool).__name__}), and Jobtrail "
            f"works beside your requests: leave `poolclass` out where you make it; {_OR}"
        )
    return host


_OR: Final = "or leave `engine` out, and set JOBTRAIL_DATABASE_URL"


class _HostEngine(OptionEngine):
    """The host's engine with its events and options, on other pools: the host's own (`shared`) for as long as that has
    room, and the pool of `own`. Its errors quote no parameters, whatever the host's do.
    """

    def __init__(self, host: Engine, own: Engine, *, shared: bool = False, **options: Any) -> None:
        self._host: Final = host
        self._own: Final = own
        self._shared: Final = shared
        super().__init__(host, options)
        self.hide_parameters = True

    @property
    def pool(self) -> Pool:  # asked for each connection
        theirs = self._host.pool
        return theirs if self._shared and _has_room(theirs) else self._own.pool

    @pool.setter
    def pool(self, pool: Pool) -> None:
        self._own.pool = pool


def _has_room(pool: Pool) -> bool:
    """Whether one of its kept connections is free; what may overflow is left to the host. A size of 0 is no limit."""
    return not isinstance(pool, QueuePool) or not pool.size() or pool.checkedout() < pool.size()


def _own_engine(host: Engine, *, pool_size: int, timeout: float | None, pre_ping: bool = True) -> Engine:
    """An engine without the host's events, whose connections are made as the host's are. `timeout` in seconds; None
    waits however long.
    """

    def connect(rec: ConnectionPoolEntry) -> DBAPIConnection:
        """Take one out of a pool like the host's, where its arguments are known and its `connect` events are heard."""
        theirs = host.pool.recreate().connect()
        rec.info.update(theirs.info)
        theirs.detach()
        return cast("DBAPIConnection", theirs.dbapi_connection)

    pool = AsyncAdaptedQueuePool(
        connect,
        pool_size=pool_size,
        max_overflow=0,
        timeout=timeout,  # type: ignore[arg-type]  # None is what its queue understands
        recycle=RECYCLE,
        pre_ping=pre_ping,
        dialect=host.dialect,
    )
    return Engine(pool, host.dialect, host.url, echo=host.echo, hide_parameters=True)
