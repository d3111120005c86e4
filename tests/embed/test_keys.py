"""A key that the developer wrote is the app's: this job, once. One that a client sent stays the client's."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import Request

from jobtrail import Jobs
from jobtrail.errors import IdempotencyKeyReusedError
from support.host import Host
from support.tasks import in_thread, noop
from support.world import Place

COUNT = "SELECT count(*) FROM jobtrail.jobs"

MOVING: dict[str, Any] = {
    "run_at": datetime(2100, 1, 1, tzinfo=UTC), "priority": 9, "ttl": 5, "tags": ["again"], "queue": "other",
    "timeout": 7, "max_attempts": 3,
}  # fmt: skip


def user(request: Request) -> str:
    return request.headers["x-user"]


@pytest.fixture
async def host(place: Place) -> AsyncIterator[Host]:
    """Its endpoint is the documented one, asked twice; it has our routes too."""
    async with Host.at(place, who=user) as made:

        @made.app.post("/orders/{number}", status_code=202)
        async def order(number: int, jobs: Jobs, n: int = 1) -> str:
            both = [jobs.options(idempotency_key=f"order-{number}").add_task(noop, n) for _ in range(2)]
            with pytest.raises(RuntimeError, match=r"await jobs\.commit\(\)"):
                _ = both[0].id
            await jobs.commit()
            assert both[0].id == both[1].id
            return str(both[0].id)

        made.app.include_router(made.trail.router(read="open", submit="open", operate="open"), prefix="/trail")
        yield made


def by(name: str, key: str | None = None) -> dict[str, str]:
    return {"x-user": name} | ({} if key is None else {"Idempotency-Key": key})


async def test_one_job_for_every_caller_and_however_many_at_once(host: Host, place: Place) -> None:
    answers = await asyncio.gather(
        *(host.post("/orders/7", 202, headers=by(name)) for name in ("ada", "bob") for _ in range(25))
    )
    assert await place.value("SELECT array_agg(id::text) FROM jobtrail.jobs") == list({*answers})
    assert await place.value("SELECT created_by FROM jobtrail.jobs") in ("ada", "bob")


async def test_one_job_whatever_the_options_are(host: Host, place: Place) -> None:
    first = await host.trail.options(idempotency_key="k").submit(noop, 1)
    again = await host.trail.options(idempotency_key="k", **MOVING).submit(noop, n=1)
    assert again.id == first.id
    job = await again.read()
    assert (job.queue, job.priority, job.tags) == ("default", 5, [])
    assert await place.value("SELECT count(*) FROM jobtrail.transitions WHERE to_status = 'pending'") == 1


async def test_another_job_under_the_key_is_refused_with_the_fix(host: Host, place: Place) -> None:
    first = await host.post("/orders/7", 202, headers=by("ada"))
    detail = (await host.post("/orders/7?n=2", 422, headers=by("bob")))["detail"]
    assert f"'order-7' belongs to job {first}" in detail
    assert "another task or other arguments" in detail
    assert "put all that distinguishes jobs into idempotency_key=" in detail
    with pytest.raises(IdempotencyKeyReusedError):
        await host.trail.options(idempotency_key="order-7").submit(in_thread, 1)
    assert await place.value(COUNT) == 1


async def test_the_key_of_a_client_and_the_key_of_the_app_never_meet(host: Host, place: Place) -> None:
    body = {"task": "noop", "args": {"n": 1}}
    found = {await host.post("/orders/7", 202, headers=by("ada"))}
    for name in ("ada", "ada", "bob", "bob"):
        found.add((await host.post("/trail/jobs", 202, json=body, headers=by(name, "order-7")))["id"])
    assert len(found) == await place.value(COUNT) == 3


async def test_a_key_lives_as_long_as_its_row_and_a_day_at_least(host: Host, place: Place) -> None:
    job = await host.trail.options(idempotency_key="k", ttl=1).submit(noop, 1)
    await job.wait(timeout=60)
    assert (await job.read()).ttl == timedelta(days=1)
    answer = await host.client.patch(f"/trail/jobs/{job.id}", json={"ttl": 5}, headers=by("ada"))
    assert (answer.status_code, answer.json()["ttl"]) == (200, 86400)
    await place.psql.execute(
        "UPDATE jobtrail.jobs SET ttl = '1 s', ttl_failed = '1 s', finished_at = finished_at - interval '1 day',"
        " expires_at = finished_at - interval '1 day' + interval '1 s'"
    )
    await place.psql.execute("DELETE FROM jobtrail.jobs")
    assert await place.value("SELECT count(*) FROM jobtrail.app_keys") == 0
    assert (await host.trail.options(idempotency_key="k").submit(noop, 1)).id != job.id
