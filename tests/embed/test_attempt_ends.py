"""The end of an attempt as a host hears of it: by logging, as error trackers do, and by its own hook."""

import asyncio
import gc
import logging
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar

import asyncpg
import pytest

from jobtrail import AttemptEnd, JobContext, task
from jobtrail.errors import JobCancelledError
from jobtrail.status import Status
from support import kinds
from support.host import Host
from support.until import until
from support.world import Place

KINDS = [kinds.on_loop, kinds.in_thread, kinds.in_process]


class Tracker(logging.Handler):
    """As an error tracker listens: to every record, with its exception."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def tracker() -> Iterator[Tracker]:
    tracker, root = Tracker(), logging.getLogger()
    root.addHandler(tracker)
    yield tracker
    root.removeHandler(tracker)


class Kept:
    made: ClassVar[list["weakref.ref[Kept]"]] = []


@task
async def keeps() -> None:
    kept = Kept()
    Kept.made.append(weakref.ref(kept))
    raise ValueError("as asked")


@task(max_attempts=3)
async def stops_itself(context: JobContext, url: str) -> None:
    """A cancel that the node has not heard of yet when the attempt fails."""
    connection = await asyncpg.connect(url)
    await connection.execute(
        "UPDATE jobtrail.jobs SET cancel_requested_at = now(), cancel_requested_by = 'ann', cancel_reason = 'enough' "
        "WHERE id = $1",
        context.job_id,
    )
    await connection.close()
    raise ValueError("once")


class Ends(list[AttemptEnd]):
    async def are(self, count: int) -> bool:
        return len(self) == count


@pytest.fixture
async def ends() -> Ends:
    return Ends()


@pytest.fixture
async def host(place: Place, ends: Ends) -> AsyncIterator[Host]:
    known = [*KINDS, keeps, stops_itself]
    async with Host.at(
        place, tasks=known, on_attempt_end=ends.append, said={"processes": 1, "poll_every": 0.05}
    ) as host:
        yield host


@pytest.mark.parametrize("kind", KINDS, ids=lambda each: each.runs_in)
async def test_a_failed_job_is_one_error_and_an_attempt_that_another_follows_a_warning(
    host: Host, tracker: Tracker, ends: Ends, kind: Any
) -> None:
    job = await host.trail.submit(kind, "fail")
    await until(lambda: ends.are(1))
    (record,) = tracker.records
    assert (record.name, record.levelno) == ("jobtrail.task", logging.ERROR)
    assert record.getMessage() == f"{kind.name}: attempt 1 of job {job.id} failed: ValueError: as asked"
    assert record.args
    assert len(record.args) == 5  # one text for all jobs, to group by
    assert record.exc_info
    error = record.exc_info[1]
    assert (type(error).__name__, str(error)) == ("ValueError", "as asked")
    assert 'raise ValueError("as asked")' in logging.Formatter().formatException(record.exc_info)
    (end,) = ends
    assert (end.job_id, end.task, end.attempt, end.status) == (job.id, kind.name, 1, Status.FAILED)
    assert (type(end.exception).__name__, str(end.exception)) == ("ValueError", "as asked")
    assert end.error
    assert (end.error["type"], end.error["message"]) == ("ValueError", "as asked")
    assert end.trace_id == job.id.hex
    assert end.seconds >= 0

    await (await host.trail.submit(kind, "flaky")).wait(timeout=60)
    await until(lambda: ends.are(3))
    assert [(each.levelname, each.exc_info is not None) for each in tracker.records[1:]] == [("WARNING", True)]
    assert [each.status for each in ends[1:]] == [Status.PENDING, Status.SUCCEEDED]


async def test_a_cancelled_job_is_no_error(host: Host, place: Place, tracker: Tracker, ends: Ends) -> None:
    """Nor is one that was to run again, and is cancelled as its attempt fails."""
    job = await host.trail.submit(kinds.on_loop, "wait")
    await until(lambda: host.trail.list(status="running"))
    await host.trail.cancel(job.id)
    await until(lambda: ends.are(1))
    assert [each for each in tracker.records if each.levelno >= logging.ERROR or each.exc_info] == []
    other = await host.trail.submit(stops_itself, place.scratch.url)
    with pytest.raises(JobCancelledError):
        await other.wait(timeout=60)
    await until(lambda: ends.are(2))
    assert [(end.status, end.attempt) for end in ends] == [(Status.CANCELLED, 1)] * 2
    assert not [each for each in tracker.records if "another one follows" in each.getMessage()]


async def test_nothing_that_the_task_held_is_kept(host: Host, ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not until the collector finds a circle, which may be long."""
    monkeypatch.setattr(logging.getLogger("jobtrail.task"), "disabled", True)  # pytest keeps all records
    gc.disable()
    try:
        await host.trail.submit(keeps)
        await until(lambda: ends.are(1))
        ends.clear()

        async def gone() -> bool:
            return Kept.made[-1]() is None

        await until(gone)
    finally:
        gc.enable()


@pytest.mark.parametrize(("is_async", "error"), [(False, RuntimeError), (True, RuntimeError), (True, SystemExit)])
async def test_a_hook_that_raises_does_no_harm(
    place: Place, caplog: pytest.LogCaptureFixture, *, is_async: bool, error: type[BaseException]
) -> None:
    def hook(end: AttemptEnd) -> None:
        raise error(end.task)

    async def later(end: AttemptEnd) -> None:
        await asyncio.sleep(0)
        hook(end)

    async with Host.at(place, tasks=[kinds.on_loop], on_attempt_end=later if is_async else hook) as host:
        job = await host.trail.submit(kinds.on_loop, "end")
        assert await job.wait(timeout=60) == "well, in attempt 1"

        async def logged() -> bool:
            return f"on_attempt_end raised after attempt 1 of job {job.id}" in caplog.text

        await until(logged)


async def test_a_slow_hook_holds_neither_slot_nor_shutdown(place: Place) -> None:
    begun = Ends()

    async def slow(end: AttemptEnd) -> None:
        begun.append(end)
        await asyncio.sleep(3600)

    said = {"slots": 1, "grace": 0.1, "cancel_grace": 0.1}
    async with Host.at(place, tasks=[kinds.on_loop], on_attempt_end=slow, said=said) as host:
        for _ in range(2):
            await (await host.trail.submit(kinds.on_loop, "end")).wait(timeout=60)
        await until(lambda: begun.are(2))
