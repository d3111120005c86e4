"""Listens for hints that other processes have stored jobs. What it does not hear, the poll finds."""

import asyncio
import logging
import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from jobtrail.db.direct import CONNECTING, connect
from jobtrail.db.engine import Database
from jobtrail.db.errors import connecting, reason
from jobtrail.db.hints import is_echo, queues_of
from jobtrail.db.loop import Loop

log = logging.getLogger(__name__)

_PROVE_EVERY: Final = 30.0
"""Seconds until it proves again that it hears; and between two tries, at most, while the database is away."""

_ECHO_WITHIN: Final = 5.0
"""Seconds."""

_LONGEST_PAUSE: Final = 3600.0
"""Seconds between two tries, at most, where LISTEN has no effect: a pooler in between stays there."""


_NO_EFFECT: Final = "LISTEN has no effect, as behind a pooler in transaction mode"


class Listener:
    """One connection of its own, in no pool. It counts as heard only when its own echo comes back, sent on another
    connection: behind PgBouncer in transaction mode LISTEN raises nothing and hears nothing.

    `make_engine` makes that of its connection. `hear` is called on the loop with the queues that a hint names.
    """

    def __init__(
        self,
        database: Database,
        make_engine: Callable[[], AsyncEngine],
        hear: Callable[[frozenset[str]], None],
        *,
        poll_every: timedelta,
    ) -> None:
        self.loop: Final = Loop("hints", self._listen, every=_PROVE_EVERY)
        self.is_heard: bool | None = None
        self._database = database
        self._hints = database.hints
        self._make_engine = make_engine
        self._hear = hear
        self._poll_every = poll_every.total_seconds()
        self._engine: AsyncEngine | None = None
        self._driver: asyncpg.Connection[Any] | None = None
        self._failed = 0
        self._is_pausing = False
        self._token = ""
        self._echo = asyncio.Event()
        self._is_stopping = False

    def start(self) -> None:
        if self._database.is_pooled:
            self._note(False, "PgBouncer is between")
        else:
            self.loop.start()

    async def stop(self) -> None:
        """Idempotent."""
        self._is_stopping = True
        self._echo.set()
        await self.loop.stop()
        await self._leave()
        if self._engine is not None:
            await self._engine.dispose()

    async def _listen(self) -> None:
        """One tick: connect where it is not connected, then prove that it hears."""
        if self._is_pausing:
            return
        is_new = self._driver is None or self._driver.is_closed()
        try:
            if is_new:
                await self._connect()
            is_heard, why, longest = await self._is_echoed(), _NO_EFFECT, _LONGEST_PAUSE
        except Exception as error:  # noqa: BLE001 - a host's engine may raise anything, and the poll goes on
            is_heard, why, longest = False, reason(error), _PROVE_EVERY
        if not is_heard:
            await self._leave()
            self._failed += 1
            self._pause(longest)
        elif not is_new:  # it has lasted
            self._failed = 0
        self._note(is_heard, why)

    def _pause(self, longest: float) -> None:
        self._is_pausing = True
        asyncio.get_running_loop().call_later(min(2.0 ** min(self._failed, 12), longest), self._try_again)

    def _try_again(self) -> None:
        self._is_pausing = False
        self.loop.wake()

    async def _connect(self) -> None:
        if self._engine is None:
            self._engine = self._make_engine()
        with connecting():
            async with asyncio.timeout(CONNECTING):
                self._driver = await connect(self._engine)
        self._driver.add_termination_listener(self._ended)
        await self._driver.add_listener(self._hints.channel, self._received)

    async def _is_echoed(self) -> bool:
        self._token = secrets.token_hex(8)
        self._echo.clear()
        await self._hints.echo(self._token)
        try:
            async with asyncio.timeout(0 if self._is_stopping else _ECHO_WITHIN):
                await self._echo.wait()
        except TimeoutError:
            return False
        return True

    def _received(self, _driver: object, _pid: int, _channel: str, payload: object) -> None:
        said = str(payload)
        if not is_echo(said):
            self._hear(queues_of(said))
        elif is_echo(said, self._token):
            self._echo.set()

    def _ended(self, driver: object) -> None:
        if driver is not self._driver:
            return
        self._failed += 1
        if self._failed == 1:
            self.loop.wake()
        else:  # again and again: connections cost the server more than the poll does
            self._pause(_PROVE_EVERY)

    async def _leave(self) -> None:
        driver, self._driver = self._driver, None
        if driver is None or driver.is_closed():
            return
        try:
            async with asyncio.timeout(1):
                # a pooler may hand the connection that listens to another client
                await driver.remove_listener(self._hints.channel, self._received)
                await driver.close()
        except Exception as error:  # noqa: BLE001 - it is given up whatever happens
            log.debug("jobtrail: hints: the connection is broken: %s", reason(error))
            driver.terminate()

    def _note(self, is_heard: bool, why: str) -> None:
        """Say once what has changed."""
        if self._is_stopping or is_heard is self.is_heard:
            return
        if not is_heard:
            log.info(
                "no hints from other processes (%s): their jobs are found by the poll, every %g s",
                why,
                self._poll_every,
            )
        elif self.is_heard is not None:
            log.info("hints from other processes are heard again")
        self.is_heard = is_heard
