"""A node hears of jobs that other processes store: nothing here is found by a poll, which is an hour away."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from jobtrail import Jobtrail
from jobtrail.db.engine import open_single
from jobtrail.db.hints import WINDOW
from jobtrail.db.host_engine import lend_single
from jobtrail.jobs.bulk import Action, bulk
from jobtrail.jobs.query import Filter
from jobtrail.jobs.services import Services
from jobtrail.ops.pauses import pause, resume
from jobtrail.status import Status
from jobtrail.worker.node import Node
from support import tasks, world
from support.command import Command
from support.host import TASKS, Host, settings_at
from support.lent import lent
from support.proxy import Proxy
from support.tasks import noop
from support.until import until
from support.world import Place, node_at, submitted

RARELY = {"lease": timedelta(hours=2), "poll_every": timedelta(hours=1)}

LISTENING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"

CHANNEL = "jobtrail.jobs"


@pytest.fixture
def command(place: Place, tmp_path: Path) -> Command:
    return Command(tmp_path, {"JOBTRAIL_DATABASE_URL": place.setting, "JOBTRAIL_TASKS": "support.tasks"})


async def heard(node: Node) -> None:
    """Wait until it hears, and its first look at the jobs is behind it."""

    async def is_heard() -> bool:
        return node.listener.is_heard is True

    await until(is_heard)
    await node.worker.claim_loop.ticked(0)


def script(place: Place) -> Jobtrail:
    """It runs no jobs."""
    return Jobtrail(settings_at(place.url.libpq), tasks=TASKS)


@asynccontextmanager
async def listening(services: Services, place: Place, **options: Any) -> AsyncIterator[Node]:
    async with node_at(services, place, **{**RARELY, **options}) as node:
        await heard(node)
        yield node


@asynccontextmanager
async def overheard(place: Place, channel: str = CHANNEL) -> AsyncIterator[list[str]]:
    """The hints that are sent meanwhile, without what a node sends to itself."""
    said: list[str] = []
    connection = await asyncpg.connect(place.scratch.url)
    try:
        await connection.add_listener(channel, lambda *sent: said.append(sent[-1]))
        yield said
        # what was sent before comes before this
        await connection.execute("SELECT pg_notify($1, 'the end')", channel)
        await until(partial(_contains, said, "the end"))
        said[:] = [each for each in said if not each.startswith("?") and each != "the end"]
    finally:
        await connection.close()


async def _contains(said: list[str], word: str) -> bool:
    return word in said


async def is_started(place: Place) -> bool:
    return bool(await place.value("SELECT bool_and(attempt > 0) FROM jobtrail.jobs"))


async def test_a_node_starts_what_the_command_line_stored(place: Place, services: Services, command: Command) -> None:
    async with listening(services, place):
        assert (await command("submit", "noop")).code == 0
        await until(partial(is_started, place))


async def test_a_node_starts_a_job_of_a_schedule_that_the_command_line_ran(
    place: Place, services: Services, command: Command
) -> None:
    assert (await command("schedules", "put", "often", "noop", "--every", "1d")).code == 0
    async with listening(services, place):
        assert (await command("schedules", "run", "often")).code == 0
        await until(partial(is_started, place))


async def test_a_node_starts_what_a_script_stored(place: Place, services: Services) -> None:
    async with listening(services, place), script(place) as trail:
        for count in (1, 1, 30):
            jobs = [await trail.submit(noop) for _ in range(count)]
            for job in jobs:
                assert await job.wait(60) == {"ok": 0}


async def test_on_a_host_s_engine(place: Place) -> None:
    async with lent(place) as (engine, database):
        services = Services(database, world.services_at(place).catalog)
        trail = Jobtrail(settings_at(place.url.libpq), tasks=TASKS, engine=engine)
        async with listening(services, place, connect=partial(lend_single, engine)), trail:
            assert await (await trail.submit(noop)).wait(60) == {"ok": 0}


async def test_a_node_that_is_full_looks_when_a_slot_is_free(place: Place, services: Services) -> None:
    async with listening(services, place, slots=1) as node, script(place) as trail:
        first = await submitted(services, "hold")
        node.launch(first.id, first.task, first.queue)
        await world.reached(services, first.id, Status.RUNNING)
        async with overheard(place) as said:
            waits = await trail.submit(noop)
            await until(partial(_contains, said, "default"))
        tasks.GATE.set()
        assert await waits.wait(60) == {"ok": 0}


async def test_a_node_that_serves_other_queues_does_not_look(place: Place, services: Services) -> None:
    async with listening(services, place, queues=["heavy"]) as node, script(place) as trail:
        ticks = node.worker.claim_loop.ticks
        async with overheard(place) as said:
            await trail.options(queue="light").submit(noop)
            await until(partial(_contains, said, "light"))
        assert node.worker.claim_loop.ticks == ticks
        assert await (await trail.options(queue="heavy").submit(noop)).wait(60) == {"ok": 0}


async def test_a_burst_is_a_few_hints(place: Place) -> None:
    async def one_by_one(queue: str) -> None:
        for _ in range(100):
            await trail.options(queue=queue).submit(noop)

    began = time.monotonic()
    async with overheard(place) as said, script(place) as trail:
        await asyncio.gather(*(one_by_one(f"q{n % 3}") for n in range(10)))
        await trail.options(queue="last").submit(noop)
    assert 2 <= len(said) <= (time.monotonic() - began) / WINDOW + 1
    assert "last" in said[-1].split(",")
    assert {queue for each in said for queue in each.split(",")} == {"q0", "q1", "q2", "last"}


async def test_what_a_script_stored_last_is_told_before_it_ends(place: Place) -> None:
    async with overheard(place) as said, script(place) as trail:
        for queue in ("first", "second", "third"):
            await trail.options(queue=queue).submit(noop)
    assert ",".join(said).split(",")[-1] == "third"


async def test_many_queues_are_any(place: Place) -> None:
    async with overheard(place) as said, script(place) as trail:
        first = trail.options(queue="first").submit(noop)
        await asyncio.gather(first, *(trail.options(queue=f"{n:0>99}").submit(noop) for n in range(100)))
    assert "" in said


async def test_a_job_for_later_needs_no_hint(place: Place, command: Command) -> None:
    later = await place.value("SELECT now() + interval '1 day'")
    async with overheard(place) as said:
        async with script(place) as trail:
            await trail.options(run_at=later).submit(noop)
        assert (await command("submit", "noop", "--delay", "1h")).code == 0
    assert said == []


async def test_a_process_that_runs_its_own_jobs_sends_none(place: Place) -> None:
    async with overheard(place) as said, Host.at(place) as host:
        for _ in range(5):
            await (await host.trail.submit(noop)).wait(60)
    assert said == []


async def test_a_process_that_serves_other_queues_sends_one(place: Place) -> None:
    async with overheard(place) as said, Host.at(place, said={"queues": ("own",)}) as host:
        await host.trail.options(queue="other").submit(noop)
    assert said == ["other"]


async def test_retries_and_resumes_are_told(place: Place, services: Services) -> None:
    async with listening(services, place):
        job = await submitted(services, "fail", how="error")
        services.database.hints.send(job.queue)
        await world.ended(services, job.id)
        await bulk(services, Action.RETRY, Filter(task=["fail"]), by="ann")

        async def is_tried_again() -> bool:
            return bool(await place.value("SELECT attempt = 2 AND status = 'failed' FROM jobtrail.jobs"))

        await until(is_tried_again)
        await pause(services, "task", "noop", by="ann")
        waits = await submitted(services, "noop")
        await resume(services, "task", "noop", by="ann")
        assert (await world.ended(services, waits.id)).status is Status.SUCCEEDED


async def test_a_listener_that_was_cut_off_listens_again(
    place: Place, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(services, place) as node:
        [before] = await place.rows(LISTENING)
        ticks = node.listener.loop.ticks
        await place.value("SELECT pg_terminate_backend($1)", before["pid"])

        async def is_another() -> bool:
            return bool(await place.rows(f"{LISTENING} AND pid <> $1", before["pid"]))

        await until(is_another)
        await node.listener.loop.ticked(ticks)
        await heard(node)
        async with script(place) as trail:
            assert await (await trail.submit(noop)).wait(60) == {"ok": 0}
    assert not [
        each for each in caplog.records if each.name == "jobtrail.worker.listener" and each.levelno > logging.INFO
    ]


async def test_a_database_that_was_away_is_listened_to_again(
    place: Place, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "jobtrail")
    async with (
        Proxy.before(place) as proxy,
        listening(services, place, connect=partial(open_single, proxy.url)) as node,
    ):

        async def is_deaf() -> bool:
            return node.listener.is_heard is False

        proxy.go_away()
        await until(is_deaf)
        proxy.away = False
        await heard(node)
        async with script(place) as trail:
            assert await (await trail.submit(noop)).wait(60) == {"ok": 0}
    lost, again = [each.getMessage() for each in caplog.records if each.name == "jobtrail.worker.listener"]
    assert lost.startswith("no hints from other processes (the database does not answer (")
    assert lost.endswith("): their jobs are found by the poll, every 3600 s")
    assert again == "hints from other processes are heard again"


async def test_nothing_is_left_of_a_listener(place: Place, services: Services) -> None:
    async with listening(services, place):
        assert len(await place.rows(LISTENING)) == 1

    async def is_gone() -> bool:
        return not await place.rows(LISTENING)

    await until(is_gone)


async def test_a_node_that_runs_nothing_does_not_listen(place: Place, services: Services) -> None:
    async with node_at(services, place, slots=0, threads=0, processes=0) as node:
        await node.worker.claim_loop.ticked()
        assert await place.rows(LISTENING) == []


async def test_where_listen_has_no_effect_it_polls_and_says_so_once(
    place: Place, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "jobtrail")
    async with Proxy.before(place) as proxy:
        proxy.deaf = True
        async with node_at(services, place, connect=partial(open_single, proxy.url)) as node:

            async def is_deaf() -> bool:
                return node.listener.is_heard is False

            await until(is_deaf)
            await node.listener.loop.ticked(0)
            assert (await world.ran(services, "noop")).status is Status.SUCCEEDED
    [said] = [each.getMessage() for each in caplog.records if each.name == "jobtrail.worker.listener"]
    why = "LISTEN has no effect, as behind a pooler in transaction mode"
    assert said == f"no hints from other processes ({why}): their jobs are found by the poll, every 0.05 s"
