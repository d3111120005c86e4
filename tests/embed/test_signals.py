"""The signals that end a host's server are heard first, and are the server's as before."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from jobtrail import Jobtrail
from jobtrail.embed.signals import overheard
from support.database import Place
from support.host import TASKS, settings_at
from support.tasks import GATE, hold
from support.until import until

INT, TERM = signal.SIGINT, signal.SIGTERM


class Server:
    """A server's handlers, as uvicorn has them."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, bool]] = []

    def exits(self, which: int, frame: object) -> None:
        self.heard.append((which, frame is not None))


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = {which: signal.getsignal(which) for which in (INT, TERM)}
    GATE.clear()
    yield
    for which, handler in before.items():
        signal.signal(which, handler)
    GATE.clear()


@pytest.fixture
def server() -> Server:
    server = Server()
    for which in (INT, TERM):
        signal.signal(which, server.exits)
    return server


def handlers() -> tuple[object, object]:
    return signal.getsignal(INT), signal.getsignal(TERM)


def trail_at(place: Place) -> Jobtrail:
    return Jobtrail(settings_at(place.url.libpq, grace=60, cancel_grace=0.2), tasks=TASKS)


@pytest.mark.parametrize(
    ("signals", "hurries"),
    [([TERM], False), ([INT, TERM], False), ([INT, INT], True), ([TERM, TERM], True), ([TERM, INT], True)],
    ids=lambda said: "-".join(each.name for each in said) if isinstance(said, list) else None,
)
async def test_a_signal_drains_and_a_repeated_one_hurries(
    place: Place, server: Server, signals: list[signal.Signals], hurries: bool
) -> None:
    trail, before = trail_at(place), handlers()
    async with trail.lifespan():
        job = await trail.submit(hold)
        await until(lambda: trail.list(status="running"))
        assert trail._opened is not None
        assert trail._opened.accepting()
        for which in signals:
            signal.raise_signal(which)
        assert not trail._opened.accepting()
        assert trail._opened.node is not None
        assert (trail._opened.node.worker._attempts._until - time.monotonic() < 50) is hurries
        if hurries:  # before the lifespan ends
            await until(lambda: trail.list(status="failed"))
        else:
            GATE.set()
            assert await job.wait(timeout=5)
        later = await trail.submit(hold)
    assert server.heard == [(which, True) for which in signals]
    assert handlers() == before == (server.exits, server.exits)
    assert await place.value("SELECT status FROM jobtrail.jobs WHERE id = $1", later.id) == "pending"


@pytest.mark.parametrize("there", [signal.SIG_DFL, signal.SIG_IGN])
async def test_where_nobody_handles_sigterm_nothing_is_touched(place: Place, there: Any) -> None:
    signal.signal(TERM, there)
    signal.signal(INT, lambda *_: None)
    before = handlers()
    async with trail_at(place).lifespan():
        assert handlers() == before
    assert handlers() == before


async def test_pythons_own_ctrl_c_is_left_alone(server: Server) -> None:
    signal.signal(INT, signal.default_int_handler)
    with overheard(lambda _: None):
        now = handlers()
    assert (now[0], now[1] == server.exits) == (signal.default_int_handler, False)


async def test_a_script_that_runs_no_jobs_touches_nothing(place: Place, server: Server) -> None:
    async with trail_at(place):
        assert handlers() == (server.exits, server.exits)


async def test_another_thread_touches_nothing(server: Server) -> None:
    seen: list[object] = []

    def enter() -> None:
        with overheard(lambda _: None):
            seen.append(handlers())

    thread = threading.Thread(target=enter)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert seen == [(server.exits, server.exits)]


async def test_what_the_host_installs_meanwhile_stays(server: Server) -> None:
    """It may call ours, which then only passes on."""
    noticed: list[int] = []
    with overheard(noticed.append):
        ours = signal.getsignal(TERM)
        assert callable(ours)

        def hosts(which: int, frame: FrameType | None) -> None:
            ours(which, frame)

        signal.signal(TERM, hosts)
        signal.raise_signal(TERM)
    assert (signal.getsignal(TERM), signal.getsignal(INT)) == (hosts, server.exits)
    signal.raise_signal(TERM)
    assert (noticed, len(server.heard)) == ([TERM], 2)


async def test_a_servers_handler_on_the_loop_is_called_as_before() -> None:
    """As hypercorn's is."""
    loop, called = asyncio.get_running_loop(), asyncio.Event()
    noticed: list[int] = []
    loop.add_signal_handler(TERM, called.set)
    try:
        with overheard(noticed.append):
            os.kill(os.getpid(), TERM)
            await asyncio.wait_for(called.wait(), 5)
        called.clear()
        os.kill(os.getpid(), TERM)
        await asyncio.wait_for(called.wait(), 5)
    finally:
        loop.remove_signal_handler(TERM)
    assert noticed == [TERM]
