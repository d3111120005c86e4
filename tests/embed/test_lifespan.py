"""How a Jobtrail starts and ends with its host, however the host is put together."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Request

from jobtrail import Jobs, Jobtrail
from jobtrail.errors import AlreadyRunningError, NotRunningError
from support.host import TASKS, Host, settings_at
from support.tasks import noop
from support.world import Place


class Own:
    """What the host opens and closes itself."""

    def __init__(self, trail: Jobtrail) -> None:
        self.trail = trail
        self.is_open = False

    @asynccontextmanager
    async def alone(self, _app: FastAPI) -> AsyncIterator[Mapping[str, str]]:
        self.is_open = True
        yield {"db": "the host's"}
        with pytest.raises(NotRunningError):  # what a job uses is closed after the last job
            await self.trail.list()
        self.is_open = False

    @asynccontextmanager
    async def around(self, app: FastAPI) -> AsyncIterator[Mapping[str, str]]:
        async with self.alone(app) as state, self.trail.lifespan(app):
            yield state


def included(app: FastAPI, trail: Jobtrail) -> FastAPI:
    app.include_router(trail.router(read="open"), prefix="/office")
    return app


def twice(app: FastAPI, trail: Jobtrail) -> FastAPI:
    app.include_router(trail.router(read="open", operate="open"), prefix="/other")
    return included(app, trail)


def nested(app: FastAPI, trail: Jobtrail) -> FastAPI:
    inner = APIRouter()
    inner.include_router(trail.router(read="open"), prefix="/office")
    app.include_router(inner)
    return app


HOSTS: dict[str, Callable[[Jobtrail, Own], FastAPI]] = {
    "router": lambda trail, _: included(FastAPI(), trail),
    "nested router": lambda trail, _: nested(FastAPI(), trail),
    "lifespan and router": lambda trail, _: included(FastAPI(lifespan=trail.lifespan), trail),
    "lifespan and two routers": lambda trail, _: twice(FastAPI(lifespan=trail.lifespan), trail),
    "own lifespan and router": lambda trail, own: included(FastAPI(lifespan=own.alone), trail),
    "own lifespan and two routers": lambda trail, own: twice(FastAPI(lifespan=own.alone), trail),
    "inside of its own": lambda _, own: FastAPI(lifespan=own.around),
    "inside of its own and router": lambda trail, own: included(FastAPI(lifespan=own.around), trail),
}


@pytest.mark.parametrize("made", HOSTS)
async def test_a_lifespan_that_is_given_or_included_runs(place: Place, made: str) -> None:
    trail = Jobtrail(settings_at(place.url.libpq), tasks=TASKS)
    own = Own(trail)
    host = Host(trail, HOSTS[made](trail, own))

    @host.app.post("/signup")
    async def signup(jobs: Jobs) -> dict[str, Any]:
        assert own.is_open is ("own" in made)
        return {"job": jobs.add_task(noop, n=3).id}

    for _ in range(2):  # an app may be started again
        async with host.app.router.lifespan_context(host.app) as state:
            assert (state or {}) == ({"db": "the host's"} if "own" in made else {})
            job = await host.post("/signup", 200)
            assert await trail.wait(job["job"], timeout=5) == {"ok": 3}
            if "router" in made:
                assert (await host.client.get("/office/jobs")).json()["items"][0]["status"] == "succeeded"
            assert await place.value("SELECT count(*) FROM jobtrail.nodes WHERE heartbeat_at IS NOT NULL") == 1
        assert own.is_open is False
        with pytest.raises(NotRunningError, match="is not running: hand its lifespan over"):
            await trail.list()
        await place.empty()
    await host.client.aclose()


async def test_a_mounted_app_tells_the_fix(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    trail = Jobtrail(settings_at(place.url.libpq), tasks=TASKS)
    inner, outer = included(FastAPI(lifespan=trail.lifespan), trail), FastAPI()

    @inner.post("/signup")
    async def signup(request: Request, jobs: Jobs) -> str:
        return f"{request.url.path} {jobs.add_task(noop).task}"

    outer.mount("/inner", inner)
    async with Host(trail, outer).client as client, outer.router.lifespan_context(outer):
        answer = await client.get("/inner/office/jobs")
        assert (answer.status_code, "mount" in answer.text) == (500, False)
        assert "is not running: hand its lifespan over, FastAPI(lifespan=trail.lifespan)" in caplog.text
        assert "the lifespan of a mounted app never runs" in caplog.text
        assert (await client.post("/inner/signup")).status_code == 500
    async with Host(trail, outer).client as client, trail.lifespan(outer):
        assert (await client.get("/inner/office/jobs")).status_code == 200
        assert (await client.post("/inner/signup")).json() == "/inner/signup noop"


async def test_two_in_one_process_are_told_apart(place: Place) -> None:
    first, second = (Jobtrail(settings_at(place.url.libpq), tasks=TASKS) for _ in range(2))
    app = included(included(FastAPI(), first), second)
    with pytest.raises(
        AlreadyRunningError, match=r"made at .*test_lifespan\.py:\d+, runs in this process: use that one"
    ):
        async with app.router.lifespan_context(app):
            pass
    async with second.lifespan():
        assert await second.list() == []


async def test_it_runs_until_the_last_one_leaves(place: Place) -> None:
    trail = Jobtrail(settings_at(place.url.libpq), tasks=TASKS)
    async with trail.lifespan():
        async with trail.lifespan():
            await trail.submit(noop, 1)
        assert await (await trail.submit(noop, 2)).wait(timeout=60) == {"ok": 2}
        assert await place.value("SELECT count(*) FROM jobtrail.nodes") == 1
