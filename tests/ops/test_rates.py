"""Rates: what begins of a key within a time, over all nodes, read from the history of the jobs."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from jobtrail import JobContext, Limit, Rate, task
from jobtrail.errors import ContextError, InvalidArgumentsError
from jobtrail.jobs.services import Services
from jobtrail.jobs.submit import submit_batch
from jobtrail.ops.limits import override_limit, read_limit, restore_limit
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from jobtrail.task.submission import Submission
from support import tasks, world
from support.until import until
from support.world import Place

PER = 1.0

WITHIN = """
SELECT max(cost) FROM (
  SELECT sum(coalesce(j.result ->> 'really', j.args ->> 'cost')::numeric) OVER (
             ORDER BY t.at RANGE BETWEEN CURRENT ROW AND $1 FOLLOWING) AS cost
    FROM jobtrail.transitions t JOIN jobtrail.jobs j ON j.id = t.job_id WHERE t.to_status = 'running') sums
"""


@task(limits=[Rate("api:{key}", 30, per=PER, cost="{cost}"), Limit("api calls", 20)])
async def call(cost: int, key: str = "a") -> str:
    return f"{key} {cost}"


@task(limits=[Rate("long", 10, per=3600, cost="{cost}")])
async def long(context: JobContext, cost: float, really: Sequence[float] = ()) -> float:
    for each in really:
        await context.charge(each)
    return cost


@task(limits=[Rate("estimates", 30, per=PER, cost="{cost}")])
async def estimated(context: JobContext, cost: int, really: int, seconds: float = 0.0) -> dict[str, int]:
    await asyncio.sleep(seconds)
    await context.charge(really)
    return {"estimate": cost, "really": really}


@task(limits=[Rate("starts", 2, per=3600)])
async def counted(context: JobContext) -> None:
    await context.charge(1)


@pytest.fixture
def services(place: Place) -> Services:
    return Services(place.database, Catalog.of([call, estimated, long, counted, tasks.noop]))


async def stored(services: Services, name: str, args: Sequence[dict[str, Any]]) -> None:
    await submit_batch(services, [Submission(task=name, args=each) for each in args], by="ann")


async def ended(place: Place, number: int) -> None:
    async def there() -> bool:
        query = "SELECT count(*) FROM jobtrail.jobs WHERE status IN ('succeeded', 'failed')"
        return bool(await place.value(query) >= number)

    await until(there, within=120)


async def spent(place: Place, key: str) -> float:
    return float(await place.value("SELECT sum(cost) FROM jobtrail.rate_spent WHERE key = $1", key))


async def test_no_window_has_more_than_the_number(place: Place, services: Services) -> None:
    await stored(services, "call", [{"cost": 1 + n % 10} for n in range(20)])
    async with world.node_at(services, place), world.node_at(services, place), world.node_at(services, place):
        await stored(services, "call", [{"cost": 1 + n % 10} for n in range(20)])
        await ended(place, 40)
    assert await place.value(WITHIN, timedelta(seconds=PER)) <= 30
    first, last = await place.psql.fetchrow("SELECT min(started_at), max(started_at) FROM jobtrail.jobs")
    assert last - first > timedelta(seconds=5 * PER)  # 220 at 30 each second


async def test_jobs_of_a_lane_begin_in_order_whatever_they_cost(place: Place, services: Services) -> None:
    await stored(services, "long", [{"cost": cost} for cost in (6, 8, 1)])
    async with world.node_at(services, place) as node:
        await ended(place, 1)
        await node.worker.claim_loop.ticked()
        assert await spent(place, "long") == 6
        assert await place.value("SELECT count(*) FROM jobtrail.jobs WHERE status = 'pending'") == 2
        assert (await read_limit(services, "long")).waiting == 2
        await override_limit(services, "long", 15, by="ann")
        await ended(place, 3)
    assert await spent(place, "long") == 15


async def test_a_charge_replaces_what_the_argument_said(place: Place, services: Services) -> None:
    async with world.node_at(services, place):
        await stored(services, "long", [{"cost": 9, "really": [4, 5.5, 3.25]}])
        await ended(place, 1)
        assert await spent(place, "long") == 3.25
        await stored(services, "long", [{"cost": 6}])  # there is room for it now
        await ended(place, 2)
    assert await spent(place, "long") == 9.25


async def test_what_is_given_back_lets_no_more_begin_in_any_window(place: Place, services: Services) -> None:
    """The first gives all of it back in the middle of its window: from then on the second is in it, for a whole one."""
    async with world.node_at(services, place):
        args = [{"cost": 30, "really": 0, "seconds": PER / 2}, *[{"cost": 30, "really": 30}] * 2]
        await stored(services, "estimated", args)
        await ended(place, 3)
    assert await place.value(WITHIN, timedelta(seconds=PER)) == 30
    first, second, third = [row["started_at"] for row in await place.rows(STARTED)]
    assert timedelta(seconds=PER / 2) <= second - first < third - first
    assert third - second > timedelta(seconds=PER)


STARTED = "SELECT started_at FROM jobtrail.jobs ORDER BY started_at"


async def test_a_cost_above_an_override_runs_alone(place: Place, services: Services) -> None:
    await override_limit(services, "long", 2, by="ann")
    await stored(services, "long", [{"cost": 9}, {"cost": 1}])
    async with world.node_at(services, place) as node:
        await ended(place, 1)
        await node.worker.claim_loop.ticked()
        assert await spent(place, "long") == 9
        await restore_limit(services, "long", by="ann")
        await ended(place, 2)


async def test_each_started_attempt_pays_and_only_an_estimate_is_corrected(place: Place, services: Services) -> None:
    async with world.node_at(services, place) as node:
        await stored(services, "counted", [{}] * 3)
        await ended(place, 2)
        await node.worker.claim_loop.ticked()
    rows = await place.rows("SELECT status, error ->> 'type' AS error FROM jobtrail.jobs ORDER BY started_at")
    assert [(row["status"], row["error"]) for row in rows] == [
        (Status.FAILED, "ContextError"), (Status.FAILED, "ContextError"), (Status.PENDING, None)
    ]  # fmt: skip
    assert ContextError.__name__ in {row["error"] for row in rows}


@pytest.mark.parametrize("cost", [11, -1])
async def test_a_cost_that_never_fits_is_refused_at_submit(services: Services, cost: float) -> None:
    with pytest.raises(
        InvalidArgumentsError, match="/args/cost: it is the cost for the rate 'long': a number from 0 to 10"
    ):
        await stored(services, "long", [{"cost": cost}])
