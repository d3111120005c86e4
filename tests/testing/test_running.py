"""`run` and `run_async`: what was submitted comes to its end, in the loop of the app."""

import asyncio
import sys
import time
import warnings
from functools import partial
from typing import Any

import httpx
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from jobtrail import Jobtrail, task
from jobtrail.errors import JobCancelledError, JobFailedError, SettingsError, UnknownTaskError
from jobtrail.ops.pauses import pause
from jobtrail.records import Job, PauseKind
from jobtrail.testing import ScratchDatabase, Workbench, workbench
from support.heavy import add
from support.host import settings_at
from support.rehearsal import RUNNING, TASKS, TOMORROW, app_of, every_day, family, stubborn, where
from support.tasks import fail, hold, in_thread, noop
from support.world import Place

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of a successor of httpx
    from fastapi.testclient import TestClient


@task
async def nop() -> None:
    """None of TASKS."""


def told(jobs: list[Job]) -> list[tuple[str, str, Any]]:
    return [(job.task, job.status, job.result) for job in jobs]


async def test_what_is_due_runs_and_what_it_submits(trail: Jobtrail, bench: Workbench) -> None:
    await trail.submit(family, 2)
    await trail.submit(noop, 1)
    jobs = await bench.run_async()
    assert [(job.task, job.args, job.status) for job in jobs] == [
        ("family", {"generations": 2}, "succeeded"),
        ("noop", {"n": 1}, "succeeded"),
        ("family", {"generations": 1}, "succeeded"),
        ("family", {"generations": 0}, "succeeded"),
    ]
    assert (await bench.run_async(), bench.submitted()) == ([], jobs)


async def test_nothing_runs_behind_the_back_of_a_test(trail: Jobtrail, bench: Workbench) -> None:
    """Whatever else the environment says."""
    await trail.submit(noop)
    node = trail._opened.node  # type: ignore[union-attr]
    assert node
    assert node.tasks == []
    node.worker.claim_loop.wake()
    await node.worker.claim_loop.ticked(node.worker.claim_loop.ticks)
    assert [job.status for job in bench.submitted()] == ["pending"]


async def test_further_attempts_come_at_once(trail: Jobtrail, bench: Workbench) -> None:
    await trail.submit(stubborn)
    [job] = await bench.run_async()
    assert (job.status, job.result, job.attempt) == ("succeeded", 3, 3)


async def test_what_is_due_later_waits_until_asked_for(trail: Jobtrail, bench: Workbench) -> None:
    """What a job puts off to tomorrow is then tomorrow's."""
    RUNNING[:] = [trail]
    await trail.options(run_at=TOMORROW).submit(every_day, 1)
    await trail.submit(noop)
    assert told(await bench.run_async()) == [("noop", "succeeded", {"ok": 0})]
    assert told(await bench.run_async(later=True)) == [("every_day", "succeeded", 1)]
    assert told(await bench.run_async(later=True)) == [("every_day", "succeeded", 2)]


@pytest.mark.parametrize(("kind", "name"), [("queue", "default"), ("task", "noop")])
async def test_what_is_paused_stays(trail: Jobtrail, bench: Workbench, kind: PauseKind, name: str) -> None:
    await trail.submit(noop)
    await trail.options(queue="mail").submit(where)
    bench.database.ask(partial(pause, kind=kind, name=name, by="ann"))
    assert [job.task for job in await bench.run_async()] == ["where"]


async def test_every_kind_of_task_runs(trail: Jobtrail, bench: Workbench) -> None:
    await trail.submit(in_thread, n=1)
    await trail.submit(add, 2, b=3)
    threaded, processed = await bench.run_async()
    assert threaded.result["thread"].startswith("jobtrail")
    assert processed.result == 5


async def test_only_what_ended_meanwhile_is_told(trail: Jobtrail, bench: Workbench) -> None:
    cancelled, failed = await trail.submit(noop), await trail.submit(fail, "error")
    await trail.cancel(cancelled.id)
    assert [job.id for job in await bench.run_async()] == [failed.id]
    await trail.retry(failed.id)
    await trail.retry(cancelled.id)
    assert [(job.id, job.attempt) for job in await bench.run_async()] == [(cancelled.id, 1), (failed.id, 2)]


async def test_a_result_is_asked_for(trail: Jobtrail, bench: Workbench) -> None:
    await trail.cancel((await trail.submit(noop)).id, reason="enough")
    await trail.submit(noop, 4)
    await trail.submit(fail, "error")
    well, failed = await bench.run_async()
    assert bench.result_of(well) == {"ok": 4}
    with pytest.raises(JobFailedError, match="ValueError: as asked") as found:
        bench.result_of(failed)
    assert "Traceback (most recent call last)" in found.value.__notes__[0]
    with pytest.raises(JobCancelledError, match="enough"):
        bench.result_of(bench.submitted(noop)[0])


async def test_what_takes_too_long_is_named(trail: Jobtrail, bench: Workbench) -> None:
    ids = [(await trail.submit(hold)).id for _ in range(33)]
    with pytest.raises(TimeoutError) as found:
        await bench.run_async(within=3)
    lines = str(found.value).splitlines()
    assert lines[0] == "not everything has ended within 3 s:"
    assert len(lines) == 34
    assert [line.split(", ")[1] for line in lines[1:]].count("in attempt 1") == 32
    assert lines[-1].startswith(f"  job {ids[-1]} of 'hold' has been pending for ")
    assert lines[-1].endswith(", in queue 'default'")
    assert await trail.list(status="running") == []


