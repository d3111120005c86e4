"""The one loop: ticks, wakes, outlives errors, ends."""

import asyncio
import logging
import re
import threading

import pytest
from sqlalchemy import text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from jobtrail.db import loop as loop_module
from jobtrail.db.engine import open_database
from jobtrail.db.errors import reason
from jobtrail.db.loop import Loop
from jobtrail.errors import UnavailableError
from jobtrail.worker.threads import Threads
from support.world import Place


async def test_an_error_is_counted_and_never_fatal(caplog: pytest.LogCaptureFixture) -> None:
    async def tick() -> None:
        raise ValueError("no")

    loop = Loop("x", tick, every=0.001)
    loop.start()
    await loop.ticked(3)
    await loop.stop()
    assert loop.errors == loop.ticks >= 4
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told == ["jobtrail: background loop 'x' failed: ValueError: no; trying again"]


async def test_an_outage_is_told_in_two_lines(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Many hosts' logs show the message alone: it says who speaks, and of what, and no SQL."""
    caplog.set_level(logging.DEBUG, logger="jobtrail.db.loop")
    away = open_database("postgresql+asyncpg:///x?host=/nowhere")
    databases = [place.database, away, away]

    async def tick() -> None:
        async with databases.pop().autocommit() as connection:
            await connection.execute(text("SELECT 1"))

    loop = Loop("rescue", tick, every=3600)
    for _ in range(3):
        await loop._once()
    why = "the database does not answer ([Errno 2] No such file or directory)"
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        f"jobtrail: background loop 'rescue' failed: {why}; trying again",
        "jobtrail: background loop 'rescue' works again",
    ]
    assert len([record for record in caplog.records if record.exc_info]) == 2
    await away.dispose()


REASONS = [
    (
        "SELECT pg_terminate_backend(pg_backend_pid()), 'my' || :said",
        r"the database does not answer \((connection|term).*\)",
    ),
    ("SELECT 1 / 0, 'my' || :said", "the database refuses: division by zero"),
    ("SELECT nothing, 'my' || :said", 'the database refuses: column "nothing" does not exist'),
]


@pytest.mark.parametrize(("statement", "told"), REASONS)
async def test_what_the_database_said_is_told_without_the_statement(place: Place, statement: str, told: str) -> None:
    for wrapped in (False, True):
        with pytest.raises(Exception, match="SELECT") as raised:
            async with place.database.autocommit() as connection:
                await connection.execute(text(statement), {"said": "secret"})
        error: BaseException = raised.value
        if wrapped:
            error = UnavailableError("the database did not answer in time")
            error.__cause__ = raised.value
        assert re.fullmatch(told, reason(error))


async def test_a_full_pool_and_silence_are_told_shortly() -> None:
    assert reason(TimeoutError()) == "the database does not answer (TimeoutError)"
    full = PoolTimeoutError("QueuePool limit reached", code="3o7r")
    assert reason(full) == "the database does not answer (QueuePool limit reached)"
    assert reason(UnavailableError("the database did not answer in time")).endswith(
        ": the database did not answer in time"
    )


async def test_a_woken_loop_ticks_at_once_and_an_asked_one_again() -> None:
    left = [True, True]

    async def tick() -> bool:
        return bool(left and left.pop())

    loop = Loop("x", tick, every=3600)
    loop.start()
    assert await loop.ticked(2) == 3
    loop.wake()
    assert await loop.ticked(3) == 4
    await loop.stop()


async def test_stop_is_idempotent_and_lets_the_tick_end() -> None:
    ended = False

    async def tick() -> None:
        nonlocal ended
        await asyncio.sleep(0.05)
        ended = True

    loop = Loop("x", tick, every=3600)
    loop.start()
    await asyncio.sleep(0)
    await asyncio.gather(loop.stop(), loop.stop())
    await loop.stop()
    assert ended
    never_started = Loop("y", tick, every=1)
    await never_started.stop()


async def test_a_tick_that_hangs_keeps_nobody_from_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "_PATIENCE", 0.05)

    async def tick() -> None:
        await asyncio.sleep(60)

    loop = Loop("x", tick, every=1)
    loop.start()
    await asyncio.sleep(0)
    await asyncio.wait_for(loop.stop(), 60)
    assert loop.ticks == 1


async def test_threads_are_reused_and_no_more_than_needed() -> None:
    threads = Threads("t")
    names = [await threads.run(lambda: threading.current_thread().name) for _ in range(20)]
    assert len(set(names)) <= 2
    barrier = threading.Barrier(5, timeout=5)
    both = await asyncio.gather(*(threads.run(barrier.wait) for _ in range(5)))
    assert sorted(both) == [0, 1, 2, 3, 4]
    threads.close()
