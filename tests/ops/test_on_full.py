"""Tasks that do not wait for their limits: the newest is refused, or takes the place of those that wait."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from jobtrail import Limit, Rate, task
from jobtrail.errors import DeclarationError, LimitFullError
from jobtrail.jobs.services import Services
from jobtrail.jobs.submit import submit, submit_batch
from jobtrail.ops.limits import override_limit
from jobtrail.records import Job
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from jobtrail.task.submission import Submission
from support import tasks, world
from support.until import until
from support.world import Place


@task(limits=[Limit("rejecting:{key}", 2)], on_full="reject")
async def rejecting(key: str = "a") -> str:
    return key + await tasks.hold.function()


@task(limits=[Rate("spending", 10, per=60, cost="{cost}")], on_full="reject")
async def spending(cost: int) -> int:
    return cost


@task(limits=[Limit("replacing:{key}", 1), Limit("of all", 50)], on_full="replace")
async def replacing(key: str = "a", n: int = 0) -> str:
    return f"{key}{n}" + await tasks.hold.function()


@pytest.fixture
def services(place: Place) -> Services:
    return Services(place.database, Catalog.of([rejecting, spending, replacing]))


async def stored(services: Services, name: str, **args: Any) -> Job:
    return (await submit(services, Submission(task=name, args=args), by="ann"))[0]


async def test_beyond_the_limit_a_submit_is_refused_and_stores_nothing(place: Place, services: Services) -> None:
    found = await asyncio.gather(*(stored(services, "rejecting") for _ in range(12)), return_exceptions=True)
    refused = [each for each in found if isinstance(each, LimitFullError)]
    assert (len(refused), {(each.key, each.number, each.retry_after) for each in refused}) == (
        10, {("rejecting:a", 2, 1)}
    )  # fmt: skip
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 2
    await stored(services, "rejecting", key="b")
    with pytest.raises(LimitFullError):
        await submit_batch(services, [Submission(task="rejecting", args={"key": "b"})] * 2, by="ann")
    await override_limit(services, "rejecting:b", 3, by="ann")
    await submit_batch(services, [Submission(task="rejecting", args={"key": "b"})] * 2, by="ann")
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 5


async def test_a_repeat_of_a_full_limit_is_the_first_job(services: Services) -> None:
    wanted = Submission(task="rejecting", args={})
    first, _ = await submit(services, wanted, by="ann", key="one")
    await submit(services, wanted, by="ann", key="two")
    again, replayed = await submit(services, wanted, by="ann", key="one")
    assert (again.id, replayed) == (first.id, True)
    with pytest.raises(LimitFullError):
        await submit(services, wanted, by="ann", key="three")


async def test_a_rate_counts_what_waits_and_what_was_spent(place: Place, services: Services) -> None:
    await stored(services, "spending", cost=6)
    with pytest.raises(LimitFullError) as error:
        await stored(services, "spending", cost=5)
    assert error.value.retry_after == 60
    async with world.node_at(services, place):
        await until(lambda: _is(place, "succeeded", 1))
    with pytest.raises(LimitFullError):
        await stored(services, "spending", cost=5)
    await stored(services, "spending", cost=4)


async def _is(place: Place, status: str, number: int) -> bool:
    return bool(await place.value("SELECT count(*) FROM jobtrail.jobs WHERE status = $1", status) == number)


async def test_the_newest_takes_the_place_of_those_that_wait(place: Place, services: Services) -> None:
    async with world.node_at(services, place):
        await stored(services, "replacing")
        await until(lambda: _is(place, "running", 1))
        other = await stored(services, "replacing", key="b")
        jobs = await asyncio.gather(*(stored(services, "replacing", n=n) for n in range(1, 20)))
        waiting = await place.rows("SELECT id FROM jobtrail.jobs WHERE status = 'pending' AND args ->> 'key' IS NULL")
        assert len(waiting) == 1
        await world.reached(services, other.id, Status.RUNNING)
        rows = await place.rows("SELECT id, cancel_reason FROM jobtrail.jobs WHERE status = 'cancelled'")
        assert {row["id"] for row in rows} == {job.id for job in jobs} - {row["id"] for row in waiting}
        assert all(row["cancel_reason"].startswith("replaced by job ") for row in rows)
        tasks.GATE.set()
        assert (await world.ended(services, waiting[0]["id"])).status is Status.SUCCEEDED


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (
        lambda: task(on_full="reject")(rejecting.function),
        "there is nothing that could be full: write limits=[Limit(…)]",
    ),
    (lambda: task(on_full="drop")(rejecting.function), "write 'wait', 'reject' or 'replace'"),  # type: ignore[call-overload]
]


@pytest.mark.parametrize(("declare", "told"), REFUSED)
def test_what_cannot_be_meant_is_refused(declare: Callable[[], Any], told: str) -> None:
    with pytest.raises(DeclarationError) as error:
        declare()
    assert told in str(error.value)
