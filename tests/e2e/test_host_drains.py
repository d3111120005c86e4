"""A host under uvicorn that is told to end, while requests are open and jobs run."""

import signal
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from support.hosting import Hosted, Unfinished, ends, never_ending, running, submitted
from support.until import until
from support.world import Place

INT, TERM = signal.SIGINT, signal.SIGTERM
SUCCEEDED, LOST, AGAIN = ("succeeded", None), ("failed", "lost"), ("pending", "lost")


async def test_it_drains_at_the_signal_however_long_a_request_is_open(folder: Path, place: Place) -> None:
    fits, never = folder / "fits", folder / "never"
    sent = {"task": "add", "args": {"a": 1, "b": 2}}
    async with Hosted.start(folder, place, JOBTRAIL_GRACE="1.5s", JOBTRAIL_POLL_EVERY="20ms") as host:
        async with Unfinished.begun(host.port, "/trail/jobs", sent) as request:
            short, long = await running(place, fits), await running(place, never, max_attempts=2)
            host.signal(TERM)
            began = time.monotonic()
            await until(lambda: host.has_said("Waiting for connections to close"))
            late = await submitted(place, "add", a=1, b=2)
            fits.touch()
            await until(lambda: _is(place, short + long, [SUCCEEDED] * 3 + [AGAIN] * 3))
            took = time.monotonic() - began
            print(f"\nwhat ran was ended {took:.2f} s after the signal, with a request open")
            assert took > 1.4
            answer = await request.answered()
        assert (answer.split()[1], "retry-after: 1" in answer.lower()) == ("503", True)
        assert (await host.ended())[0] in (0, -TERM)
    assert (await ends(place))[late] == ("pending", None)
    assert await place.value("SELECT count(*) FROM jobtrail.nodes") == 0


@pytest.mark.parametrize(
    ("workers", "to_all", "which"),
    [
        (1, False, INT),
        (2, False, TERM),
        (2, True, INT),  # each worker gets a SIGTERM from the parent besides
    ],
    ids=["one worker", "SIGTERM to two", "Ctrl-C to two"],
)
async def test_what_fits_the_grace_ends_and_what_does_not_goes_back(
    folder: Path, place: Place, workers: int, to_all: bool, which: signal.Signals
) -> None:
    fits = folder / "fits"
    options = ("--workers", f"{workers}") if workers > 1 else ()
    async with Hosted.start(folder, place, *options, nodes=workers, JOBTRAIL_GRACE="1.5s") as host:
        short = await running(place, fits)
        long = await running(place, folder / "once") + await running(place, folder / "twice", max_attempts=2)
        (host.signal_all if to_all else host.signal)(which)
        await until(lambda: host.has_said("Waiting for application shutdown"))
        fits.touch()
        code, seconds = await host.ended()
        print(f"\nended with {code} after {seconds:.2f} s")
    expected = dict(zip(short + long, [SUCCEEDED] * 3 + [LOST] * 3 + [AGAIN] * 3, strict=True))
    assert await ends(place) == expected
    assert await place.value("SELECT count(*) FROM jobtrail.nodes") == 0


@pytest.mark.parametrize("with_request", [True, False])
async def test_a_second_signal_does_not_wait(folder: Path, place: Place, with_request: bool) -> None:
    """While a request is open uvicorn leaves out the end of the lifespan, and closes its loop."""
    async with AsyncExitStack() as stack, Hosted.start(folder, place, JOBTRAIL_GRACE="1h") as host:
        once = await running(place, folder / "never")
        twice = await never_ending(place, folder, max_attempts=2)
        if with_request:
            await stack.enter_async_context(Unfinished.begun(host.port, "/trail/jobs", {"task": "add"}))
        host.signal(INT)
        waits = "Waiting for connections to close" if with_request else "Waiting for application shutdown"
        await until(lambda: host.has_said(waits))
        host.signal(INT)
        _, seconds = await host.ended()
        print(f"\nended after {seconds:.2f} s")
    assert await ends(place) == dict(zip(once + twice, [LOST] * 3 + [AGAIN] * 3, strict=True))
    assert await place.value("SELECT count(*) FROM jobtrail.nodes") == 0
    said = host.log.read_text()
    assert ("Waiting for application shutdown" in said) is not with_request
    # a job that is lost is told with its exception, in lines of their own
    told = [line for line in said.splitlines() if "jobtrail" in line and "Error" in line]
    assert [line for line in told if not line.startswith("jobtrail.errors.")] == []


async def _is(place: Place, ids: Sequence[str], expected: Sequence[object]) -> bool:
    found = await ends(place)
    return [found[each] for each in ids] == list(expected)
