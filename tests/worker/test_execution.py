"""One attempt: told to end before it began, while it runs, and when it does not listen."""

import asyncio
import logging
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from jobtrail import JobContext, Retry, task
from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.claim import claim_next
from jobtrail.jobs.history import read_history
from jobtrail.jobs.query import read
from jobtrail.jobs.renew import RunningAttempt
from jobtrail.jobs.services import Services
from jobtrail.records import Claimed
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from jobtrail.worker.node import Node
from support import stubborn, tasks, world
from support.until import until
from support.world import Place

MINUTE = timedelta(minutes=1)


async def holds_nothing(node: Node) -> bool:
    """A moment after the row says how an attempt ended: its node hears of the commit then."""
    return not node.worker.held()


async def claimed_by(node: Node, place: Place, services: Services) -> Claimed:
    await node.worker.claim_loop.ticked(after=0)
    await world.submitted(services, "noop", max_attempts=2)
    [claimed] = await claim_next(
        place.database, node=node.id, lease=MINUTE, tasks=["noop"], queues=(), free=1, salt=""
    )  # fmt: skip
    return claimed


async def test_a_cancel_before_the_first_step(place: Place, services: Services) -> None:
    async with world.node_at(services, place, poll_every=MINUTE) as node:
        claimed = await claimed_by(node, place, services)
        await cancel(services, claimed.id, by="ann")
        node.worker._attempts.begin(claimed)
        node.worker._attempts.obey([RunningAttempt(claimed.id, claimed.attempt, cancel_requested=True)])
        job = await world.ended(services, claimed.id)
    assert job.status is Status.CANCELLED
    assert (job.error or {})["message"] == "cancelled before it began"


async def test_an_interrupt_before_the_first_step_uses_up_nothing(place: Place, services: Services) -> None:
    async with world.node_at(services, place, poll_every=MINUTE) as node:
        claimed = await claimed_by(node, place, services)
        node.worker._attempts.begin(claimed)
        node.drain(0)
        node.worker._attempts._interrupt()
    job = await read(services, claimed.id)
    assert (job.status, job.attempt, job.max_attempts) == (Status.PENDING, 1, 3)
    assert [move.reason for move in await read_history(services, claimed.id)] == ["submitted", "claimed", "released"]


async def test_a_task_that_does_not_listen_is_left_behind_at_its_timeout(place: Place) -> None:
    services = Services(place.database, Catalog.from_modules([stubborn]))
    async with world.node_at(services, place, cancel_grace=timedelta(seconds=0.05)) as node:
        job = await world.ran(services, "never_ends", timeout=0.05, seconds=0.4)
        assert (job.error or {})["type"] == "timeout"
        assert "never_ends did not end when told to: it keeps running" in str((job.error or {})["traceback"])

        async def is_over() -> bool:
            return node.worker.left_behind == 0

        await until(is_over)


async def test_a_thread_that_cannot_hear_is_left_at_once_at_its_timeout(place: Place, services: Services) -> None:
    async with world.node_at(services, place, cancel_grace=timedelta(hours=1)) as node:
        job = await world.ran(services, "hold_in_thread", timeout=0.05, seconds=600)
        assert (job.error or {})["type"] == "timeout"
        assert node.worker.left_behind == 1
        tasks.GATE.set()


async def test_a_cancel_waits_for_a_thread_that_cannot_hear(place: Place, services: Services) -> None:
    """It may be about to succeed, and then what it did is told as it was."""
    async with world.node_at(services, place, cancel_grace=timedelta(hours=1)):
        job = await world.running(services, "hold_in_thread")
        await cancel(services, job.id, by="ann")
        tasks.GATE.set()
        assert (await world.ended(services, job.id)).status is Status.SUCCEEDED


class Raising(Retry):
    def retries(self, error: BaseException) -> bool:
        raise LookupError(f"nobody knows {error}")


@task(max_attempts=3, retry=Raising())
async def asks_a_retry_that_raises() -> None:
    raise ValueError("x")


@task(timeout=0.05, retry=Raising(), max_attempts=2)
async def is_late_and_asks() -> None:
    await asyncio.sleep(600)


@pytest.mark.parametrize("name", ["asks_a_retry_that_raises", "is_late_and_asks"])
async def test_a_retry_that_raises_fails_its_job_and_frees_the_slot(place: Place, name: str) -> None:
    services = Services(place.database, Catalog.of([asks_a_retry_that_raises, is_late_and_asks]))
    async with world.node_at(services, place, slots=1) as node:
        for _ in range(2):
            assert (await world.ran(services, name)).status is Status.FAILED
        await until(partial(holds_nothing, node))


class Broken(logging.Filter):
    def filter(self, _record: logging.LogRecord) -> bool:
        raise LookupError("a filter of the host")


@pytest.mark.parametrize("logger", ["jobtrail.task", "jobtrail.worker.attempts", "jobtrail.worker.attempt"])
@pytest.mark.parametrize("name", ["fail_hard", "never_ends"])
async def test_a_filter_of_the_log_that_raises_holds_up_nothing(place: Place, logger: str, name: str) -> None:
    """asyncio logs what a callback raises, and goes on without what it had still to do."""
    services = Services(place.database, Catalog.of([fail_hard, stubborn.never_ends]))
    broken = Broken()
    args: dict[str, Any] = {"timeout": 0.05, "seconds": 0.3} if name == "never_ends" else {}
    logging.getLogger(logger).addFilter(broken)
    try:
        async with world.node_at(services, place, slots=1, cancel_grace=timedelta(seconds=0.05)) as node:
            for _ in range(2):
                assert (await world.ran(services, name, **args)).status is Status.FAILED
            await until(partial(holds_nothing, node))
        assert node.unrecorded == 0
    finally:
        logging.getLogger(logger).removeFilter(broken)


@task
async def fail_hard() -> None:
    raise ValueError("x")


@task(timeout=0.05)
def says_it_too_late(context: JobContext) -> None:
    tasks.GATE.wait(60)
    context.progress(1)


async def test_what_is_said_after_the_end_is_not_kept(place: Place) -> None:
    services = Services(place.database, Catalog.of([says_it_too_late]))
    async with world.node_at(services, place, cancel_grace=timedelta(0)) as node:
        await world.ran(services, "says_it_too_late")
        tasks.GATE.set()

        async def is_over() -> bool:
            return node.worker.left_behind == 0

        await until(is_over)
        assert not node.worker._reports._open


async def test_a_def_that_returns_a_coroutine_is_told_so(place: Place, services: Services) -> None:
    async with world.node_at(services, place):
        job = await world.ran(services, "forgot_async")
    assert "write async def" in (job.error or {})["message"]
