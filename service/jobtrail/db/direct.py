"""Single statements on connections of the driver that are kept between them, each its own transaction, one round trip.

SQLAlchemy takes about eight times the CPU of such a statement to lend a connection and to take it back.
"""

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, cast

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from jobtrail.db.errors import NotConnectedError, Primary, connecting, hide_row, is_lost
from jobtrail.db.tables import SCHEMA, of_schema

CONNECTING: Final = 8.0
"""Seconds until a connection is there and answers, at most; shorter than what any caller waits."""

RECYCLE: Final = 1800
"""Seconds after which a connection is made anew, so that none leads for ever to where the URL once led."""

MOST: Final = 7
"""Connections: two for inserts, one each for outcomes and the two claims, the others for reading."""


class Statement:
    """SQL whose parameters are written `:name`, and sent as `$1` and so on, which the driver takes as it is."""

    def __init__(self, text: str) -> None:
        self.names: Final = tuple(dict.fromkeys(_PARAMETER.findall(text)))
        self._text = _PARAMETER.sub(lambda found: f"${self.names.index(found[1]) + 1}", text)

    @lru_cache(maxsize=4)  # noqa: B019 - statements are few, and live as long as the process
    def of(self, schema: str) -> str:
        return of_schema(self._text, schema)

    def arguments(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple([values[name] for name in self.names])


_PARAMETER: Final = re.compile(r"(?<![:\w]):(\w+)")


async def fetch_on(
    connection: AsyncConnection, statement: Statement, schema: str = SCHEMA, /, **values: Any
) -> Sequence[Any]:
    """Rows of a statement as part of what the connection does. `schema` is said where the connection is not ours."""
    return (await connection.exec_driver_sql(statement.of(schema), statement.arguments(values))).all()


class _Kept(NamedTuple):
    driver: "asyncpg.Connection[Any]"
    since: float


class DirectConnections:
    """`engine` makes them and pools none. What is broken, cancelled or read-only is closed and never used again."""

    def __init__(self, engine: AsyncEngine, schema: str, primary: Primary) -> None:
        self._engine = engine
        self._primary = primary
        self._schema = schema
        self._idle: list[_Kept] = []
        self._room = asyncio.Semaphore(MOST)
        self._is_closed = False
        self.in_use = 0

    async def fetch(self, statement: Statement, values: Mapping[str, Any], seconds: float) -> Sequence[Any]:
        """The rows of a statement. The connection is broken after `seconds`.

        Raises NotConnectedError: nothing was sent; and as asyncpg does, with no values of a row in the error.
        """
        text, args = statement.of(self._schema), statement.arguments(values)
        if self._room.locked():
            await self._wait(seconds)
        else:
            await self._room.acquire()
        self.in_use += 1
        try:
            kept = self._take() or await self._connect(seconds)
            return await self._fetch(kept, text, args, seconds)
        finally:
            self.in_use -= 1
            self._room.release()

    async def close(self) -> None:
        """Close what is idle now, and the others when they are given back."""
        self._is_closed = True
        idle, self._idle = self._idle, []
        await asyncio.gather(*(each.driver.close() for each in idle), return_exceptions=True)

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._room.acquire(), seconds)
        except TimeoutError as error:
            raise NotConnectedError(f"all {MOST} connections are in use") from error

    def _take(self) -> _Kept | None:
        while self._idle:
            kept = self._idle.pop()
            oldest = max(self._primary.moved, time.monotonic() - RECYCLE)
            if not kept.driver.is_closed() and kept.since > oldest:
                return kept
            kept.driver.terminate()
        return None

    async def _connect(self, seconds: float) -> _Kept:
        with connecting():
            async with asyncio.timeout(min(seconds, CONNECTING)):
                lent = await self._engine.raw_connection()
        kept = _Kept(cast("asyncpg.Connection[Any]", lent.driver_connection), time.monotonic())
        lent.detach()
        return kept

    async def _fetch(self, kept: _Kept, text: str, args: Sequence[Any], seconds: float) -> Sequence[Any]:
        driver = kept.driver
        breaking = asyncio.get_running_loop().call_later(seconds, driver.terminate)
        try:
            rows: Sequence[Any] = await driver.fetch(text, *args)
        except Exception as error:
            breaking.cancel()
            self._give_back(kept, error)
            if isinstance(error, AttributeError) and driver.is_closed():  # asyncpg's own, in the midst of a statement
                raise ConnectionResetError("the database did not answer in time") from error
            hide_row(error)
            raise
        except BaseException:  # cancelled: the answer may still be on its way
            breaking.cancel()
            driver.terminate()
            raise
        breaking.cancel()
        self._give_back(kept)
        return rows

    def _give_back(self, kept: _Kept, error: Exception | None = None) -> None:
        if error is not None and (self._primary.note(error) or is_lost(error)):
            for each in (kept, *self._idle):  # where one is lost, so are the others
                each.driver.terminate()
            self._idle.clear()
        elif self._is_closed:
            kept.driver.terminate()
        else:
            self._idle.append(kept)
