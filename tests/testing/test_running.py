"""`run` and `run_async`: submitted jobs come to their end, in the loop of the app."""

import asyncio
import sys
import warnings
from functools import partial
from typing import Any

import httpx
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from jobtrail import Jobtrail, errors, task
from jobtrail.ops.pauses import pause
from jobtrail.records import Job
from jobtrail.testing import ScratchDatabase, Workbench, workbench
from support.heavy import add
from support.host import settings_at
from support.rehearsal import RUNNING, TASKS, TOMORROW, app_of, every_day, family, halfway, stubborn, where
from support.tasks import fail, hold, in_thread, noop
from support.until import until
from support.world import Place

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of a successor of httpx
    from fastapi.testclient import TestClient


@task
async def nop() -> None:
    """None of TASKS."""


def brief(jobs: list[Job]) -> list[tuple[str, str, Any]]:
    return [(job.task, job.status, job.result) for job in jobs]


async def test_due_jobs_run_and_those_that_they_submit(trail: Jobtrail, bench: Workbench) -> None:
    """In each kind of executor, with all their attempts at once; nothing ran by itself before."""
    await trail.submit(family, 2)
    await trail.submit(noop, 1)
    await trail.submit(in_thread, n=1)
    await trail.submit(add, 2, b=3)
    await trail.submit(stubborn)
    node = trail._opened.node  # type: ignore[union-attr]
    assert node
    assert node.tasks == []
    node.worker.claim_loop.wake()
    await node.worker.claim_loop.ticked(node.worker.claim_loop.ticks)
    assert {job.status for job in bench.submitted()} == {"pending"}
    jobs = await bench.run_async()
    first, once, threaded, processed, again, *others = jobs
    assert brief([first, once, processed, *others]) == [
        ("family", "succeeded", None), ("noop", "succeeded", {"ok": 1}), ("add", "succeeded", 5),
        ("family", "succeeded", None), ("family", "succeeded", None),
    ]  # fmt: skip
    assert threaded.result["thread"].startswith("jobtrail")
    assert (again.status, again.result, again.attempt) == ("succeeded", 3, 3)
    assert (await bench.run_async(), bench.submitted()) == ([], jobs)


async def test_another_attempt_goes_on_at_the_checkpoint(trail: Jobtrail, bench: Workbench) -> None:
    await trail.submit(halfway)
    assert brief(await bench.run_async()) == [("halfway", "succeeded", [41, 2])]


async def test_jobs_that_are_due_later_wait_until_asked_for(trail: Jobtrail, bench: Workbench) -> None:
    """A job that a job puts off to tomorrow is then tomorrow's."""
    RUNNING[:] = [trail]
    await trail.options(run_at=TOMORROW).submit(every_day, 1)
    await trail.submit(noop)
    assert brief(await bench.run_async()) == [("noop", "succeeded", {"ok": 0})]
    assert brief(await bench.run_async(later=True)) == [("every_day", "succeeded", 1)]
    assert brief(await bench.run_async(later=True)) == [("every_day", "succeeded", 2)]


async def test_paused_jobs_stay(trail: Jobtrail, bench: Workbench) -> None:
    await trail.options(queue="slow").submit(where)
    await trail.submit(noop)
    await trail.options(queue="mail").submit(where)
    bench.database.ask(partial(pause, kind="queue", name="slow", by="ann"))
    bench.database.ask(partial(pause, kind="task", name="noop", by="ann"))
    assert [(job.task, job.queue) for job in await bench.run_async()] == [("where", "mail")]


async def test_only_jobs_that_ended_meanwhile_are_given(trail: Jobtrail, bench: Workbench) -> None:
    cancelled, failed = await trail.submit(noop), await trail.submit(fail, "error")
    await trail.cancel(cancelled.id, reason="enough")
    [job] = await bench.run_async()
    assert job.id == failed.id
    with pytest.raises(errors.JobFailedError, match="ValueError: as asked") as found:
        bench.result_of(job)
    assert "Traceback (most recent call last)" in found.value.__notes__[0]
    with pytest.raises(errors.JobCancelledError, match="enough"):
        bench.result_of(bench.submitted(noop)[0])
    await trail.retry(failed.id)
    await trail.retry(cancelled.id)
    again = await bench.run_async()
    assert [(job.id, job.attempt) for job in again] == [(cancelled.id, 1), (failed.id, 2)]
    assert bench.result_of(again[0]) == {"ok": 0}


