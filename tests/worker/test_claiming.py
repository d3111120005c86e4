"""Which jobs a node claims, when, and how many."""

import asyncio
import json
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event

from jobtrail.jobs.query import read
from jobtrail.jobs.submit import submit_batch
from jobtrail.status import Status
from jobtrail.task.submission import Submission
from jobtrail.worker.node import Node
from support import tasks, world
from support.until import until
from support.world import Place


async def test_nothing_is_claimed_beyond_the_free_slots(place: Place) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place, slots=3, threads=2) as node:
        await submit_batch(services, [Submission(task="hold") for _ in range(10)], by="ann")
        await submit_batch(services, [Submission(task="hold_in_thread") for _ in range(10)], by="ann")

        async def full() -> bool:
            running = await place.value("SELECT count(*) FROM jobtrail.jobs WHERE status = 'running'")
            return bool(running == 5)

        await until(full)
        await node.worker.claim_loop.ticked()
        rows = await place.rows(
            "SELECT task, count(*) FROM jobtrail.jobs WHERE status = 'running' GROUP BY 1 ORDER BY 1"
        )
        assert [row["count"] for row in rows] == [3, 2]
        tasks.GATE.set()

        async def done() -> bool:
            return bool(await place.value("SELECT bool_and(status = 'succeeded') FROM jobtrail.jobs"))

        await until(done)


async def test_a_thread_that_was_left_behind_keeps_its_slot(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place, threads=1) as node:
        late = await world.ended(services, (await world.submitted(services, "hold_in_thread", timeout=0.1)).id)
        assert (late.status, (late.error or {})["type"]) == (Status.FAILED, "timeout")
        assert "hold_in_thread did not end when told to: it is left behind" in caplog.text
        assert node.worker.left_behind == 1
        waiting = await world.submitted(services, "in_thread", n=1)
        await node.worker.claim_loop.ticked()
        assert (await read(services, waiting.id)).status is Status.PENDING
        tasks.GATE.set()
        assert (await world.ended(services, waiting.id)).status is Status.SUCCEEDED
        assert node.worker.left_behind == 0


async def test_launch_does_not_overtake_older_or_more_urgent_work(place: Place) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place, slots=1) as node:
        first = await world.submitted(services, "hold")
        node.launch(first.id, first.task, first.queue)
        await world.reached(services, first.id, Status.RUNNING)
        old, urgent, young = [await world.submitted(services, "noop", priority=priority) for priority in (5, 9, 5)]
        for job in (young, old, urgent):
            node.launch(job.id, job.task, job.queue)
        tasks.GATE.set()
        jobs = [await world.ended(services, job.id) for job in (urgent, old, young)]
    starts = [job.started_at for job in jobs]
    assert starts == sorted(starts, key=lambda start: (start is None, start))


async def test_launch_leaves_a_freed_slot_to_what_waits(place: Place) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place, slots=1) as node:
        first = await world.submitted(services, "hold")
        await world.reached(services, first.id, Status.RUNNING)
        old, young = await world.submitted(services, "noop"), await world.submitted(services, "noop")
        node.launch(old.id, old.task, old.queue)
        await node.worker.claim_loop.stop()  # so that nobody claims the old one before the launch below
        tasks.GATE.set()
        await world.ended(services, first.id)
        await until(partial(_has_room, node))
        node.launch(young.id, young.task, young.queue)
        await asyncio.sleep(0)
        await node.worker._claims.settle()
        assert [(await read(services, job.id)).status for job in (old, young)] == [Status.PENDING, Status.PENDING]


async def _has_room(node: Node) -> bool:
    return not node.worker.held()


async def test_a_launched_job_needs_no_poll(place: Place) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place, poll_every=timedelta(hours=1)) as node:
        await node.worker.claim_loop.ticked(0)
        for _ in range(20):
            job = await world.submitted(services, "noop")
            node.launch(job.id, job.task, job.queue)
            assert (await world.ended(services, job.id)).status is Status.SUCCEEDED
        burst = [await world.submitted(services, "noop") for _ in range(100)]
        for job in burst:
            node.launch(job.id, job.task, job.queue)
        for job in burst:
            assert (await world.ended(services, job.id)).status is Status.SUCCEEDED


async def test_an_idle_poll_is_one_statement_whatever_the_kinds(place: Place) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place, threads=2, processes=1, poll_every=timedelta(seconds=0.05)) as node:
        await node.worker.claim_loop.ticked()
        begun = node.worker.claim_loop.ticks
        polls: list[str] = []

        def heard(_: Any, __: Any, statement: str, *___: Any) -> None:
            if "WITH RECURSIVE spots" in statement:
                polls.append(statement)

        event.listen(services.database.grouped.sync_engine, "before_cursor_execute", heard)
        ticks = await node.worker.claim_loop.ticked(begun + 5) - begun
        assert 5 <= len(polls) <= ticks + 1
        for task in ("noop", "in_thread"):
            await place.psql.execute(
                "INSERT INTO jobtrail.jobs (id, task, args) VALUES (gen_random_uuid(), $1, $2)",
                task,
                json.dumps({"n": 1} if task == "in_thread" else {}),
            )

        async def done() -> bool:
            return bool(await place.value("SELECT count(*) = 2 FROM jobtrail.jobs WHERE status = 'succeeded'"))

        await until(done)


async def test_a_node_takes_only_its_queues(place: Place) -> None:
    services = world.services_at(place)
    async with world.node_at(services, place, queues=("a", "b")) as node:
        elsewhere = await world.submitted(services, "noop", queue="c")
        node.launch(elsewhere.id, elsewhere.task, elsewhere.queue)
        here = [await world.submitted(services, "noop", queue=queue) for queue in ("a", "b")]
        for job in here:
            await world.ended(services, job.id)
        await node.worker.claim_loop.ticked()
        assert (await read(services, elsewhere.id)).status is Status.PENDING


async def test_a_task_that_nobody_here_knows_stays_pending(place: Place) -> None:
    services = world.services_at(place)
    await place.psql.execute("INSERT INTO jobtrail.jobs (id, task) VALUES (gen_random_uuid(), 'foreign')")
    async with world.node_at(services, place) as node:
        await world.ended(services, (await world.submitted(services, "noop")).id)
        await node.worker.claim_loop.ticked()
    assert await place.value("SELECT status FROM jobtrail.jobs WHERE task = 'foreign'") == "pending"
