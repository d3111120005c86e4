"""Limits: how many of a key run at once, over all nodes, read from the history of the jobs."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from jobtrail import Limit, task
from jobtrail.errors import InvalidInputError, LimitNotFoundError
from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.services import Services
from jobtrail.jobs.submit import submit_batch
from jobtrail.ops.audit import ask, question
from jobtrail.ops.limits import override_limit, read_limit, read_limits, restore_limit
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from jobtrail.task.submission import Submission
from support import tasks, world
from support.limited import PEAK
from support.rows import born
from support.until import until
from support.world import Place


@task(limits=[Limit("tenant:{tenant}", 3), Limit("all", 7)])
async def by_tenant(tenant: str) -> str:
    await asyncio.sleep(0.005)
    return tenant


@task(limits=[Limit("held:{key}", 2)])
async def held(key: str = "a") -> str:
    return key + await tasks.hold.function()


@task(limits=[Limit("from:{a}", 1), Limit("to:{b}", 1), Limit("hub", 4)])
async def crossing(a: int, b: int) -> int:
    await asyncio.sleep(0.002)
    return a + b


@task(limits=[Limit("key:{key}", 50), Limit("shared", 2)])
async def sharing(key: str) -> str:
    await asyncio.sleep(0.002)
    return key


@pytest.fixture
def services(place: Place) -> Services:
    return Services(place.database, Catalog.of([by_tenant, held, crossing, sharing, tasks.noop]))


async def stored(services: Services, name: str, args: Sequence[dict[str, Any]], **options: Any) -> list[Any]:
    jobs = []
    for begin in range(0, len(args), 500):
        wanted = [Submission(task=name, args=each, **options) for each in args[begin : begin + 500]]
        jobs += await submit_batch(services, wanted, by="ann")
    return jobs


async def count(place: Place, status: Status, key: str) -> int:
    query = "SELECT count(*) FROM jobtrail.jobs WHERE status = $1 AND $2 = ANY(limit_keys)"
    return int(await place.value(query, status, key))


async def all_ended(place: Place) -> None:
    async def none_left() -> bool:
        return not await place.value("SELECT count(*) FROM jobtrail.jobs WHERE status IN ('pending', 'running')")

    await until(none_left, within=120)


async def test_no_more_of_a_key_run_at_once_than_its_limit_and_the_limit_is_reached(
    place: Place, services: Services
) -> None:
    async with world.node_at(services, place), world.node_at(services, place), world.node_at(services, place):
        await stored(services, "by_tenant", [{"tenant": f"t{n % 4 if n < 120 else 0}"} for n in range(240)])
        await all_ended(place)
    peaks = [await place.value(PEAK, key) for key in ("all", "tenant:t0", "tenant:t1", "tenant:t2", "tenant:t3")]
    assert peaks[:2] == [7, 3]
    assert max(peaks[1:]) == 3
    assert await place.value("SELECT count(*) FROM jobtrail.jobs WHERE status = 'succeeded' AND attempt = 1") == 240


async def test_keys_that_cross_are_all_kept(place: Place, services: Services) -> None:
    async with world.node_at(services, place), world.node_at(services, place), world.node_at(services, place):
        await stored(services, "crossing", [{"a": n % 5, "b": n % 7} for n in range(200)])
        await all_ended(place)
    assert await place.value(PEAK, "hub") == 4
    for key in (*(f"from:{n}" for n in range(5)), *(f"to:{n}" for n in range(7))):
        assert await place.value(PEAK, key) == 1, key


async def test_a_full_key_with_many_behind_it_holds_up_no_other(place: Place, services: Services) -> None:
    await stored(services, "held", [{"key": "a"}] * 10_000)
    async with world.node_at(services, place):
        await until(lambda: _is(count(place, Status.RUNNING, "held:a"), 2))
        await stored(services, "held", [{"key": "b"}] * 3)
        await until(lambda: _is(count(place, Status.RUNNING, "held:b"), 2))
        plain = await world.ran(services, "noop")
        assert plain.status is Status.SUCCEEDED
        assert await count(place, Status.RUNNING, "held:a") == 2
        await place.psql.execute("UPDATE jobtrail.jobs SET status = 'cancelled' WHERE status = 'pending'")


async def _is(found: Any, wanted: int) -> bool:
    return bool(await found == wanted)


async def test_keys_that_share_a_limit_take_turns(place: Place, services: Services) -> None:
    await stored(services, "sharing", [{"key": "a"}] * 200)
    await stored(services, "sharing", [{"key": "b"}] * 5)
    async with world.node_at(services, place):
        await all_ended(place)
    later = """SELECT count(*) FROM jobtrail.jobs WHERE args ->> 'key' = 'a' AND started_at > (
               SELECT max(started_at) FROM jobtrail.jobs WHERE args ->> 'key' = 'b')"""
    assert await place.value(later) > 150
    assert await place.value(PEAK, "shared") == 2


async def test_an_override_holds_from_the_next_claim_on(place: Place, services: Services) -> None:
    await stored(services, "held", [{"key": "a"}] * 9)
    async with world.node_at(services, place):
        await until(lambda: _is(count(place, Status.RUNNING, "held:a"), 2))
        assert await full(services) == [("held:a", "limit", 2, None, 2, 7)]
        assert await full(services, key="held:b") == []
        found = await override_limit(services, "held:a", 5, by="ann")
        assert (found.number, found.override, found.changed_by) == (2, 5, "ann")
        await until(lambda: _is(count(place, Status.RUNNING, "held:a"), 5))
        await until(lambda: _shows(services, running=5, waiting=4))
        await override_limit(services, "held:a", 0, by="ann")
        tasks.GATE.set()
        await until(lambda: _is(count(place, Status.RUNNING, "held:a"), 0))
        assert await count(place, Status.PENDING, "held:a") == 4
        assert await full(services) == [("held:a", "limit", 0, 0, 0, 4)]
        assert await restore_limit(services, "held:a", by="bob") is True
        assert await restore_limit(services, "held:a", by="bob") is False
        await all_ended(place)
    assert await place.value(PEAK, "held:a") == 5


async def full(services: Services, **given: str) -> list[tuple[Any, ...]]:
    """The answer of the audit question, without its times."""
    async with services.session() as session:
        found = await ask(session, question("limits_full"), given)
    names = ("key", "kind", "number", "override", "running", "waiting")
    return [tuple(row[name] for name in names) for row in found.items()]


async def _shows(services: Services, *, running: int, waiting: int) -> bool:
    found = await read_limit(services, "held:a")
    return (found.running, found.waiting) == (running, waiting)


async def test_an_ended_job_is_followed_by_the_next_without_a_poll(place: Place, services: Services) -> None:
    async with world.node_at(services, place, poll_every=timedelta(hours=1)) as node:
        jobs = await stored(services, "by_tenant", [{"tenant": "a"}] * 20)
        for job in jobs:
            node.launch(job.id, job.task, job.queue)
        await all_ended(place)
    assert await place.value(PEAK, "tenant:a") == 3


async def test_a_cancelled_job_and_one_of_a_lost_node_leave_their_keys_free(place: Place, services: Services) -> None:
    first, _ = await stored(services, "held", [{"key": "a"}] * 2, max_attempts=2)
    query = (
        "UPDATE jobtrail.jobs SET status = 'running', attempt = attempt + 1, node_id = gen_random_uuid(), "
        "lease_until = now() - interval '1 h', started_at = now() WHERE status = 'pending'"
    )
    await place.psql.execute(query)
    await stored(services, "held", [{"key": "a"}])
    async with world.node_at(services, place):
        await until(lambda: _is(count(place, Status.PENDING, "held:a"), 1))
        await until(lambda: _is(count(place, Status.RUNNING, "held:a"), 2))
        await cancel(services, first.id, by="ann")
        tasks.GATE.set()
        await all_ended(place)
    assert await place.value(PEAK, "held:a") == 2
    # parked again by the rescue, not by the verb
    assert await place.value("SELECT count(*) FROM jobtrail.transitions WHERE reason = 'rescued'") == 2


async def test_a_retry_and_a_change_keep_a_limited_job_in_its_lane(place: Place, services: Services) -> None:
    await override_limit(services, "held:a", 0, by="ann")
    (job,) = await stored(services, "held", [{"key": "a"}])
    await cancel(services, job.id, by="ann")
    await place.psql.execute("UPDATE jobtrail.jobs SET status = 'pending'")
    row = (await place.rows("SELECT run_at, due_at, limit_keys, limit_terms FROM jobtrail.jobs"))[0]
    assert row["run_at"] is None
    assert row["due_at"] is not None
    assert row["limit_keys"] == ["held:a"]


async def test_a_key_without_terms_lets_one_job_run_and_what_is_no_term_is_refused(
    place: Place, services: Services
) -> None:
    """As somebody writes it in psql, with nothing of what the task declares."""
    await born(place, limit_keys=["alone"], limit_terms=None)
    for _ in range(5):
        await born(place, limit_keys=["alone", "other"], limit_terms='[{}, {"number": 2}, {"per": 1}]')
    async with world.node_at(services, place):
        await all_ended(place)
    assert await place.value(PEAK, "alone") == 1
    for wrong in ("{}", "[1]", '[{"number": "x"}]', '[{"per": 0}]', '[{"per": "1"}]', '[{"cost": null}]'):
        with pytest.raises(asyncpg.CheckViolationError):
            await born(place, limit_keys=["a"], limit_terms=wrong)


@pytest.mark.parametrize("key", ["", "k" * 300])
async def test_a_key_that_only_psql_would_write_holds_up_no_other(place: Place, services: Services, key: str) -> None:
    await born(place, "by_tenant", limit_keys=[key])
    await stored(services, "by_tenant", [{"tenant": "a"}])
    async with world.node_at(services, place):
        assert await until(lambda: count(place, Status.SUCCEEDED, "tenant:a"))


async def test_limits_are_read_by_key(services: Services) -> None:
    assert await read_limits(services) == []
    await override_limit(services, "rate of/nobody", 2.5, by="ann")
    await stored(services, "by_tenant", [{"tenant": "x"}, {"tenant": "y"}, {"tenant": "y"}])
    found = {each.key: (each.number, each.override, each.running, each.waiting) for each in await read_limits(services)}
    assert found == {
        "all": (7, None, 0, 3), "tenant:x": (3, None, 0, 1), "tenant:y": (3, None, 0, 2),
        "rate of/nobody": (None, 2.5, 0, 0),
    }  # fmt: skip
    with pytest.raises(LimitNotFoundError):
        await read_limit(services, "tenant:z")
    for key, number in (("", 1), ("x" * 201, 1), ("\0", 1), ("a", -1), ("a", float("inf")), ("a", float("nan"))):
        with pytest.raises(InvalidInputError):
            await override_limit(services, key, number, by="ann")
