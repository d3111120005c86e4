"""The connection beneath a job session: when it was used last, why it broke, and how it takes its leave.

PostgreSQL ends one that is idle for too long; its last words are lost on the way, so the error here has them.
"""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Connection, ExceptionContext, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry

from jobtrail.errors import CommitFailedError


@dataclass(slots=True)
class Use:
    """How one connection is used by one job session. `idle` is in seconds, before the statement that was sent last.

    `error` is what the database refused last, but for what it refused in the wake of that.
    """

    most_idle: timedelta
    ended: float = field(default_factory=time.monotonic)
    idle: float = 0.0
    error: str | None = None


IN_FAILED_TRANSACTION: Final = "25P02"
"""PostgreSQL's answer to every statement after one that failed."""

USE: Final = "jobtrail_use"
"""The execution option of a connection that holds its Use."""


def watch(engine: AsyncEngine) -> None:
    """Note when a connection was used, and tell the one who meets its end why it came."""
    event.listen(engine.sync_engine, "before_cursor_execute", _sent)
    event.listen(engine.sync_engine, "after_cursor_execute", _ended)
    event.listen(engine.sync_engine, "handle_error", _explain)


def note_preparation(engine: AsyncEngine) -> None:
    """Note which connections were given settings after they were made, as a host's events may do: such a one serves a
    single job session, since the reset at its end would take the settings away.
    """
    event.listen(engine.sync_engine.pool, "connect", _look)


_PREPARED: Final = "jobtrail_prepared"

_IS_PREPARED: Final = """
SELECT EXISTS (SELECT FROM pg_settings WHERE source = 'session' AND setting IS DISTINCT FROM reset_val)
"""


def _look(connection: Any, entry: ConnectionPoolEntry) -> None:
    entry.info[_PREPARED] = connection.run_async(lambda driver: driver.fetchval(_IS_PREPARED))


def _sent(connection: Connection, *_: Any) -> None:
    if (use := _use_of(connection)) is not None:
        use.idle = time.monotonic() - use.ended


def _ended(connection: Connection, *_: Any) -> None:
    if (use := _use_of(connection)) is not None:
        use.ended = time.monotonic()


def _explain(context: ExceptionContext) -> CommitFailedError | None:
    use, error = _use_of(context.connection), context.original_exception
    if use is None or getattr(error, "sqlstate", None) == IN_FAILED_TRANSACTION:
        return None
    most = use.most_idle.total_seconds()
    if not isinstance(error, Exception):
        use.error = "a statement was cancelled under way, which ends the session; SET LOCAL statement_timeout does not"
    elif context.is_disconnect and use.idle >= 0.9 * most:  # PostgreSQL began to count a little before
        use.error = (
            f"the job session was idle for {use.idle:.3g} s; PostgreSQL ends one that is idle for longer than the "
            f"lease of {most:g} s; do the slow part first, and open the session after it"
        )
        return CommitFailedError(use.error)
    else:
        use.error = " ".join(str(error).split())
    return None


def _use_of(connection: Connection | None) -> Use | None:
    return None if connection is None else connection.get_execution_options().get(USE)


_PATIENCE: Final = 2.0
"""Seconds that a connection has to take its leave in peace."""


async def leave(connection: AsyncConnection) -> None:
    """Roll back and give the connection back; throw it away when it is broken, busy or silent. Never raises."""
    try:
        async with asyncio.timeout(_PATIENCE):
            await connection.rollback()
            if not connection.invalidated:
                await _reset(connection)
    except Exception:  # noqa: BLE001 - whatever it was: this connection must not be used again
        with suppress(Exception):
            await connection.invalidate()  # this also ends a statement that is under way, with its locks
    with suppress(Exception):
        await connection.close()


async def _reset(connection: AsyncConnection) -> None:
    """Settings, advisory locks and LISTENs of one task are no business of the next."""
    raw = await connection.get_raw_connection()
    if raw.info.get(_PREPARED):
        await connection.invalidate()
    else:
        driver: Any = raw.driver_connection
        await driver.reset()
