"""How a Jobtrail starts and ends with its host, however the host is put together."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Request
from sqlalchemy.ext.asyncio import create_async_engine

from jobtrail import Jobs, Jobtrail
from jobtrail.db.url import normalize
from jobtrail.errors import AlreadyRunningError, NotRunningError, SettingsError, UnavailableError
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


def nested(app: FastAPI, trail: Jobtrail) -> FastAPI:
    inner = APIRouter()
    inner.include_router(trail.router(read="open"), prefix="/office")
    app.include_router(inner)
    return app


HOSTS: dict[str, Callable[[Jobtrail, Own], FastAPI]] = {
    "router": lambda trail, _: included(FastAPI(), trail),
    "nested router": lambda trail, _: nested(FastAPI(), trail),
    "lifespan and router": lambda trail, _: included(FastAPI(lifespan=trail.lifespan), trail),
    "own lifespan and two routers": lambda trail, own: nested(included(FastAPI(lifespan=own.alone), trail), trail),
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
            assert await trail.wait(job["job"], timeout=15) == {"ok": 3}
            if "router" in made:
                assert (await host.client.get("/office/jobs")).json()["items"][0]["status"] == "succeeded"
            assert await place.value("SELECT count(*) FROM jobtrail.nodes WHERE heartbeat_at IS NOT NULL") == 1
        assert own.is_open is False
        with pytest.raises(NotRunningError, match="is not running: hand its lifespan over"):
            await trail.list()
        await place.empty()
    await host.client.aclose()


async def test_a_mounted_app_names_the_fix(place: Place, caplog: pytest.LogCaptureFixture) -> None:
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


async def test_two_in_one_process_are_refused(place: Place) -> None:
    first, second = (Jobtrail(settings_at(place.url.libpq), tasks=TASKS) for _ in range(2))
    app = included(included(FastAPI(), first), second)
    with pytest.raises(
        AlreadyRunningError, match=r"made at .*test_lifespan\.py:\d+, runs in this process: use that one"
    ):
        async with app.router.lifespan_context(app):
            pass
    async with second.lifespan():
        assert await second.list() == []


async def test_another_event_loop_is_refused_and_breaks_nothing(place: Place) -> None:
    trail = Jobtrail(settings_at(place.url.libpq), tasks=TASKS)
    async with trail.lifespan():
        job = await trail.submit(noop)
        for asked in (job.wait, job.read, trail.list, partial(trail.submit, noop)):
            with pytest.raises(RuntimeError, match="runs in another event loop"):
                await asyncio.to_thread(asyncio.run, asked())
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(job.wait(5), loop).result())
        assert [each.id for each in await trail.list()] == [job.id]


@pytest.mark.parametrize(
    ("url", "text"),
    [(None, "JOBTRAIL_DATABASE_URL is not set"), ("postgresql://me@127.0.0.1:1/none", "nothing answers at")],
)
async def test_a_database_that_is_not_there_is_named_at_start(url: str | None, text: str) -> None:
    settings = settings_at("postgresql://me@127.0.0.1/x").model_copy(update={"database_url": url})
    with pytest.raises((SettingsError, UnavailableError), match=text):
        await Jobtrail(settings, tasks=TASKS).__aenter__()


async def test_a_database_without_the_schema_names_the_command(empty_url: str) -> None:
    with pytest.raises(SettingsError, match="run `jobtrail migrate`"):
        await Jobtrail(settings_at(empty_url), tasks=TASKS).__aenter__()
    engine = create_async_engine(normalize(empty_url).sqlalchemy)
    with pytest.raises(SettingsError, match=r"run `JOBTRAIL_DATABASE_URL=postgresql://.* jobtrail migrate`"):
        await Jobtrail(engine=engine, tasks=TASKS).__aenter__()
    await engine.dispose()
