"""One attempt: told to end before it began, while it runs, and when it does not listen."""

from datetime import timedelta

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
        assert "never_ends did not end when told to: it is left behind" in str((job.error or {})["traceback"])

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


async def test_a_def_that_returns_a_coroutine_is_told_so(place: Place, services: Services) -> None:
    async with world.node_at(services, place):
        job = await world.ran(services, "forgot_async")
    assert "write async def" in (job.error or {})["message"]
