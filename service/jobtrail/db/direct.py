"""Single statements on connections of the driver that are kept between them, each its own transaction, one round trip.

SQLAlchemy takes about eight times the CPU of such a statement to lend a connection and to take it back.
"""

import asyncio
import contextvars
import re
import time
from collections.abc import Mapping, Sequence
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
        self._texts = {SCHEMA: _PARAMETER.sub(lambda found: f"${self.names.index(found[1]) + 1}", text)}

    def of(self, schema: str) -> str:
        if (text := self._texts.get(schema)) is None:
            text = self._texts[schema] = of_schema(self._texts[SCHEMA], schema)
        return text

    def arguments(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple([values[name] for name in self.names])


def arrays(columns: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any] | None]:
    """The columns of rows that an `unnest` makes: NULL for one that holds nothing else, which is filled up to the same
    (PostgreSQL, "Array Functions"). The driver looks at each value of an array three times.
    """
    return {
        name: None if column and column[0] is None and column.count(None) == len(column) else column
        for name, column in columns.items()
    }


_PARAMETER: Final = re.compile(r"(?<![:\w]):(\w+)")


async def fetch_on(
    connection: AsyncConnection, statement: Statement, schema: str = SCHEMA, /, **values: Any
) -> Sequence[Any]:
    """Rows of a statement as part of what the connection does. `schema` is said where the connection is not ours."""
    return (await connection.exec_driver_sql(statement.of(schema), statement.arguments(values))).all()


async def connect(engine: AsyncEngine) -> "asyncpg.Connection[Any]":
    """A connection that the engine makes, and that is in no pool."""
    made = await engine.raw_connection()
    driver = cast("asyncpg.Connection[Any]", made.driver_connection)
    made.detach()
    return driver


class _Kept(NamedTuple):
    driver: "asyncpg.Connection[Any]"
    since: float


class DirectConnections:
    """`engine` makes them and pools none. What is broken, cancelled or read-only is closed and never used again."""

    def __init__(self, engine: AsyncEngine, schema: str, primary: Primary) -> None:
        self._engine = engine
        self._primary = primary
        self._schema = schema
        self._context = contextvars.copy_context()
        self._idle: list[_Kept] = []
        self._room = asyncio.Semaphore(MOST)
        self._is_closed = False
        self.in_use = 0

    async def fetch(self, statement: Statement, values: Mapping[str, Any], seconds: float) -> Sequence[Any]:
        """The rows of a statement. The connection is broken after `seconds`.

        Raises NotConnectedError: nothing was sent; and as asyncpg does, with no values of a row in the error.
        """
        text, args = statement.of(self._schema), statement.arguments(values)
        until = asyncio.get_running_loop().time() + seconds
        if self._room.locked():
            await self._wait(until)
        else:
            await self._room.acquire()
        self.in_use += 1
        try:
            kept = self._take() or await self._connect(until)
            return await self._fetch(kept, text, args, until)
        finally:
            self.in_use -= 1
            self._room.release()

    async def close(self) -> None:
        """Close what is idle now, and the others when they are given back."""
        self._is_closed = True
        idle, self._idle = self._idle, []
        await asyncio.gather(*(each.driver.close() for each in idle), return_exceptions=True)

    async def _wait(self, until: float) -> None:
        try:
            async with asyncio.timeout_at(until):
                await self._room.acquire()
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

    async def _connect(self, until: float) -> _Kept:
        loop = asyncio.get_running_loop()
        try:
            with connecting():
                async with asyncio.timeout_at(min(until, loop.time() + CONNECTING)):
                    # a connection keeps the context that it was made in, with all that a job or a request had there
                    driver = await loop.create_task(connect(self._engine), context=self._context.copy())
        except NotConnectedError as error:
            self._primary.note(error)
            raise
        return _Kept(driver, time.monotonic())

    async def _fetch(self, kept: _Kept, text: str, args: Sequence[Any], until: float) -> Sequence[Any]:
        driver = kept.driver
        breaking = asyncio.get_running_loop().call_at(until, driver.terminate)
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
