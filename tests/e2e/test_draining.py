"""A service, or a node without HTTP, that is told to end: what it refuses, what it waits for, and for how long."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from jobtrail.db.migrate import migrate
from jobtrail.db.url import normalize
from support.embedded import used_before
from support.hosting import Unfinished, ends, never_ending, nobody_is_in, running, submitted
from support.served import CHECKOUT, Served, Started, Working
from support.until import until
from support.world import Place

INT, TERM = signal.SIGINT, signal.SIGTERM
QUICK = {**CHECKOUT, "JOBTRAIL_CANCEL_GRACE": "0.3s", "JOBTRAIL_PROCESSES": "3"}
SUCCEEDED, LOST, AGAIN = ("succeeded", None), ("failed", "lost"), ("pending", "lost")
ADD = {"task": "add", "args": {"a": 1, "b": 2}}


@asynccontextmanager
async def served(folder: Path, place: Place, **settings: str) -> AsyncIterator[Served]:
    async with Served.start(folder, place.url.libpq, **QUICK, **settings) as service:
        yield service
        await until(lambda: nobody_is_in(folder))


async def test_an_open_request_is_refused_and_holds_up_no_grace(folder: Path, place: Place) -> None:
    async with served(folder, place, JOBTRAIL_GRACE="2s", JOBTRAIL_POLL_EVERY="20ms") as service:
        port, fits = service.client.base_url.port or 0, folder / "fits"
        bulk = {"action": "retry", "filter": {"status": ["failed"]}}
        async with (
            Unfinished.begun(port, "/v1/jobs", ADD) as submit,
            Unfinished.begun(port, "/v1/jobs/batch", {"jobs": [ADD]}) as batch,
            Unfinished.begun(port, "/v1/jobs/bulk", bulk) as retries,
            Unfinished.begun(port, "/v1/jobs", ADD),
        ):
            short, long = await running(place, fits), await running(place, folder / "never", max_attempts=2)
            service.signal(TERM)
            began = time.monotonic()
            await until(lambda: has_said(folder, "node stopping"))
            late = await submitted(place, "add", a=1, b=2)
            fits.touch()
            for each in (submit, batch, retries):
                answer = (await each.answered()).lower()
                assert (answer.split()[1], "retry-after: 1" in answer) == ("503", True), answer
                assert "shutting down" in answer
            await until(lambda: has_said(folder, "node stopped"))
            took = time.monotonic() - began
            code, _ = await service.ended()
            print(
                f"\nthe node stopped {took:.2f} s after the signal, the service after {time.monotonic() - began:.2f} s"
            )
            assert (code, took > 1.9) == (0, True)
    found = await ends(place)
    assert found.pop(late) == ("pending", None)
    assert found == dict(zip(short + long, [SUCCEEDED] * 3 + [AGAIN] * 3, strict=True))


@pytest.mark.parametrize("second", [INT, TERM])
async def test_a_second_signal_does_not_wait_for_requests_either(
    folder: Path, place: Place, second: signal.Signals
) -> None:
    async with served(folder, place, JOBTRAIL_GRACE="1h") as service:
        once = await running(place, folder / "never")
        twice = await never_ending(place, folder, max_attempts=2)
        async with Unfinished.begun(service.client.base_url.port or 0, "/v1/jobs", ADD):
            service.signal(TERM)
            await until(lambda: has_said(folder, "node stopping"))
            service.signal(second)
            code, seconds = await service.ended()
            print(f"\nended after {seconds:.2f} s")
    assert code == 0
    assert await ends(place) == dict(zip(once + twice, [LOST] * 3 + [AGAIN] * 3, strict=True))
    assert await place.value("SELECT count(*) FROM jobtrail.nodes") == 0


@pytest.mark.parametrize("kind", [Served, Working])
async def test_a_sigterm_after_ctrl_c_is_no_second_one(
    folder: Path, place: Place, kind: type[Served | Working]
) -> None:
    async with kind.start(folder, place.url.libpq, **QUICK, JOBTRAIL_GRACE="1h") as node:
        short = await running(place, folder / "fits")
        for which in (INT, TERM):
            node.signal(which)
            await until(lambda: has_said(folder, "node stopping"))
        (folder / "fits").touch()
        assert (await node.ended())[0] == 0
    assert await ends(place) == dict.fromkeys(short, SUCCEEDED)


async def test_a_database_that_is_away_meanwhile_is_told(folder: Path) -> None:
    """Both kinds of node at once, since each waits some seconds for it."""
    server = used_before(folder / "postgres")
    here = {**QUICK, "JOBTRAIL_GRACE": "0.2s", "JOBTRAIL_QUEUES": ""}
    try:
        await migrate(normalize(await asyncio.to_thread(server.start)).sqlalchemy)
        async with (
            Served.start(folder, server.url, **{**here, "JOBTRAIL_SLOTS": "1"}) as service,
            Working.start(folder, server.url, **{**here, "JOBTRAIL_SLOTS": "1"}) as worker,
        ):
            for _ in range(2):
                await service.submit("wait_for", args={"gate": str(folder / "never")})
            await until(lambda: are_running(service, 2))
            await asyncio.to_thread(server.stop)
            for each in (service, worker):
                each.signal(TERM)
            for name, each in (("serve", service), ("work", worker)):
                await check_that_it_gave_up(folder / f"{name}.log", each)
    finally:
        await asyncio.to_thread(server.stop)


async def check_that_it_gave_up(log: Path, node: Started) -> None:
    code, seconds = await node.ended()
    said = log.read_text()
    print(f"\n{log.name}: ended after {seconds:.1f} s")
    assert code == 3
    assert "1 outcomes could not be recorded; other nodes rescue these jobs" in said
    assert "the database was away while the node stopped: the ends of 1 jobs could not be recorded" in said
    assert "Traceback" not in said


async def are_running(service: Served, number: int) -> bool:
    return len((await service.client.get("/v1/jobs?status=running")).json()["items"]) == number


async def has_said(folder: Path, words: str) -> bool:
    return any(words in each.read_text() for each in folder.glob("*.log"))
