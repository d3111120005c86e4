"""A node starts nothing that is paused, by its poll and by launch, and goes on when it may."""

from datetime import timedelta

import pytest

from jobtrail.job.record import PauseKind
from jobtrail.job.status import Status
from jobtrail.jobs.query import read
from jobtrail.ops.pauses import pause, resume
from support import house, tasks
from support.database import Place


@pytest.mark.parametrize(("kind", "name"), [("queue", "mail"), ("task", "in_thread")])
async def test_what_is_paused_waits_while_the_rest_runs(place: Place, kind: PauseKind, name: str) -> None:
    desk = house.desk_at(place)
    waiting = [await house.submitted(desk, "in_thread", queue="mail", n=n) for n in range(3)]
    await pause(desk, kind, name, by="ann")
    async with house.node_at(desk, place) as node:
        other = [await house.submitted(desk, "noop") for _ in range(3)]
        for job in other:
            assert (await house.ended(desk, job.id)).status is Status.SUCCEEDED
        await node.worker.claim_loop.ticked()
        assert [(await read(desk, job.id)).status for job in waiting] == [Status.PENDING] * 3
        await resume(desk, kind, name, by="ann")
        for job in waiting:
            ended = await house.ended(desk, job.id, within=2)
            assert (ended.status, ended.attempt) == (Status.SUCCEEDED, 1)


@pytest.mark.parametrize(("kind", "name"), [("queue", "default"), ("task", "noop")])
async def test_a_fresh_job_of_what_is_paused_is_not_launched(place: Place, kind: PauseKind, name: str) -> None:
    desk = house.desk_at(place)
    async with house.node_at(desk, place, poll_every=timedelta(hours=1), slots=1) as node:
        await node.worker.claim_loop.ticked(0)
        first = await house.submitted(desk, "noop")
        node.launch(first.id, first.task, first.queue)
        assert (await house.ended(desk, first.id)).status is Status.SUCCEEDED  # launch works without a poll
        await pause(desk, kind, name, by="ann")
        waiting = await house.submitted(desk, "noop")
        node.launch(waiting.id, waiting.task, waiting.queue)
        other = await house.submitted(desk, "nothing", queue="other")
        node.launch(other.id, other.task, other.queue)  # into the slot that the one before gave back
        node.worker.claim_loop.wake()
        assert (await house.ended(desk, other.id)).status is Status.SUCCEEDED
        assert (await read(desk, waiting.id)).status is Status.PENDING
        await resume(desk, kind, name, by="ann")
        node.worker.claim_loop.wake()
        assert (await house.ended(desk, waiting.id)).status is Status.SUCCEEDED


async def test_what_runs_when_it_is_paused_ends_as_it_would(place: Place) -> None:
    desk = house.desk_at(place)
    async with house.node_at(desk, place) as node:
        job = await house.submitted(desk, "hold")
        await house.reached(desk, job.id, Status.RUNNING)
        await pause(desk, "task", "hold", by="ann")
        await pause(desk, "queue", "default", by="ann")
        await node.worker.claim_loop.ticked()
        tasks.GATE.set()
        ended = await house.ended(desk, job.id)
        assert (ended.status, ended.attempt) == (Status.SUCCEEDED, 1)
