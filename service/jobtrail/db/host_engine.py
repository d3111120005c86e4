"""Work on a host's engine: in its pool while that has room, else on connections of ours that are made as its are."""

from typing import Any, Final, cast

from sqlalchemy import Engine
from sqlalchemy.engine.base import OptionEngine
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry, Pool, QueuePool

SPARE: Final = 3
"""Connections for when a host has all of its own in use. Requests that each hold one while their jobs are stored would
otherwise wait for each other, and jobs could not end while a host is busy.
"""

_RECYCLE: Final = 1800
"""Seconds after which a connection is made anew, so that none leads for ever to where the host's URL once led."""


class HostEngine(OptionEngine):
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


def own_engine(host: Engine, *, pool_size: int, timeout: float | None, pre_ping: bool = True) -> Engine:
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
        recycle=_RECYCLE,
        pre_ping=pre_ping,
        dialect=host.dialect,
    )
    return Engine(pool, host.dialect, host.url, echo=host.echo, hide_parameters=True)
