"""A connection for so many seconds, whatever becomes of it.

A cancellation does not do: SQLAlchemy ends a COMMIT or a ROLLBACK that it began, however long that takes, and says a
goodbye to a connection that was cancelled. So the connection itself is broken when its time is over. Whoever waits for
it then meets a lost connection, and the pool takes all that are older for lost too.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker

from jobtrail.store.faults import NotConnectedError

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
