"""A node starts nothing that is paused, by its poll and by launch, and goes on when it may."""

from datetime import timedelta

import pytest

from jobtrail.jobs.query import read
from jobtrail.ops.pauses import pause, resume
from jobtrail.records import PauseKind
from jobtrail.status import Status
from support import tasks, world
from support.world import Place


@pytest.mark.parametrize(("kind", "name"), [("queue", "mail"), ("task", "in_thread")])
async def test_what_is_paused_waits_while_the_rest_runs(place: Place, kind: PauseKind, name: str) -> None:
    services = world.services_at(place)
    waiting = [await world.submitted(services, "in_thread", queue="mail", n=n) for n in range(3)]
    await pause(services, kind, name, by="ann")
    async with world.node_at(services, place) as node:
        other = [await world.submitted(services, "noop") for _ in range(3)]
        for job in other:
            assert (await world.ended(services, job.id)).status is Status.SUCCEEDED
        await node.worker.claim_loop.ticked()
        assert [(await read(services, job.id)).status for job in waiting] == [Status.PENDING] * 3
        await resume(services, kind, name, by="ann")
        for job in waiting:
            ended = await world.ended(services, job.id)
            assert (ended.status, ended.attempt) == (Status.SUCCEEDED, 1)


@pytest.mark.parametrize(("kind", "name"), [("queue", "default"), ("task", "noop")])
async def test_a_fresh_job_of_what_is_paused_is_not_launched(place: Place, kind: PauseKind, name: str) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place, poll_every=timedelta(hours=1), slots=1) as node:
        await node.worker.claim_loop.ticked(0)
        first = await world.submitted(services, "noop")
        node.launch(first.id, first.task, first.queue)
        assert (await world.ended(services, first.id)).status is Status.SUCCEEDED  # launch works without a poll
        await pause(services, kind, name, by="ann")
        waiting = await world.submitted(services, "noop")
        node.launch(waiting.id, waiting.task, waiting.queue)
        other = await world.submitted(services, "nothing", queue="other")
        node.launch(other.id, other.task, other.queue)  # into the slot that the one before gave back
        node.worker.claim_loop.wake()
        assert (await world.ended(services, other.id)).status is Status.SUCCEEDED
        assert (await read(services, waiting.id)).status is Status.PENDING
        await resume(services, kind, name, by="ann")
        node.worker.claim_loop.wake()
        assert (await world.ended(services, waiting.id)).status is Status.SUCCEEDED


async def test_what_runs_when_it_is_paused_ends_as_it_would(place: Place) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place) as node:
        job = await world.submitted(services, "hold")
        await world.reached(services, job.id, Status.RUNNING)
        await pause(services, "task", "hold", by="ann")
        await pause(services, "queue", "default", by="ann")
        await node.worker.claim_loop.ticked()
        tasks.GATE.set()
        ended = await world.ended(services, job.id)
        assert (ended.status, ended.attempt) == (Status.SUCCEEDED, 1)
