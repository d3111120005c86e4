"""`session=`: a job in the caller's own transaction."""

import logging
from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

import pytest
from fastapi import Depends, HTTPException
from fastapi.responses import JSONResponse
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from jobtrail import Jobs
from support.host import Host
from support.proxy import Proxy
from support.tasks import noop
from support.world import Place

USERS = text("INSERT INTO users (name) VALUES ('ada')")


@pytest.fixture
async def engine(place: Place) -> AsyncIterator[AsyncEngine]:
    """The host's own, with a table of the host's."""
    await place.psql.execute("DROP TABLE IF EXISTS users; CREATE TABLE users (name text)")
    made = create_async_engine(place.url.sqlalchemy)
    yield made
    await made.dispose()


async def counts(place: Place) -> tuple[int, int]:
    return tuple([await place.value(f"SELECT count(*) FROM {each}") for each in ("users", "jobtrail.jobs")])  # type: ignore[return-value]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_the_job_commits_with_the_row_and_runs_then(host: Host, place: Place, engine: AsyncEngine) -> None:
    @host.app.post("/signup")
    async def signup(jobs: Jobs) -> UUID:
        async with AsyncSession(engine) as session, session.begin():
            await session.execute(USERS)
            return jobs.options(session=session, tags=["own"]).add_task(noop, n=3).id

    assert await host.trail.wait(await host.post("/signup", 200), timeout=15) == {"ok": 3}
    assert await counts(place) == (1, 1)
    assert await place.value("SELECT u.xmin = t.xmin FROM users u, jobtrail.transitions t WHERE t.seq = 1")


@pytest.mark.parametrize("how", ["rollback", "raise", "savepoint", "forgotten"])
async def test_a_transaction_that_is_undone_takes_its_job_with_it(
    host: Host, place: Place, engine: AsyncEngine, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    @host.app.post("/signup")
    async def signup(jobs: Jobs) -> None:
        async with AsyncSession(engine) as session:
            await session.execute(USERS)
            part = await session.begin_nested() if how == "savepoint" else session
            jobs.options(session=session).add_task(noop)
            if how in ("rollback", "savepoint"):
                await part.rollback()
            if how == "savepoint":
                await session.commit()
            if how == "raise":
                raise HTTPException(409)

    await host.client.post("/signup")
    assert await counts(place) == (1 if how == "savepoint" else 0, 0)
    assert not warnings(caplog)


@pytest.mark.parametrize(
    ("scope", "commits", "warns"), [("request", False, True), ("request", True, False), ("function", False, False)]
)
async def test_a_session_that_commits_after_the_answer_is_warned_of_once(
    host: Host, place: Place, engine: AsyncEngine, caplog: pytest.LogCaptureFixture,
    scope: Any, commits: bool, warns: bool,
) -> None:  # fmt: skip
    """And not one that goes on after its commit."""

    async def get_session() -> AsyncIterator[AsyncSession]:
        async with AsyncSession(engine) as session:
            yield session
            await session.commit()

    @host.app.post("/signup")
    async def signup(session: Annotated[AsyncSession, Depends(get_session, scope=scope)], jobs: Jobs) -> UUID:
        job = jobs.options(session=session).add_task(noop, n=4)
        await session.flush()
        if commits:
            await session.commit()
            await session.execute(text("SELECT 1"))
        return job.id

    ids = [await host.post("/signup", 200) for _ in range(2)]
    assert ['scope="function"' in each for each in warnings(caplog)] == ([True] if warns else [])
    assert await counts(place) == (0, 2)
    if not warns:
        assert [await host.trail.wait(each, timeout=15) for each in ids] == [{"ok": 4}] * 2


@pytest.mark.usefixtures("engine")
async def test_a_commit_that_fails_is_503_and_leaves_no_row(host: Host, place: Place) -> None:
    async with Proxy.before(place) as wire:
        cut = create_async_engine(wire.url)

        @host.app.post("/signup")
        async def signup(jobs: Jobs) -> None:
            async with AsyncSession(cut) as session, session.begin():
                await session.execute(USERS)
                jobs.options(session=session).add_task(noop)
                wire.loses = "request"

        answer = await host.client.post("/signup")
        await cut.dispose()
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert await counts(place) == (0, 0)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("raised", [ConnectionRefusedError("a driver's, or mail"), ValueError("mine")])
async def test_an_error_of_the_hosts_own_stays_the_hosts(
    host: Host, engine: AsyncEngine, raised: Exception, when: str
) -> None:
    """Before its commit or after: a 503 would make the client send the request again."""

    @host.app.exception_handler(type(raised))
    async def mine(_request: Any, _error: Exception) -> JSONResponse:
        return JSONResponse({"mine": True}, 418)

    @host.app.post("/signup")
    async def signup(jobs: Jobs) -> None:
        async with AsyncSession(engine) as session, session.begin():
            jobs.options(session=session).add_task(noop)
            if when == "before":
                raise raised
        raise raised

    assert await host.post("/signup", 418) == {"mine": True}
    assert len(await host.trail.list()) == (1 if when == "after" else 0)


async def test_outside_a_request(host: Host, engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        job = await host.trail.options(session=session).submit(noop, 9)
        assert await host.trail.list() == []
        with pytest.raises(RuntimeError, match="stored when its session commits"):
            await job.wait(timeout=60)
        await session.commit()
    assert (await job.read()).args == {"n": 9}