async def test_jobs_that_take_too_long_are_named(trail: Jobtrail, bench: Workbench) -> None:
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
    async def submit() -> list[Job]:
        async with Jobtrail(tasks=TASKS) as trail:
            await trail.submit(family, 1)
        return await bench.run_async() if within == "the loop" else []

    jobs = asyncio.run(submit()) or bench.run()
    assert brief(jobs) == [("family", "succeeded", None)] * 2


def test_an_app_that_outlives_a_test(scratch: ScratchDatabase) -> None:
    """In plain tests the jobs run in the loop of the client."""
    with scratch.environment(), TestClient(app_of(Jobtrail(tasks=TASKS))) as client:
        for _ in range(2):
            with workbench(scratch) as bench:
                loop = client.get("/where").json()
                jobs = bench.run()
                assert brief(jobs) == [("where", "succeeded", loop)]
                assert jobs == bench.submitted(where) == [bench.assert_submitted(where)]


async def test_a_loop_that_is_blocked_is_named(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["jobtrail.testing.workbench"], "PATIENCE", 0.1)
    with TestClient(app_of(Jobtrail(tasks=TASKS))) as client:
        client.get("/block")
        with pytest.raises(TimeoutError, match=r"event loop is blocked: no answer within 0\.2 s"):
            bench.run(within=0.1)

        async def has_ended_after_all() -> bool:
            return client.get("/runs").json() is False

        await until(has_ended_after_all)


@pytest.mark.parametrize("waits", [False, True])
async def test_a_client_with_a_loop_of_its_own_in_an_async_test(bench: Workbench, waits: bool) -> None:
    with TestClient(app_of(Jobtrail(tasks=TASKS))) as client:
        loop = client.get("/where").json()
        jobs = await bench.run_async() if waits else bench.run()
    assert brief(jobs) == [("where", "succeeded", loop)]
    assert loop != id(asyncio.get_running_loop())


async def test_in_an_async_test_they_run_in_its_loop(bench: Workbench) -> None:
    trail = Jobtrail(tasks=TASKS)
    transport = httpx.ASGITransport(app_of(trail))
    async with trail, httpx.AsyncClient(transport=transport, base_url="http://jobs.test") as client:
        await client.get("/where")
        assert brief(await bench.run_async()) == [("where", "succeeded", id(asyncio.get_running_loop()))]


async def test_an_app_with_settings_or_an_engine_of_its_own(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBTRAIL_DATABASE_URL", "postgresql://127.0.0.1:1/none")
    async with Jobtrail(bench.database.settings(ttl=5), tasks=TASKS) as trail:
        await trail.submit(noop)
        [job] = await bench.run_async()
    assert job.ttl
    assert job.ttl.total_seconds() == 5
    engine = create_async_engine(bench.database.sqlalchemy_url, pool_size=1, max_overflow=0)
    async with Jobtrail(engine=engine, tasks=TASKS) as trail:
        await trail.submit(family, 1)
        assert len(await bench.run_async()) == 2
    await engine.dispose()


async def test_the_wrong_app_is_refused(scratch: ScratchDatabase, bench: Workbench, place: Place) -> None:
    """One that runs jobs by itself, is on another database, or does not know the task."""
    async with Jobtrail(bench.database.settings(slots=1), tasks=TASKS).lifespan():
        with pytest.raises(errors.SettingsError, match=r"behind the test's back.*jobtrail\.database\.settings\(\)"):
            await bench.run_async()
    async with Jobtrail(settings_at(place.url.libpq), tasks=TASKS) as trail:
        job = await trail.submit(noop)
        with pytest.raises(errors.SettingsError, match="start the app after the fixture"):
            await bench.run_async()
        with pytest.raises(errors.SettingsError, match=scratch.name):
            workbench(scratch).__enter__()
        assert (await trail.get(job.id)).status == "pending"
    async with Jobtrail(tasks=[nop]) as trail:
        await trail.submit(nop)
    with pytest.raises(errors.UnknownTaskError, match="'nop'; did you mean noop") as found:
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
