"""Workers that die, or are stopped, between an effect and its outcome: both are there or none, and once in the end."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Self
from uuid import UUID

import asyncpg
import pytest

from jobtrail.jobs.rescue import rescue_batch
from support import forks, world
from support.gates import Gate, gate
from support.job_session_worker import work
from support.proxy import Loss, Proxy
from support.rows import trail
from support.served import CHECKOUT
from support.servers import environment
from support.until import until
from support.world import Place, judge

LEASE = 2.0

NONE, BOTH = ("running", 0), ("succeeded", 1)


@dataclass
class Worker:
    process: forks.Process

    @classmethod
    @asynccontextmanager
    async def start(cls, url: str) -> AsyncIterator[Self]:
        """It has claimed the job and written its effect when this returns."""
        words = ("-m", "support.job_session_worker", url, str(LEASE))
        process = await forks.start(*words, cwd=Path.cwd(), env=environment(**CHECKOUT), stdin=forks.PIPE, stderr=2)
        try:
            made = cls(process)
            assert await made.said() == "wrote"
            yield made
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.communicate()

    async def said(self) -> str:
        assert self.process.stdout
        return (await asyncio.wait_for(self.process.stdout.readline(), 60)).decode().strip()

    def go_on(self) -> None:
        assert self.process.stdin
        self.process.stdin.write(b"\n")

    async def kill(self) -> None:
        self.process.kill()
        assert await asyncio.wait_for(self.process.wait(), 60) == -signal.SIGKILL


@dataclass
class Job:
    place: Place
    id: UUID

    async def found(self) -> tuple[str, int]:
        """Its status, and how often its effect is there: once whoever died in it has let go of the row."""
        times = await self.place.psql.fetchval("SELECT times FROM effects FOR UPDATE", timeout=30)
        return await self.place.value("SELECT status FROM jobtrail.jobs"), times

    async def succeed(self) -> None:
        """What is left of the way: rescue, and another worker, who finds nothing to do when the first had succeeded."""
        await self.place.psql.execute("UPDATE jobtrail.jobs SET lease_until = now() WHERE status = 'running'")
        await rescue_batch(self.place.database, node=await judge(self.place), actor="node x", most=1)
        if await self.place.value("SELECT status FROM jobtrail.jobs") == "pending":
            assert await work(self.place.url.sqlalchemy, timedelta(seconds=LEASE)) == "YES"
        assert await self.found() == BOTH

    async def attempts(self) -> int:
        return sum(to == "running" for *_, to in await trail(self.place, self.id))


@pytest.fixture
async def job(place: Place) -> AsyncIterator[Job]:
    await place.psql.execute("DROP TABLE IF EXISTS effects; CREATE TABLE effects (times integer)")
    await place.psql.execute("INSERT INTO effects VALUES (0)")
    try:
        yield Job(place, (await world.submitted(world.services_at(place), "noop", max_attempts=2)).id)
    finally:
        await place.psql.execute("DROP TABLE effects")


async def test_kill_9_after_the_effect(job: Job) -> None:
    async with Worker.start(job.place.url.sqlalchemy) as worker:
        await worker.kill()
        assert await job.found() == NONE
    await job.succeed()
    assert await job.attempts() == 2


@pytest.mark.parametrize("where", Gate)
@pytest.mark.parametrize("survives", [True, False], ids=["its backend goes on", "with its backend"])
async def test_kill_9_within_the_end(job: Job, where: Gate, survives: bool) -> None:
    """A COMMIT that reached its backend is carried out, whoever asked for it; a statement before it is not."""
    async with Worker.start(job.place.url.sqlalchemy) as worker:
        async with gate(job.place, where) as waits:
            worker.go_on()
            backend = await until(waits)
            await worker.kill()
            if not survives:
                await job.place.psql.execute("SELECT pg_terminate_backend($1)", backend)
        expected = BOTH if survives and where is Gate.COMMIT else NONE
        assert await job.found() == expected
    await job.succeed()
    assert await job.attempts() == (1 if expected == BOTH else 2)


@pytest.mark.parametrize(("loses", "expected"), [("silence", BOTH), ("request", NONE)])
async def test_kill_9_around_the_answer(job: Job, loses: Loss, expected: tuple[str, int]) -> None:
    async with Proxy.before(job.place) as proxy, Worker.start(proxy.url) as worker:
        proxy.loses, proxy.away = loses, True
        worker.go_on()
        await proxy.lost()
        await worker.kill()
        assert await job.found() == expected
    await job.succeed()
    assert await job.attempts() == (1 if expected == BOTH else 2)


@pytest.mark.parametrize(("loses", "said", "expected"), [("answer", "YES", BOTH), ("request", "COMMIT FAILED", NONE)])
async def test_a_worker_that_lost_the_answer_finds_out(
    job: Job, loses: Loss, said: str, expected: tuple[str, int]
) -> None:
    async with Proxy.before(job.place) as proxy, Worker.start(proxy.url) as worker:
        proxy.loses = loses
        worker.go_on()
        assert await worker.said() == said
        await proxy.lost()
        assert await job.found() == expected
    await job.succeed()


async def test_a_stopped_worker_gives_way_after_a_lease(job: Job) -> None:
    other = await asyncpg.connect(job.place.url.libpq)
    try:
        async with Worker.start(job.place.url.sqlalchemy) as worker:
            worker.process.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            assert await other.fetchval("SELECT times FROM effects FOR UPDATE", timeout=30) == 0
            waited = time.monotonic() - began
            print(f"\na successor got the lock after {waited:.2f} s, with a lease of {LEASE:g} s")
            assert waited > LEASE / 2
            await job.succeed()
            worker.process.send_signal(signal.SIGCONT)
            worker.go_on()
            assert await worker.said() == "STALE"
        assert await job.found() == BOTH
        assert await job.attempts() == 2
    finally:
        await other.close()
