"""The edges of a request: streams, background tasks, errors that are caught, answers that come late."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from fastapi import BackgroundTasks
from fastapi.responses import JSONResponse, StreamingResponse

from jobtrail import Jobs, Jobtrail
from jobtrail.errors import IdempotencyKeyReusedError
from support.host import TASKS, Host, settings_at
from support.proxy import Proxy
from support.tasks import noop
from support.world import Place

AFTER = r"stored already.*await trail\.submit"


async def test_a_stream_cannot_add_to_a_request_that_is_over(host: Host, place: Place) -> None:
    told: list[str] = []

    @host.app.post("/stream")
    async def stream(jobs: Jobs) -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            with pytest.raises(RuntimeError, match=AFTER) as found:
                jobs.add_task(noop)
            told.append(str(found.value))
            yield b"x"

        return StreamingResponse(parts())

    assert (await host.client.post("/stream")).content == b"x"
    assert len(told) == 1
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 0


async def test_a_background_task_cannot_either(host: Host) -> None:
    kept: list[Any] = []

    @host.app.post("/later")
    async def later(jobs: Jobs, background: BackgroundTasks) -> None:
        background.add_task(kept.append, jobs)

    await host.post("/later", 200)
    with pytest.raises(RuntimeError, match=AFTER):
        kept[0].add_task(noop)
    with pytest.raises(RuntimeError, match=AFTER):
        await kept[0].commit()


async def test_a_commit_that_failed_fails_the_request(host: Host) -> None:
    """Whoever catches the error may have spoken of the other jobs."""
    await host.trail.options(idempotency_key="k").submit(noop, 1)

    @host.app.post("/caught")
    async def caught(jobs: Jobs) -> dict[str, UUID]:
        job = jobs.add_task(noop, 2)
        jobs.options(idempotency_key="k").add_task(noop, 3)
        with pytest.raises(IdempotencyKeyReusedError):
            await jobs.commit()
        return {"job": job.id}

    assert "other arguments" in (await host.post("/caught", 422))["detail"]
    assert [job.args for job in await host.trail.list()] == [{"n": 1}]


async def test_a_response_with_a_background_task_of_its_own(host: Host) -> None:
    """FastAPI forgets those of dependencies then: the job is launched all the same, and not with the next poll."""
    done: list[str] = []

    @host.app.post("/own")
    async def own(jobs: Jobs) -> JSONResponse:
        tasks = BackgroundTasks()
        tasks.add_task(done.append, "own")
        return JSONResponse({"job": str(jobs.add_task(noop, 4).id)}, background=tasks)

    job = await host.post("/own", 200)
    assert await host.trail.wait(job["job"], timeout=5) == {"ok": 4}
    assert done == ["own"]


async def test_too_many_that_wait_are_429(place: Place) -> None:
    async with Host.at(place, said={"max_waiting": 1}) as host:

        @host.app.post("/signup")
        async def signup(jobs: Jobs) -> None:
            jobs.add_task(noop)

        await place.psql.execute("BEGIN; LOCK TABLE jobtrail.jobs IN ACCESS EXCLUSIVE MODE")
        try:
            first = asyncio.create_task(host.client.post("/signup"))
            waiting = host.trail._opened.services.admission  # type: ignore[union-attr]
            while not waiting._count:
                await asyncio.sleep(0.01)
            answer = await host.client.post("/signup")
        finally:
            await place.psql.execute("ROLLBACK")
        await first
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")


async def test_to_wait_has_an_end_where_the_database_says_nothing(place: Place) -> None:
    async with Proxy.before(place) as wire, Jobtrail(settings_at(wire.url), tasks=TASKS) as trail:
        job = await trail.submit(noop)
        wire.mute = True
        async with asyncio.timeout(60):
            with pytest.raises(TimeoutError, match="has not ended within"):
                await job.wait(timeout=0.2)
        wire.go_away()
