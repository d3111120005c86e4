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
from sqlalchemy.ext.asyncio import create_async_engine

from jobtrail import Jobtrail, task
from jobtrail.db.url import normalize
from jobtrail.errors import (
    AlreadyRunningError,
    JobCancelledError,
    JobFailedError,
    JobFinishedError,
    JobNotFoundError,
    NotRunningError,
    SettingsError,
    UnavailableError,
)
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
    """Of a script: it runs nothing."""
    async with Jobtrail(settings_at(place.url.libpq), tasks=MINE) as made:
        yield made


async def test_a_script_submits_and_runs_nothing(trail: Jobtrail, place: Place) -> None:
    job = await trail.options(queue="mail").submit(noop, n=2)
    assert await place.rows("SELECT id, queue, status, created_by FROM jobtrail.jobs") == [
        {"id": job.id, "queue": "mail", "status": "pending", "created_by": "app"}
    ]
    assert await place.value("SELECT count(*) FROM jobtrail.nodes") == 0
    with pytest.raises(TimeoutError, match=r"it is pending, and no node serves .* start the app, or `jobtrail work`"):
        await job.wait(timeout=0.05)


async def test_looking_and_moving(trail: Jobtrail) -> None:
    first, second = await trail.submit(noop, 1), await trail.options(tags=["late"]).submit(hold)
    assert [job.id for job in await trail.list()] == [second.id, first.id]
    assert [job.id for job in await trail.list(task="noop", status=["pending"], tags="late")] == []
    [newest] = await trail.list(limit=1)
    assert [job.id for job in await trail.list(limit=1, after=newest)] == [first.id]
    assert (await trail.get(str(first.id))).args == {"n": 1}
    cancelled = await trail.cancel(first.id, reason="enough")
    assert (cancelled.status, cancelled.cancel_reason) == ("cancelled", "enough")
    with pytest.raises(JobCancelledError, match="enough"):
        await first.wait()
    assert (await trail.retry(first.id)).status == "pending"
    with pytest.raises(JobNotFoundError):
        await trail.get(UUID(int=1))


async def test_a_result_is_what_the_task_says_that_it_returns(place: Place) -> None:
    async with Host.at(place, tasks=MINE) as host:
        got = await (await host.trail.submit(rates, date(2026, 1, 2))).wait(timeout=60)
        assert got == Rates(day=date(2026, 1, 2), by_currency={"EUR": 1.0})
        assert await (await host.trail.submit(points, count=2)).wait(timeout=60) == [Point(0), Point(1)]
        with pytest.raises(TypeError, match="does not fit its annotation"):
            await (await host.trail.submit(lies)).wait(timeout=60)


async def test_a_job_that_failed_says_why(place: Place) -> None:
    async with Host.at(place, tasks=MINE) as host:
        job = await host.trail.submit(fail, how="error")
        with pytest.raises(JobFailedError) as found:
            await job.wait(timeout=60)
        assert (found.value.job_id, found.value.type) == (job.id, "ValueError")
        assert found.value.traceback
        with pytest.raises(JobFinishedError):
            await host.trail.cancel(job.id)


async def test_a_database_that_is_away_is_waited_for(place: Place) -> None:
    async with Proxy.before(place) as wire, Host.at(place, url=wire.url) as host:
        job = await host.trail.submit(noop)
        await job.wait(timeout=60)
        wire.go_away()
        with pytest.raises(UnavailableError):
            await host.trail.get(job.id)
        waiting = asyncio.create_task(job.wait(timeout=60))
        await asyncio.sleep(0.05)
        wire.away = False
        assert await waiting == {"ok": 0}


async def test_a_process_has_one(trail: Jobtrail, place: Place) -> None:
    other = Jobtrail(settings_at(place.url.libpq), tasks=MINE)
    with pytest.raises(AlreadyRunningError) as found:
        await other.__aenter__()
    assert trail.made_at in str(found.value)
    assert other.made_at in str(found.value)
    assert other.made_at.startswith(__file__)
    with pytest.raises(NotRunningError, match="is not running"):
        await other.submit(noop)
    with pytest.raises(AlreadyRunningError, match="runs no jobs"):
        await trail.lifespan().__aenter__()


async def test_two_may_enter_it_at_once(place: Place) -> None:
    trail = Jobtrail(settings_at(place.url.libpq), tasks=MINE)
    both = [trail.lifespan(), trail.lifespan()]
    await asyncio.gather(*(each.__aenter__() for each in both))
    await asyncio.gather(*(each.__aexit__(None, None, None) for each in both))
    with pytest.raises(NotRunningError):
        await trail.submit(noop)


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"settings": "postgresql://x"}, "str is no Settings"),
        ({"tasks": [print]}, "print is not a task"),
        ({"who": "ada"}, "a plain function of the request"),
        ({"who": asyncio.sleep}, "a plain function of the request"),
    ],
)
def test_what_it_cannot_be_made_of(parts: dict[str, Any], told: str) -> None:
    with pytest.raises(TypeError, match=told):
        Jobtrail(**parts)


async def test_what_a_list_cannot_be_asked(trail: Jobtrail) -> None:
    await trail.submit(noop)
    assert len(await trail.list(task=noop)) == len(await trail.list(task=[hold, "noop"])) == 1
    for wrong in ({"limit": 0}, {"limit": 1001}, {"created_after": datetime(2026, 1, 1)}, {"status": "done"}):  # noqa: DTZ001
        with pytest.raises(ValueError, match=r"limit|time zone|done"):
            await trail.list(**wrong)  # type: ignore[arg-type]


async def test_it_may_be_entered_again_and_anew(place: Place) -> None:
    trail = Jobtrail(settings_at(place.url.libpq), tasks=MINE)
    for _ in range(2):
        async with trail.lifespan(), trail.lifespan(), trail:
            await until(partial(place.value, "SELECT count(*) = 1 FROM jobtrail.nodes"))
            job = await trail.submit(noop)
        assert (await place.rows("SELECT count(*) FROM jobtrail.nodes"))[0]["count"] == 0
        with pytest.raises(NotRunningError):
            await job.read()


async def test_another_loop_is_refused(trail: Jobtrail) -> None:
    def elsewhere() -> str:
        try:
            asyncio.run(trail.__aenter__())
        except AlreadyRunningError as error:
            return str(error)
        return ""

    assert "another event loop" in await asyncio.to_thread(elsewhere)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"database_url": None}, "JOBTRAIL_DATABASE_URL is not set"),
        ({"database_url": "postgresql://me@127.0.0.1:1/none"}, "nothing answers at"),
    ],
)
async def test_what_is_wrong_at_start_is_told(said: dict[str, Any], told: str) -> None:
    trail = Jobtrail(settings_at("postgresql://me@127.0.0.1/x").model_copy(update=said), tasks=MINE)
    with pytest.raises((SettingsError, UnavailableError), match=told):
        await trail.__aenter__()


async def test_a_database_without_the_schema_names_the_command(empty_url: str) -> None:
    with pytest.raises(SettingsError, match="run `jobtrail migrate`"):
        await Jobtrail(settings_at(empty_url), tasks=MINE).__aenter__()
    engine = create_async_engine(normalize(empty_url).sqlalchemy)
    with pytest.raises(SettingsError, match=r"run `JOBTRAIL_DATABASE_URL=postgresql://.* jobtrail migrate`"):
        await Jobtrail(engine=engine, tasks=MINE).__aenter__()
    await engine.dispose()
