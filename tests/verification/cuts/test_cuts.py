"""The runner of a job is cancelled at each of its awaits, once and again while it cleans up: nothing leaks, no row
stays behind, and no attempt begins twice.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

import pytest

from cuts import tasks
from cuts.cutting import Cut
from jobtrail.db.engine import Database
from jobtrail.jobs.claim import claim_these
from jobtrail.jobs.fence import AttemptRef
from jobtrail.jobs.history import read_history
from jobtrail.jobs.query import read
from jobtrail.jobs.services import Services
from jobtrail.records import Claimed
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from jobtrail.worker.node import Node
from support import world
from support.until import until
from support.world import Place

LEASE: Final = timedelta(seconds=1)
JOBS: Final = (
    ("on_loop", ""), ("on_loop", "talk"), ("on_loop", "write"), ("on_loop", "write, fail"), ("in_thread", ""),
    ("in_process", ""),
)  # fmt: skip


TO_RECORD_ALONE: Final = JOBS[1:4]
"""What is more than one statement: the last lines, a job session."""


@pytest.mark.parametrize(
    ("where", "below", "wanted"),
    [
        ("GroupCommit._write_all", False, JOBS[:1]),
        pytest.param("Attempt._record_alone", False, TO_RECORD_ALONE, marks=pytest.mark.verify),
        pytest.param("Attempt._record_alone", True, TO_RECORD_ALONE, marks=pytest.mark.verify),
    ],
    ids=["claim", "record", "record and what it starts"],
)
async def test_a_runner_that_is_cancelled(
    place: Place, where: str, below: bool, wanted: Sequence[tuple[str, str]]
) -> None:
    await place.psql.execute(tasks.TABLE)
    services = Services(place.database, Catalog.from_modules([tasks]))
    jobs: list[UUID] = []
    # polls when it is told to, so that nothing but a launch claims what is being cut
    terms: dict[str, Any] = {"poll_every": timedelta(seconds=60), "cancel_grace": timedelta(seconds=0.2)}
    async with world.node_at(services, place, lease=LEASE, processes=2, **terms) as node:
        for task, how in wanted:
            for twice in (False, True):
                jobs += await _cut_at_each_await(node, services, place, (task, how), Cut.each(where, below, twice))
        left = Counter([(await read(services, each)).status.value for each in jobs])
        for each in jobs:
            await _ended(node, services, each)
        await _runs(node, services)
    print(f"{where}, below: {below}: {len(jobs)} cuts, and then", dict(left))
    await _check(place, services, jobs)


@pytest.mark.verify
@pytest.mark.parametrize("name", ["Worker._give_back", "Worker._adopt"])
async def test_what_sees_to_a_claim_that_nobody_runs(place: Place, name: str) -> None:
    await place.psql.execute(tasks.TABLE)
    services = Services(place.database, Catalog.from_modules([tasks]))
    jobs: list[UUID] = []
    async with world.node_at(services, place, lease=LEASE, queues=["another"]) as node:
        for cut in Cut.each(name, False, False, 4) + Cut.each(name, False, True, 4):
            jobs.append((await world.submitted(services, "on_loop")).id)
            (claimed,) = await claim_these(place.database, jobs[-1:], node=node.id, lease=LEASE)
            with cut.armed():
                _see_to(node, claimed, name)
                await until(partial(_is_over, cut, node))
            await until(partial(_is_quiet, node, place.database))
    async with world.node_at(services, place, lease=LEASE) as node:
        for each in jobs:
            await _ended(node, services, each)
        await _runs(node, services)
    await _check(place, services, jobs)


def _see_to(node: Node, claimed: Claimed, name: str) -> None:
    worker = node.worker
    if name == "Worker._adopt":
        worker._attempts.keep(worker._adopt([AttemptRef(claimed.id, claimed.attempt)]))
    else:
        worker._slots.take("loop")
        worker._attempts.keep(worker._give_back(claimed))


async def _cut_at_each_await(
    node: Node, services: Services, place: Place, wanted: tuple[str, str], cuts: list[Cut]
) -> list[UUID]:
    """A job for each; the last one is not cut, since it has no more awaits."""
    jobs: list[UUID] = []
    task, how = wanted
    kind = services.catalog[task].runs_in
    for cut in cuts:
        await until(lambda: _nothing_waits(node, kind))
        job = await world.submitted(services, task, how=how)
        jobs.append(job.id)
        with cut.armed():
            node.launch(job.id, task, job.queue)
            await until(partial(_is_cut_or_ended, cut, services, job.id), every=0.005)
        if cut.hit is None:
            assert len(jobs) > 1, "nothing was cut"
            return jobs
        await until(lambda: _is_quiet(node, place.database), every=0.005)
    raise AssertionError("there are more awaits than cuts")


async def _check(place: Place, services: Services, jobs: list[UUID]) -> None:
    for each in jobs:
        job, history = await read(services, each), await read_history(services, each)
        assert [move.seq for move in history] == list(range(1, len(history) + 1))
        assert history[-1].to_status == job.status
        begun = [tasks.BEGUN[str(each), attempt] for attempt in range(1, job.attempt + 1)]
        assert max(begun) <= 1, f"an attempt of {job} was begun twice"
        released = sum(move.reason == "released" for move in history)
        assert job.attempt <= 1 + released, history
        effects = await place.value("SELECT count(*) FROM effects WHERE job = $1", each)
        assert effects == (job.status is Status.SUCCEEDED and "write" in str(job.args)), job
    idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
    assert await place.value(idle) == 0


async def _ended(node: Node, services: Services, job_id: UUID) -> None:
    """By itself, by the claim loop of this node, or by its rescue after the lease."""

    async def is_terminal() -> bool:
        node.worker.claim_loop.wake()
        return (await read(services, job_id)).status.is_terminal

    await until(is_terminal)


async def _runs(node: Node, services: Services) -> None:
    for task in ("on_loop", "in_thread", "in_process"):
        job = await world.submitted(services, task)
        await _ended(node, services, job.id)
        assert (await read(services, job.id)).status is Status.SUCCEEDED


async def _nothing_waits(node: Node, kind: Any) -> bool:
    """Then a launch claims its job itself."""
    if not node.worker._nothing_waits[kind]:
        node.worker.claim_loop.wake()
        await asyncio.sleep(0.005)
    return bool(node.worker._nothing_waits[kind]) and node.worker._slots.free(kind) > 0


async def _is_cut_or_ended(cut: Cut, services: Services, job_id: UUID) -> bool:
    return cut.hit is not None or (await read(services, job_id)).status.is_terminal


async def _is_over(cut: Cut, node: Node) -> bool:
    return cut.hit is not None or not node.worker._attempts._kept


async def _is_quiet(node: Node, database: Database) -> bool:
    """Places, connections of each pool and attempts: nothing is in use."""
    pools = [each.pool.checkedout() for each in (database.grouped, database.engine, database.jobs)]
    assert database.direct is not None
    taken = [*node.worker._slots._taken.values(), database.direct.in_use]
    return not any([*taken, *pools, len(node.worker.held())])