@pytest.mark.parametrize("within", ["the loop", "no loop"])
def test_without_an_app_they_run_all_the_same(bench: Workbench, within: str) -> None:
    async def submit() -> None:
        async with Jobtrail(tasks=TASKS) as trail:
            await trail.submit(family, 1)

    async def submit_and_run() -> list[Job]:
        await submit()
        return await bench.run_async()

    if within == "the loop":
        jobs = asyncio.run(submit_and_run())
    else:
        asyncio.run(submit())
        jobs = bench.run()
    assert told(jobs) == [("family", "succeeded", None)] * 2


def test_in_a_plain_test_they_run_in_the_loop_of_the_client(bench: Workbench) -> None:
    with TestClient(app_of(Jobtrail(tasks=TASKS))) as client:
        loop = client.get("/where").json()
        bench.assert_submitted(where)
        assert told(bench.run()) == [("where", "succeeded", loop)]


def test_a_loop_that_is_blocked_is_told(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["jobtrail.testing.workbench"], "PATIENCE", 0.1)
    with TestClient(app_of(Jobtrail(tasks=TASKS))) as client:
        client.get("/block")
        with pytest.raises(TimeoutError, match=r"event loop is blocked: no answer within 0\.2 s"):
            bench.run(within=0.1)
        while client.get("/runs").json():  # until it has ended after all
            time.sleep(0.05)


@pytest.mark.parametrize("waits", [False, True])
async def test_a_client_with_a_loop_of_its_own_in_an_async_test(bench: Workbench, waits: bool) -> None:
    with TestClient(app_of(Jobtrail(tasks=TASKS))) as client:
        loop = client.get("/where").json()
        jobs = await bench.run_async() if waits else bench.run()
    assert told(jobs) == [("where", "succeeded", loop)]
    assert loop != id(asyncio.get_running_loop())


async def test_in_an_async_test_they_run_in_its_loop(bench: Workbench) -> None:
    trail = Jobtrail(tasks=TASKS)
    transport = httpx.ASGITransport(app_of(trail))
    async with trail, httpx.AsyncClient(transport=transport, base_url="http://jobs.test") as client:
        await client.get("/where")
        assert told(await bench.run_async()) == [("where", "succeeded", id(asyncio.get_running_loop()))]


async def test_an_app_with_settings_of_its_own(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBTRAIL_DATABASE_URL", "postgresql://127.0.0.1:1/none")
    async with Jobtrail(bench.database.settings(ttl=5), tasks=TASKS) as trail:
        await trail.submit(noop)
        [job] = await bench.run_async()
    assert job.ttl
    assert job.ttl.total_seconds() == 5


async def test_an_app_with_an_engine_of_its_own(bench: Workbench) -> None:
    engine = create_async_engine(bench.database.sqlalchemy_url, pool_size=1, max_overflow=0)
    async with Jobtrail(engine=engine, tasks=TASKS) as trail:
        await trail.submit(family, 1)
        assert len(await bench.run_async()) == 2
    await engine.dispose()


def test_an_app_that_outlives_a_test(scratch: ScratchDatabase) -> None:
    with scratch.environment(), TestClient(app_of(Jobtrail(tasks=TASKS))) as client:
        for _ in range(2):
            with workbench(scratch) as bench:
                client.get("/where")
                assert bench.run() == bench.submitted(where) == [bench.assert_submitted(where)]


async def test_an_app_that_runs_jobs_itself_is_refused(bench: Workbench) -> None:
    async with Jobtrail(bench.database.settings(slots=1), tasks=TASKS).lifespan():
        with pytest.raises(SettingsError, match=r"behind the test's back.*jobtrail\.database\.settings\(\)"):
            await bench.run_async()


async def test_an_app_on_another_database_is_refused(scratch: ScratchDatabase, bench: Workbench, place: Place) -> None:
    async with Jobtrail(settings_at(place.url.libpq), tasks=TASKS) as trail:
        job = await trail.submit(noop)
        with pytest.raises(SettingsError, match="start the app after the fixture"):
            await bench.run_async()
        with pytest.raises(SettingsError, match=scratch.name):
            workbench(scratch).__enter__()
        assert (await trail.get(job.id)).status == "pending"


async def test_a_job_that_nobody_here_can_run_is_told(bench: Workbench) -> None:
    async with Jobtrail(tasks=[nop]) as trail:
        await trail.submit(nop)
    with pytest.raises(UnknownTaskError, match="'nop'; did you mean noop") as found:
        await bench.run_async()
    assert "import its module" in found.value.__notes__[0]


async def test_a_loop_cannot_wait_for_itself(trail: Jobtrail, bench: Workbench) -> None:
    with pytest.raises(RuntimeError, match=r"await jobtrail\.run_async\(\)"):
        bench.run()
    await trail._leave()
    with pytest.raises(RuntimeError, match=r"await jobtrail\.run_async\(\)"):
        bench.run()
    await trail._enter(runs=True)


@pytest.mark.usefixtures("trail")
def test_a_loop_that_stands_still_is_not_waited_for(bench: Workbench) -> None:
    with pytest.raises(RuntimeError, match="write an async one"):
        bench.run()
