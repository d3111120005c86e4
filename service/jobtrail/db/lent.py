"""Engines of ours that connect as a host's own does: to its database, in its way, with what it does on connecting."""

from typing import Any, Final

from sqlalchemy import Engine
from sqlalchemy.engine.base import OptionEngine
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import AsyncAdaptedQueuePool, Pool, QueuePool

from jobtrail.db.connecting import ISOLATION

SPARE: Final = 3
"""Connections for when a host has all of its own in use. Requests that each hold one while their jobs are stored would
otherwise wait for each other, and jobs could not end while a host is busy.
"""


class Lent(OptionEngine):
    """The host's engine, for as long as its pool has room; connections of `spare` when it has none."""

    def __init__(self, host: Engine, spare: Engine) -> None:
        self._spare = spare
        super().__init__(host, {"isolation_level": ISOLATION})
        self.hide_parameters = True

    @property
    def pool(self) -> Pool:  # type: ignore[override]  # it is asked for each connection
        pool: Pool = self._proxied.pool
        return self._spare.pool if _is_full(pool) else pool


def _is_full(pool: Any) -> bool:
    """Whether who wants a connection would have to wait for one."""
    if not isinstance(pool, QueuePool):
        return False
    most = pool._max_overflow  # noqa: SLF001 - its `overflow()` tells how many there are, not how many there may be
    return most >= 0 and pool.checkedout() >= pool.size() + most


def like(host: Engine, *, pool_size: int) -> AsyncEngine:
    """For the tasks of the host: with its options and its events, so that what it does with each statement and
    transaction, such as tracing them, holds here too. Who wants a connection waits however long.
    """
    engine = beside(host, pool_size=pool_size, timeout=None)
    engine.dispatch = engine.dispatch._join(host.dispatch)  # noqa: SLF001 - as an engine with other options has them
    engine.update_execution_options(**host.get_execution_options())
    return AsyncEngine(engine)


def beside(host: Engine, *, pool_size: int, timeout: float | None, pre_ping: bool = True) -> Engine:
    """With a pool of its own; `timeout` in seconds, None waits however long. Its errors quote no parameter, whatever
    the host's do.
    """
    theirs: Any = host.pool
    pool = AsyncAdaptedQueuePool(
        theirs._creator,  # noqa: SLF001 - `recreate`, the public way, makes one of the same size and patience
        pool_size=pool_size,
        max_overflow=0,
        timeout=timeout,  # type: ignore[arg-type]  # None is what its queue understands
        recycle=theirs._recycle,  # noqa: SLF001 - the same
        pre_ping=pre_ping,
        dialect=host.dialect,
        _dispatch=theirs.dispatch,
    )
    return Engine(pool, host.dialect, host.url, echo=host.echo, hide_parameters=True)
