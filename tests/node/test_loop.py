"""The one loop: ticks, wakes, outlives errors, ends."""

import asyncio
import threading
import time

import pytest

from jobtrail.node import loop as loop_module
from jobtrail.node.loop import Loop
from jobtrail.node.threads import Threads


async def test_an_error_is_counted_and_never_fatal(caplog: pytest.LogCaptureFixture) -> None:
    async def tick() -> None:
        raise ValueError("no")

    loop = Loop("x", tick, every=0.001)
    loop.start()
    await loop.ticked(3)
    await loop.stop()
    assert loop.errors == loop.ticks >= 4
    assert "x: ValueError: no" in caplog.text


async def test_a_woken_loop_ticks_at_once_and_an_asked_one_again() -> None:
    left = [True, True]

    async def tick() -> bool:
        return bool(left and left.pop())

    loop = Loop("x", tick, every=3600)
    loop.start()
    began = time.monotonic()
    assert await loop.ticked(2) == 3
    loop.wake()
    assert await loop.ticked(3) == 4
    assert time.monotonic() - began < 5
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
    await asyncio.wait_for(loop.stop(), 5)
    assert loop.ticks == 1


async def test_threads_are_reused_and_no_more_than_needed() -> None:
    threads = Threads("t")
    names = [await threads.run(lambda: threading.current_thread().name) for _ in range(20)]
    assert len(set(names)) <= 2
    barrier = threading.Barrier(5, timeout=5)
    both = await asyncio.gather(*(threads.run(barrier.wait) for _ in range(5)))
    assert sorted(both) == [0, 1, 2, 3, 4]
    threads.close()
