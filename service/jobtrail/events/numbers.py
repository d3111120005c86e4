"""The numbers that are derived from the feed, and the stats that are as new as they can be."""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from jobtrail.db.direct import Statement
from jobtrail.db.engine import Database
from jobtrail.db.errors import unavailable
from jobtrail.events.cursors import derive
from jobtrail.events.feed import mark
from jobtrail.jobs.services import Services
from jobtrail.ops.stats import read_stats
from jobtrail.ops.totals import CURSOR, ROLL_UP
from jobtrail.records import Stats

Answer = TypeVar("Answer")

_PATIENCE: Final = 1.0
"""Seconds that stats wait for the counting; then they say that they are older."""

_PAUSE: Final = 0.01

_NOW: Final = Statement("SELECT clock_timestamp()")

# The cursor's own mark is there for as long as the cursor stands at it.
_REACHED: Final = Statement("""
SELECT c.no, m.at FROM jobtrail.feed_cursors c JOIN jobtrail.feed_marks m ON m.no = c.no WHERE c.name = :name
""")


async def advance(services: Services) -> bool:
    """Count what is new in the feed. Whether there may be more. Raises UnavailableError."""
    return await derive(services.database, CURSOR, ROLL_UP)


async def catch_up(database: Database) -> datetime:
    """Count all that is committed now; the time up to which all is counted. Raises UnavailableError."""
    with unavailable():
        ((now,),) = await database.fetch(_NOW)
        newest = await mark(database)
        counting = asyncio.ensure_future(_count(database, newest.no))
        _counting.add(counting)
        counting.add_done_callback(_counting.discard)
        counting.add_done_callback(_has_answer)
        if (await asyncio.wait({counting}, timeout=_PATIENCE))[0]:
            counting.result()
        ((reached, at),) = await database.fetch(_REACHED, name=CURSOR)
    found: datetime = now if reached >= newest.no else at
    return found


_counting: Final[set["asyncio.Future[None]"]] = set()
"""They go on where nobody waits for them any more: what many jobs did at once is counted at once."""


async def stop() -> None:
    """Before the database is closed: end the counting that nobody waits for. What is counted stays. Idempotent."""
    counting = list(_counting)
    for each in counting:
        each.cancel()
    await asyncio.gather(*counting, return_exceptions=True)


async def _count(database: Database, upto: int) -> None:
    """Until the mark is passed; for a moment also where another process is at it."""
    until = time.monotonic() + _PATIENCE
    more = True
    while more or time.monotonic() < until:
        more = await derive(database, CURSOR, ROLL_UP)
        if (await database.fetch(_REACHED, name=CURSOR))[0][0] >= upto:
            return
        if not more:
            await asyncio.sleep(_PAUSE)


class Shared(Generic[Answer]):
    """An answer that is at most a second old; those who ask at once share one question."""

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, Answer]]) -> None:
        self._ask = ask
        self._asked = -math.inf
        self._asking: asyncio.Future[Answer] | None = None

    async def __call__(self) -> Answer:
        """Raises as `ask`, to all who wait for that answer; the next one asks anew."""
        asking = self._asking
        if asking is None or (asking.done() and (not _has_answer(asking) or time.monotonic() >= self._asked + 1)):
            self._asked = time.monotonic()
            asking = self._asking = asyncio.ensure_future(self._ask())
            asking.add_done_callback(_has_answer)
        return await asyncio.shield(asking)


def _has_answer(asked: "asyncio.Future[Any]") -> bool:
    return not asked.cancelled() and asked.exception() is None


async def stats(services: Services) -> Stats:
    """At most a second old. Raises UnavailableError."""
    return await services.once(_shared)()


def _shared(services: Services) -> Shared[Stats]:
    async def ask() -> Stats:
        return await read_stats(services.database, await catch_up(services.database), services.alarms)

    return Shared(ask)
