"""The signals that end a host's server are heard first, and are the server's as before."""

import asyncio
import os
import signal
from collections.abc import Iterator
from types import FrameType

import pytest

from jobtrail import Jobtrail
from jobtrail.worker.shutdown_signals import hear_first
from support.host import TASKS, settings_at
from support.tasks import GATE, hold
from support.until import until
from support.world import Place

INT, TERM = signal.SIGINT, signal.SIGTERM


class Server:
    """A server's handlers, as uvicorn has them."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, bool]] = []

    def exits(self, which: int, frame: object) -> None:
        self.heard.append((which, frame is not None))


@pytest.fixture
def server() -> Iterator[Server]:
    before = {which: signal.getsignal(which) for which in (INT, TERM)}
    server = Server()
    for which in before:
        signal.signal(which, server.exits)
    GATE.clear()
    yield server
    for which, handler in before.items():
        signal.signal(which, handler)
    GATE.clear()


def handlers() -> tuple[object, object]:
    return signal.getsignal(INT), signal.getsignal(TERM)


def trail_at(place: Place) -> Jobtrail:
    return Jobtrail(settings_at(place.url.libpq, grace=60, cancel_grace=0.2), tasks=TASKS)


@pytest.mark.parametrize(
    ("signals", "hurries"),
    [([TERM], False), ([INT, TERM], False), ([INT, INT], True), ([TERM, TERM], True), ([TERM, INT], True)],
    ids=lambda each: "-".join(which.name for which in each) if isinstance(each, list) else None,
)
async def test_a_signal_drains_and_a_repeated_one_hurries(
    place: Place, server: Server, signals: list[signal.Signals], hurries: bool
) -> None:
    trail, before = trail_at(place), handlers()
    async with trail.lifespan():
        job = await trail.submit(hold)
        await until(lambda: trail.list(status="running"))
        for which in signals:
            signal.raise_signal(which)
        if hurries:  # before the lifespan ends, and long before the grace does
            await until(lambda: trail.list(status="failed"))
        else:
            GATE.set()
            assert await job.wait(timeout=60)
        later = await trail.submit(hold)
    assert server.heard == [(which, True) for which in signals]
    assert handlers() == before == (server.exits, server.exits)
    assert await place.value("SELECT status FROM jobtrail.jobs WHERE id = $1", later.id) == "pending"


async def test_where_no_server_has_handlers_nothing_is_touched(place: Place, server: Server) -> None:
    """Nor by a script that runs no jobs, nor in another thread; and Python's own Ctrl-C is left alone."""

    def heard() -> tuple[object, object]:
        with hear_first(lambda _: None):
            return handlers()

    async with trail_at(place):
        assert handlers() == (server.exits, server.exits)
    assert await asyncio.to_thread(heard) == (server.exits, server.exits)
    signal.signal(INT, signal.default_int_handler)
    now = heard()
    assert (now[0], now[1] == server.exits) == (signal.default_int_handler, False)
    for there in (signal.SIG_DFL, signal.SIG_IGN):
        signal.signal(TERM, there)
        signal.signal(INT, lambda *_: None)
        before = handlers()
        async with trail_at(place).lifespan():
            assert handlers() == before
        assert handlers() == before


async def test_a_handler_that_the_host_installs_meanwhile_stays(server: Server) -> None:
    """It may call ours, which then only passes on."""
    noticed: list[int] = []
    with hear_first(noticed.append):
        ours = signal.getsignal(TERM)
        assert callable(ours)

        def hosts(which: int, frame: FrameType | None) -> None:
            ours(which, frame)

        signal.signal(TERM, hosts)
        signal.raise_signal(TERM)
    assert (signal.getsignal(TERM), signal.getsignal(INT)) == (hosts, server.exits)
    signal.raise_signal(TERM)
    assert (noticed, len(server.heard)) == ([TERM], 2)


@pytest.mark.usefixtures("server")
async def test_a_servers_handler_on_the_loop_is_called_as_before() -> None:
    """As hypercorn's is."""
    loop, called = asyncio.get_running_loop(), asyncio.Event()
    noticed: list[int] = []
    loop.add_signal_handler(TERM, called.set)
    try:
        with hear_first(noticed.append):
            os.kill(os.getpid(), TERM)
            await asyncio.wait_for(called.wait(), 60)
        called.clear()
        os.kill(os.getpid(), TERM)
        await asyncio.wait_for(called.wait(), 60)
    finally:
        loop.remove_signal_handler(TERM)
    assert noticed == [TERM]
