"""`jobtrail work`: a node without HTTP, as a process of its own."""

import asyncio
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from jobtrail.ids import new_job_id
from support.command import TOP, Command, ended
from support.rows import born
from support.served import CHECKOUT, Served, Working
from support.until import until
from support.world import Place

NEVER = 60.0
"""Seconds of grace that no test waits for."""


async def test_it_says_what_it_is_and_takes_its_queue_only(jobtrail: Command, place: Place) -> None:
    ours, theirs = await born(place, queue="heavy"), await born(place, queue="light")
    process = await jobtrail.start("work", "--queue", "heavy", "--slots", "4", JOBTRAIL_TREADS="1")
    assert process.stdout
    said = (await process.stdout.readline()).decode()
    (node,) = await until(lambda: place.rows("SELECT id, queues, slots FROM jobtrail.nodes"))
    await until(lambda: has_status(place, ours, "succeeded"))
    process.send_signal(signal.SIGINT)
    done = await ended(process)
    slots = f"4 slots, 8 threads, {os.cpu_count()} processes"
    assert said.startswith(f"Jobtrail works on queues heavy: {slots}; tasks about, ")
    assert said.endswith(f" more; node {node['id']}; Ctrl-C stops it\n")
    assert (node["queues"], done.code, done.out) == (["heavy"], 0, "")
    assert "JOBTRAIL_TREADS is not a setting; did you mean JOBTRAIL_THREADS" in done.err
    assert "Traceback" not in done.err
    assert await status_of(place, theirs) == "pending"
    assert await place.rows("SELECT FROM jobtrail.nodes") == []


async def test_options_win_over_settings_and_a_job_ends_within_the_grace(folder: Path, place: Place) -> None:
    gate = folder / "gate"
    job_id = await gated(place, gate, queue="mail")
    words = ("--queue", "heavy", "--queue", "mail", "--slots", "2", "--threads", "0")
    settings = {"JOBTRAIL_QUEUES": "other", "JOBTRAIL_SLOTS": "9", "JOBTRAIL_THREADS": "9", "JOBTRAIL_PROCESSES": "1"}
    async with Working.start(folder, place.url.libpq, *words, **CHECKOUT, **settings) as node:
        await until(lambda: have_begun(place, 1))
        node.signal(signal.SIGTERM)
        await until(lambda: is_stopping(folder))
        assert node.process.returncode is None
        gate.touch()
        assert (await node.ended())[0] == 0
    assert (node.said["queues"], node.said["slots"]) == (["heavy", "mail"], {"loop": 2, "thread": 0, "process": 1})
    assert "wait_for" in node.said["tasks"]
    assert "wait_in_thread" not in node.said["tasks"]
    assert await status_of(place, job_id) == "succeeded"
    assert await place.value("SELECT node_id FROM jobtrail.jobs") == node.node


async def test_a_second_signal_does_not_wait_and_loses_nothing(folder: Path, place: Place) -> None:
    once, twice = await gated(place, folder / "never"), await gated(place, folder / "never", max_attempts=2)
    async with Working.start(folder, place.url.libpq, **CHECKOUT, JOBTRAIL_GRACE=f"{NEVER}s") as node:
        await until(lambda: have_begun(place, 2))
        node.signal(signal.SIGTERM)
        await until(lambda: is_stopping(folder))
        for which in (signal.SIGINT, signal.SIGTERM):
            node.signal(which)
        assert (await node.ended())[0] == 0
    assert [await status_of(place, job_id) for job_id in (once, twice)] == ["failed", "pending"]
    errors = await place.rows("SELECT error ->> 'type' AS type FROM jobtrail.jobs")
    assert [each["type"] for each in errors] == ["lost", "lost"]


@pytest.mark.parametrize("kind", [Working, Served])
async def test_a_task_that_never_listens_does_not_keep_the_process(
    folder: Path, place: Place, kind: type[Working | Served]
) -> None:
    graces = {"JOBTRAIL_GRACE": "0.1s", "JOBTRAIL_CANCEL_GRACE": "0.1s"}
    async with kind.start(folder, place.url.libpq, **CHECKOUT, **graces) as node:
        job_id = await born(place, "never_listen", timeout=timedelta(seconds=0.2))
        await until(lambda: has_status(place, job_id, "failed"))
        node.signal(signal.SIGTERM)
        assert (await node.ended())[0] == 0
    assert "Task was destroyed" not in "".join(each.read_text() for each in folder.glob("*.log"))


async def test_ctrl_c_in_a_terminal_leaves_a_child_process_to_its_grace(folder: Path, place: Place) -> None:
    gate = folder / "gate"
    job_id = await gated(place, gate, task="wait_in_process")
    async with Working.start(folder, place.url.libpq, **CHECKOUT) as node:
        await until(lambda: has_status(place, job_id, "running"))
        await until(lambda: asyncio.to_thread(Path(f"{gate}.begun").exists))
        os.killpg(node.process.pid, signal.SIGINT)
        await until(lambda: is_stopping(folder))
        gate.touch()
        assert (await node.ended())[0] == 0
    assert await status_of(place, job_id) == "succeeded"


def test_it_knows_no_web_framework() -> None:
    verbs = "database, doctor, entry, jobs, moves, ops, serve, submit"
    asked = (
        f"import sys; from jobtrail.cli import {verbs}; print({{'fastapi', 'starlette', 'uvicorn'}} & {{*sys.modules}})"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked], cwd=TOP / "service", capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


async def gated(
    place: Place, gate: Path, *, task: str = "wait_for", queue: str = "default", max_attempts: int = 1
) -> UUID:
    job_id = new_job_id()
    insert = "INSERT INTO jobtrail.jobs (id, task, args, queue, max_attempts) VALUES ($1, $2, $3, $4, $5)"
    await place.psql.execute(insert, job_id, task, f'{{"gate": "{gate}"}}', queue, max_attempts)
    return job_id


async def have_begun(place: Place, jobs: int) -> bool:
    """What is claimed and has not begun goes back unused when its node stops."""
    begun = "SELECT count(*) = $1 FROM jobtrail.jobs WHERE progress IS NOT NULL"
    return bool(await place.value(begun, jobs))


async def is_stopping(folder: Path) -> bool:
    return "node stopping" in (folder / "work.log").read_text()


async def status_of(place: Place, job_id: UUID) -> str:
    return str(await place.value("SELECT status FROM jobtrail.jobs WHERE id = $1", job_id))


async def has_status(place: Place, job_id: UUID, status: str) -> bool:
    return await status_of(place, job_id) == status
