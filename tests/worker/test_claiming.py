"""Which jobs a node claims, when, and how many."""

import asyncio
from datetime import timedelta

import pytest

from jobtrail.jobs.query import read
from jobtrail.jobs.services import Services
from jobtrail.jobs.submit import submit_batch
from jobtrail.ops.pauses import PauseKind, pause, resume
from jobtrail.records import Job
from jobtrail.status import Status
from jobtrail.task.submission import Submission
from jobtrail.worker.node import Node
from support import tasks, world
from support.statements import statements
from support.until import until
from support.world import Place, submitted


def launch(node: Node, *jobs: Job) -> None:
    for job in jobs:
        node.launch(job.id, job.task, job.queue)


async def statuses(services: Services, *jobs: Job) -> set[Status]:
    return {(await read(services, job.id)).status for job in jobs}


async def succeeded(services: Services, *jobs: Job) -> None:
    for job in jobs:
        ended = await world.ended(services, job.id)
        assert (ended.status, ended.attempt) == (Status.SUCCEEDED, 1)


async def test_nothing_is_claimed_beyond_the_free_slots(place: Place, services: Services) -> None:
    async with world.node_at(services, place, slots=3, threads=2) as node:
        wanted = [Submission(task=task) for task in ("hold", "hold_in_thread") for _ in range(10)]
        jobs = await submit_batch(services, wanted, by="ann")
        query = "SELECT array_agg(task ORDER BY task) FROM jobtrail.jobs WHERE status = 'running'"

        async def full() -> bool:
            return len(await place.value(query) or []) == 5

        await until(full)
        await node.worker.claim_loop.ticked()
        assert await place.value(query) == ["hold"] * 3 + ["hold_in_thread"] * 2
        tasks.GATE.set()
        await succeeded(services, *jobs)


async def test_a_thread_that_was_left_behind_keeps_its_slot(
    place: Place, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.node_at(services, place, threads=1) as node:
        late = await world.ran(services, "hold_in_thread", timeout=0.1)
        assert (late.status, (late.error or {})["type"]) == (Status.FAILED, "timeout")
        assert "hold_in_thread did not end when told to: it keeps running" in caplog.text
        assert node.worker.left_behind == 1
        waiting = await submitted(services, "in_thread", n=1)
        await node.worker.claim_loop.ticked()
        assert await statuses(services, waiting) == {Status.PENDING}
        tasks.GATE.set()
        await succeeded(services, waiting)
        assert node.worker.left_behind == 0


async def test_launch_does_not_overtake_older_or_more_urgent_work(place: Place, services: Services) -> None:
    async with world.node_at(services, place, slots=1) as node:
        first = await submitted(services, "hold")
        launch(node, first)
        await world.reached(services, first.id, Status.RUNNING)
        old, urgent, young = [await submitted(services, "noop", priority=priority) for priority in (5, 9, 5)]
        launch(node, young, old, urgent)
        tasks.GATE.set()
        jobs = [await world.ended(services, job.id) for job in (urgent, old, young)]
    starts = [job.started_at for job in jobs]
    assert starts == sorted(starts, key=lambda start: (start is None, start))


async def test_launch_leaves_a_freed_slot_to_what_waits(place: Place, services: Services) -> None:
    async with world.node_at(services, place, slots=1) as node:
        first = await world.running(services, "hold")
        old, young = await submitted(services, "noop"), await submitted(services, "noop")
        launch(node, old)
        await node.worker.claim_loop.stop()  # so that nobody claims the old one before the launch below
        tasks.GATE.set()
        await world.ended(services, first.id)

        async def has_room() -> bool:
            return not node.worker.held()

        await until(has_room)
        launch(node, young)
        await asyncio.sleep(0)
        await node.worker._claims.settle()
        assert await statuses(services, old, young) == {Status.PENDING}


async def test_a_launched_job_needs_no_poll(place: Place, services: Services) -> None:
    async with world.node_at(services, place, poll_every=timedelta(hours=1)) as node:
        await node.worker.claim_loop.ticked(0)
        for count in (1, 1, 1, 30):
            burst = [await submitted(services, "noop") for _ in range(count)]
            launch(node, *burst)
            await succeeded(services, *burst)


async def test_an_idle_poll_is_one_statement_whatever_the_kinds(place: Place, services: Services) -> None:
    async with world.node_at(services, place, threads=2, processes=1) as node:
        await node.worker.claim_loop.ticked()
        begun = node.worker.claim_loop.ticks
        with statements(place) as sent:
            ticks = await node.worker.claim_loop.ticked(begun + 5) - begun
        polls = [each for each in sent if "WITH RECURSIVE spots" in each]
        assert 5 <= len(polls) <= ticks + 1
        await succeeded(services, await submitted(services, "noop"), await submitted(services, "in_thread", n=1))


async def test_a_node_takes_only_its_queues_and_the_tasks_that_it_knows(place: Place, services: Services) -> None:
    foreign = "INSERT INTO jobtrail.jobs (id, task, queue) VALUES (gen_random_uuid(), 'foreign', 'a')"
    await place.psql.execute(foreign)
    async with world.node_at(services, place, queues=("a", "b")) as node:
        elsewhere = await submitted(services, "noop", queue="c")
        launch(node, elsewhere)
        await succeeded(services, *[await submitted(services, "noop", queue=queue) for queue in ("a", "b")])
        await node.worker.claim_loop.ticked()
        assert await statuses(services, elsewhere) == {Status.PENDING}
    assert await place.value("SELECT status FROM jobtrail.jobs WHERE task = 'foreign'") == "pending"


@pytest.mark.parametrize(("kind", "name"), [("queue", "mail"), ("task", "in_thread")])
async def test_what_is_paused_waits_while_the_rest_runs(
    place: Place, services: Services, kind: PauseKind, name: str
) -> None:
    waiting = [await submitted(services, "in_thread", queue="mail", n=n) for n in range(3)]
    await pause(services, kind, name, by="ann")
    async with world.node_at(services, place) as node:
        running = await world.running(services, "hold")
        await pause(services, "task", "hold", by="ann")
        await succeeded(services, *[await submitted(services, "noop") for _ in range(3)])
        await node.worker.claim_loop.ticked()
        assert await statuses(services, *waiting) == {Status.PENDING}
        await resume(services, kind, name, by="ann")
        await succeeded(services, *waiting)
        tasks.GATE.set()
        await succeeded(services, running)  # it was paused while it ran


@pytest.mark.parametrize(("kind", "name"), [("queue", "default"), ("task", "noop")])
async def test_a_fresh_job_of_what_is_paused_is_not_launched(
    place: Place, services: Services, kind: PauseKind, name: str
) -> None:
    async with world.node_at(services, place, poll_every=timedelta(hours=1), slots=1) as node:
        await node.worker.claim_loop.ticked(0)
        first = await submitted(services, "noop")
        launch(node, first)
        await succeeded(services, first)  # launch works without a poll
        await pause(services, kind, name, by="ann")
        waiting, other = await submitted(services, "noop"), await submitted(services, "nothing", queue="other")
        launch(node, waiting, other)  # into the slot that the one before gave back
        node.worker.claim_loop.wake()
        await succeeded(services, other)
        assert await statuses(services, waiting) == {Status.PENDING}
        await resume(services, kind, name, by="ann")
        node.worker.claim_loop.wake()
        await succeeded(services, waiting)
