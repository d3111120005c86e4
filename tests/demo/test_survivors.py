import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
import pytest

from jobtrail.cli.survivors import Survivors
from jobtrail.cli.tour import Tour
from jobtrail.cli.watch import Watch
from jobtrail.job.status import Status
from jobtrail.jobs.rescue import rescue
from jobtrail.settings import load
from support.database import Place
from support.judges import judge
from support.rows import born, moved
from support.service import idle
from support.until import until

HERE = socket.gethostname()
BEFORE, AFTER = timedelta(minutes=-1), timedelta(minutes=1)


@pytest.fixture
async def jobs(place: Place) -> AsyncIterator[httpx.AsyncClient]:
    async with idle(place) as service:
        service.client.base_url = httpx.URL("http://jobs.test/v1")
        yield service.client


@pytest.fixture(scope="module")
def dead() -> int:
    """The id of a process that was there."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def survivors_of(jobs: httpx.AsyncClient) -> Survivors:
    return Survivors(jobs, lease=timedelta(seconds=5), poll_every=timedelta(seconds=1))


async def node(place: Place, pid: int, host: str = HERE, began: timedelta = BEFORE) -> UUID:
    node_id = uuid4()
    insert = """INSERT INTO jobtrail.nodes (id, host, pid, version, queues, tasks, slots, started_at, lease)
        VALUES ($1, $2, $3, '1', '{}', '{}', '{}', now() + $4, '0')"""
    await place.psql.execute(insert, node_id, host, pid, began)
    return node_id


async def running(place: Place, node_id: UUID, lease: timedelta = timedelta(0)) -> UUID:
    """A job with two attempts, in its first one."""
    job_id = await born(place, "nap", max_attempts=2)
    claim = """UPDATE jobtrail.jobs SET status = 'running', attempt = 1, node_id = $2, lease_until = now() + $3,
        started_at = now() WHERE id = $1"""
    await place.psql.execute(claim, job_id, node_id, lease)
    return job_id


@pytest.mark.parametrize(("lease", "within"), [(-5, 8), (4, 8), (30, 33)])
async def test_it_says_for_how_long_a_job_waits(
    jobs: httpx.AsyncClient, place: Place, dead: int, lease: int, within: int
) -> None:
    job_id = await running(place, await node(place, dead), timedelta(seconds=lease))
    survivors = survivors_of(jobs)
    name = f"nap …{str(job_id)[-8:]}"
    assert await survivors.find(datetime.now(UTC)) == [
        f"{name} ran in process {dead}, which is gone: it waits until the lease has run out, {within} s at most"
    ]
    assert (survivors.waiting, survivors.patience) == ({str(job_id)}, within)


async def test_only_what_a_dead_process_of_this_machine_ran_waits(
    jobs: httpx.AsyncClient, place: Place, dead: int
) -> None:
    since = datetime.now(UTC)
    waits = {
        await running(place, await node(place, dead)): True,
        await running(place, await node(place, dead, host="elsewhere")): False,
        await running(place, await node(place, os.getppid())): False,
        await running(place, await node(place, 1)): False,  # somebody else's
        await running(place, await node(place, os.getpid(), began=BEFORE)): True,
        await running(place, await node(place, os.getpid(), began=AFTER)): False,
        await running(place, uuid4()): False,
        await born(place): False,
    }
    survivors = survivors_of(jobs)
    await survivors.find(since)
    assert survivors.waiting == {str(job_id) for job_id, does in waits.items() if does}


async def test_the_tour_waits_for_it_unless_that_is_long(
    jobs: httpx.AsyncClient, place: Place, dead: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mail:
        tour = Tour(load(), mail)
        job_id = await running(place, await node(place, dead), timedelta(seconds=60))
        survivors = survivors_of(jobs)
        async with asyncio.timeout(5):
            await tour._wait_for(survivors, Watch(jobs, print, survivors.remark))
        assert survivors.waiting == {str(job_id)}
        await place.psql.execute("UPDATE jobtrail.jobs SET lease_until = now()")
        survivors = survivors_of(jobs)
        waiting = asyncio.create_task(tour._wait_for(survivors, Watch(jobs, print, survivors.remark)))
        await until(lambda: asyncio.sleep(0, survivors.waiting))
        await rescue(place.database, node=await judge(place), by="node")
        await until(lambda: asyncio.sleep(0, "running → pending" in capsys.readouterr().out))
        assert not waiting.done()
        await moved(place, job_id, Status.RUNNING)
        async with asyncio.timeout(5):
            await waiting


async def test_one_that_was_rescued_already_is_waited_for_too(jobs: httpx.AsyncClient, place: Place, dead: int) -> None:
    job_id = await running(place, await node(place, dead), timedelta(seconds=-1))
    await rescue(place.database, node=await judge(place), by="node")
    survivors = survivors_of(jobs)
    assert await survivors.find(datetime.now(UTC)) == []
    assert (survivors.waiting, survivors.patience) == ({str(job_id)}, 1)


async def test_a_job_that_begins_anew_and_ends_has_survived(jobs: httpx.AsyncClient, place: Place, dead: int) -> None:
    survivors, said = survivors_of(jobs), []
    watch = Watch(jobs, said.append, survivors.remark)
    job_id = await running(place, await node(place, dead), timedelta(seconds=-1))
    await survivors.find(datetime.now(UTC))
    await rescue(place.database, node=await judge(place), by="node")
    await watch.look()
    assert survivors.waiting == {str(job_id)}
    await moved(place, job_id, Status.RUNNING)
    await watch.look()
    assert survivors.waiting == set()
    await moved(place, job_id, Status.SUCCEEDED)
    await watch.look()
    told = [next(word for word in line.split() if word in {"survived", *Status}) for line in map(after_arrow, said)]
    assert told == ["pending", "running", "pending", "running", "survived", "succeeded", "survived"]
    name = f"nap …{str(job_id)[-8:]}"
    assert f"survived a kill: {name}, attempt 2 began 0." in said[4]
    assert said[4].endswith(f" s after process {dead} fell silent")
    assert said[6].endswith(f"survived a kill: {name} succeeded in attempt 2")


def after_arrow(line: str) -> str:
    return line.rpartition("→")[2]


@pytest.mark.parametrize(
    ("kind", "reason", "told"),
    [
        ("lost", "rescued", "survived a kill: nap …{}, attempt 2 began"),
        ("lost", "lost", "survived a stop: nap …{}, attempt 2 began"),
        ("ValueError", "ValueError", ""),
    ],
)
async def test_who_signed_off_was_stopped_and_an_error_is_no_death(
    jobs: httpx.AsyncClient, place: Place, kind: str, reason: str, told: str
) -> None:
    said: list[str] = []
    job_id = await running(place, uuid4())
    back = """UPDATE jobtrail.jobs SET status = 'pending', node_id = NULL, lease_until = NULL, started_at = NULL,
        seq = seq + 1, moved_by = 'node', move_reason = $2, error = jsonb_build_object('type', $3::text, 'message', '')
        WHERE id = $1"""
    await place.psql.execute(back, job_id, reason, kind)
    await moved(place, job_id, Status.RUNNING)
    await Watch(jobs, said.append, survivors_of(jobs).remark).look()
    remarks = [line[14:] for line in said if "→" not in line]
    assert remarks == ([told.format(str(job_id)[-8:])] if told else [])
    assert len(said) - len(remarks) == 4


async def test_what_follows_the_next_attempt_is_no_survival(jobs: httpx.AsyncClient, place: Place, dead: int) -> None:
    said: list[str] = []
    job_id = await running(place, await node(place, dead), timedelta(seconds=-1))
    await rescue(place.database, node=await judge(place), by="node")
    for status in (Status.RUNNING, Status.PENDING, Status.RUNNING, Status.SUCCEEDED):
        await moved(place, job_id, status)
    await Watch(jobs, said.append, survivors_of(jobs).remark).look()
    assert ["attempt 2 began" in line for line in said if "survived" in line] == [True]
    assert len(said) == 8


async def test_a_retry_by_hand_is_no_survival(jobs: httpx.AsyncClient, place: Place, dead: int) -> None:
    said: list[str] = []
    job_id = await running(place, await node(place, dead), timedelta(seconds=-1))
    await place.psql.execute("UPDATE jobtrail.jobs SET max_attempts = 1 WHERE id = $1", job_id)
    await rescue(place.database, node=await judge(place), by="node")
    await moved(place, job_id, Status.PENDING)
    await moved(place, job_id, Status.RUNNING)
    await Watch(jobs, said.append, survivors_of(jobs).remark).look()
    assert [line for line in said if "survived" in line] == []
    assert len(said) == 5
