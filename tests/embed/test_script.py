"""Jobs from a script: submitted, looked at, waited for; and the handle of a job."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from jobtrail import Jobtrail, errors, task
from support.host import TASKS, Host, settings_at
from support.proxy import Proxy
from support.tasks import fail, hold, noop
from support.until import until
from support.world import Place


class Rates(BaseModel):
    day: date
    by_currency: dict[str, float]


@dataclass
class Point:
    x: int


@task
async def rates(day: date) -> Rates:
    return Rates(day=day, by_currency={"EUR": 1.0})


@task
async def points(count: int) -> list[Point]:
    return [Point(number) for number in range(count)]


@task
async def lies() -> int:
    return "seven"  # type: ignore[return-value]


MINE = [*TASKS, rates, points, lies]


@pytest.fixture
async def trail(place: Place) -> AsyncIterator[Jobtrail]:
    """The Jobtrail of a script: it runs nothing."""
    async with Jobtrail(settings_at(place.url.libpq), tasks=MINE) as made:
        yield made


async def test_events_of_a_status_that_there_is_not(trail: Jobtrail) -> None:
    with pytest.raises(ValueError, match=r"'faild' is no status: write pending, .* or purged"):
        await anext(trail.events(status=("failed", "faild")))


async def test_a_script_submits_and_runs_nothing(trail: Jobtrail, place: Place) -> None:
    job = await trail.options(queue="mail").submit(noop, n=2)
    assert await place.rows("SELECT id, queue, status, created_by FROM jobtrail.jobs") == [
        {"id": job.id, "queue": "mail", "status": "pending", "created_by": "app"}
    ]
    assert await place.value("SELECT count(*) FROM jobtrail.nodes") == 0
    with pytest.raises(TimeoutError, match=r"it is pending, and no node serves .* start the app, or `jobtrail work`"):
        await job.wait(timeout=0.05)


async def test_a_wait_in_vain_tells_what_only_a_dead_node_serves(trail: Jobtrail, place: Place) -> None:
    await place.psql.execute(
        """INSERT INTO jobtrail.nodes (id, host, pid, version, queues, tasks, slots, heartbeat_at) VALUES
           (gen_random_uuid(), 'gone', 7, '0', '{}', '{noop}', '{}', now() - interval '10 min')"""
    )
    job = await trail.submit(noop)
    with pytest.raises(TimeoutError, match="no node serves the queue 'default' and knows 'noop'"):
        await job.wait(timeout=0.05)


async def test_looking_and_moving(trail: Jobtrail) -> None:
    first, second = await trail.submit(noop, 1), await trail.options(tags=["late"]).submit(hold)
    [newest] = await trail.list(limit=1)
    for said, found in (
        ({}, [second, first]), ({"limit": 1, "after": newest}, [first]), ({"task": noop}, [first]),
        ({"task": [hold, "noop"], "tags": "late"}, [second]), ({"task": "noop", "status": ["running"]}, []),
    ):  # fmt: skip
        assert [job.id for job in await trail.list(**said)] == [job.id for job in found], said  # type: ignore[arg-type]
    for wrong in ({"limit": 0}, {"limit": 1001}, {"created_after": datetime(2026, 1, 1)}, {"status": "done"}):  # noqa: DTZ001
        with pytest.raises(ValueError, match=r"limit|time zone|done"):
            await trail.list(**wrong)  # type: ignore[arg-type]
    assert (await trail.get(str(first.id))).args == {"n": 1}
    cancelled = await trail.cancel(first.id, reason="enough")
    assert (cancelled.status, cancelled.cancel_reason) == ("cancelled", "enough")
    with pytest.raises(errors.JobCancelledError, match="enough"):
        await first.wait()
    assert (await trail.retry(first.id)).status == "pending"
    with pytest.raises(errors.JobNotFoundError):
        await trail.get(UUID(int=1))


@pytest.mark.parametrize("reason", ["x" * 1001, "a\0b", "\ud800"])
async def test_a_reason_that_cannot_be_kept_cancels_nothing(trail: Jobtrail, reason: str) -> None:
    job = await trail.submit(noop)
    with pytest.raises(errors.InvalidInputError, match="/reason: "):
        await trail.cancel(job.id, reason=reason)
    assert (await job.read()).status == "pending"


async def test_a_result_has_the_type_of_the_annotation_and_a_failure_its_reason(place: Place) -> None:
    async with Host.at(place, tasks=MINE) as host:
        got = await (await host.trail.submit(rates, date(2026, 1, 2))).wait(timeout=60)
        assert got == Rates(day=date(2026, 1, 2), by_currency={"EUR": 1.0})
        assert await (await host.trail.submit(points, count=2)).wait(timeout=60) == [Point(0), Point(1)]
        with pytest.raises(TypeError, match="does not fit its annotation"):
            await (await host.trail.submit(lies)).wait(timeout=60)
        job = await host.trail.submit(fail, how="error")
        with pytest.raises(errors.JobFailedError) as found:
            await job.wait(timeout=60)
        assert (found.value.job_id, found.value.type) == (job.id, "ValueError")
        assert found.value.traceback
        with pytest.raises(errors.JobFinishedError):
            await host.trail.cancel(job.id)


async def test_a_database_that_is_away_is_waited_for(place: Place) -> None:
    async with Proxy.before(place) as wire, Host.at(place, url=wire.url) as host:
        job = await host.trail.submit(noop)
        await job.wait(timeout=60)
        wire.go_away()
        with pytest.raises(errors.UnavailableError):
            await host.trail.get(job.id)
        waiting = asyncio.create_task(job.wait(timeout=60))
        with pytest.raises(TimeoutError, match="not known: the database did not answer"):
            await job.wait(timeout=0.05)
        assert not waiting.done()
        wire.away = False
        assert await waiting == {"ok": 0}


async def test_waiting_has_an_end_where_the_database_is_mute(place: Place) -> None:
    async with Proxy.before(place) as wire, Jobtrail(settings_at(wire.url), tasks=TASKS) as trail:
        job = await trail.submit(noop)
        wire.mute = True
        async with asyncio.timeout(60):
            with pytest.raises(TimeoutError, match="has not ended within"):
                await job.wait(timeout=0.2)
        wire.go_away()


async def test_a_process_has_one(trail: Jobtrail, place: Place) -> None:
    other = Jobtrail(settings_at(place.url.libpq), tasks=MINE)
    with pytest.raises(errors.AlreadyRunningError) as found:
        await other.__aenter__()
    assert trail.made_at in str(found.value)
    assert other.made_at in str(found.value)
    assert other.made_at.startswith(__file__)
    with pytest.raises(errors.NotRunningError, match="is not running"):
        await other.submit(noop)
    with pytest.raises(errors.AlreadyRunningError, match="runs no jobs"):
        await trail.lifespan().__aenter__()

    def elsewhere() -> None:
        with pytest.raises(errors.AlreadyRunningError, match="another event loop"):
            asyncio.run(trail.__aenter__())

    await asyncio.to_thread(elsewhere)


async def test_it_may_be_entered_at_once_again_and_anew_until_the_last_one_leaves(place: Place) -> None:
    trail = Jobtrail(settings_at(place.url.libpq), tasks=MINE)
    for _ in range(2):
        both = [trail.lifespan(), trail.lifespan()]
        await asyncio.gather(*(each.__aenter__() for each in both))
        await both[0].__aexit__(None, None, None)
        async with trail:
            await until(partial(place.value, "SELECT count(*) = 1 FROM jobtrail.nodes"))
            job = await trail.submit(noop, 2)
            assert await job.wait(timeout=60) == {"ok": 2}
        await both[1].__aexit__(None, None, None)
        assert await place.value("SELECT count(*) FROM jobtrail.nodes") == 0
        with pytest.raises(errors.NotRunningError):
            await job.read()


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({"settings": "postgresql://x"}, "str is no Settings"),
        ({"tasks": [print]}, "print is not a task"),
        ({"who": "ada"}, "a plain function of the request"),
        ({"who": asyncio.sleep}, "a plain function of the request"),
        ({"on_attempt_end": "log"}, "str is no function of an AttemptEnd"),
    ],
)
def test_wrong_parts_are_refused(parts: dict[str, Any], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        Jobtrail(**parts)
