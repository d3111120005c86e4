"""`Jobs` in endpoints of a host: stored before the answer, or not at all."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException
from fastapi.responses import JSONResponse, StreamingResponse
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from starlette.types import Message, Receive, Scope, Send

from jobtrail import Jobs, task
from jobtrail.errors import (
    BacklogFullError,
    IdempotencyKeyReusedError,
    InvalidArgumentsError,
    InvalidInputError,
    NotRunningError,
)
from support.host import Host
from support.proxy import Proxy
from support.service import client_of
from support.tasks import fail, hold, noop
from support.until import until
from support.world import Place

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
COUNT = "SELECT count(*) FROM jobtrail.jobs"


@task
async def stranger() -> None:
    """Unknown to the Jobtrail of these tests."""


@task(name="noop")
async def impostor(n: int = 0) -> None:
    """Another task with the name of one that it knows."""


async def in_loop(jobs: Jobs) -> dict[str, UUID]:
    return {"job": jobs.add_task(noop, n=1).id}


def in_thread(jobs: Jobs) -> dict[str, UUID]:
    return {"job": jobs.add_task(noop, 1).id}


@pytest.mark.parametrize("endpoint", [in_loop, in_thread])
async def test_a_job_is_committed_before_the_answer_leaves_and_runs_then(
    host: Host, place: Place, endpoint: Callable[..., Any]
) -> None:
    """At once, and not with the next poll."""
    host.app.post("/signup", status_code=202)(endpoint)
    stored: list[int] = []

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                stored.append(await place.value(COUNT))
            await send(message)

        await host.app(scope, receive, watch)

    async with client_of(watched) as client:  # type: ignore[arg-type]
        answer = await client.post("/signup")
    assert (answer.status_code, stored) == (202, [1])
    job_id = answer.json()["job"]
    assert await host.trail.wait(job_id, timeout=15) == {"ok": 1}
    job = await host.trail.get(job_id)
    assert (job.task, job.args, job.created_by) == ("noop", {"n": 1}, "app")


@pytest.mark.parametrize(
    ("raised", "status"), [(HTTPException(409, "taken"), 409), (RuntimeError("no"), 500), (asyncio.CancelledError(), 0)]
)
async def test_an_endpoint_that_raises_leaves_nothing(
    host: Host, place: Place, raised: BaseException, status: int
) -> None:
    @host.app.post("/signup")
    async def signup(jobs: Jobs) -> None:
        jobs.add_task(noop)
        raise raised

    if status:
        assert (await host.client.post("/signup")).status_code == status
    else:
        with pytest.raises(asyncio.CancelledError):
            await host.client.post("/signup")
    assert await place.value("SELECT count(*) FROM jobtrail.transitions") == 0


async def test_the_jobs_of_a_request_are_stored_together(host: Host, place: Place) -> None:
    """Those of its dependencies too."""

    async def audit(jobs: Jobs) -> None:
        jobs.add_task(noop, 0)

    @host.app.post("/several", dependencies=[Depends(audit)])
    async def several(jobs: Jobs) -> list[UUID]:
        return [jobs.add_task(noop, n).id for n in (1, 2)]

    ids = await host.post("/several", 200)
    assert await place.value("SELECT count(DISTINCT xact) FROM jobtrail.transitions WHERE seq = 1") == 1
    assert [await host.trail.wait(each, timeout=15) for each in ids] == [{"ok": 1}, {"ok": 2}]
    assert await place.value(COUNT) == 3


async def test_a_job_that_is_committed_at_once_stays(host: Host, place: Place) -> None:
    @host.app.post("/at-once")
    async def at_once(jobs: Jobs) -> None:
        job = jobs.add_task(noop, 5)
        with pytest.raises(RuntimeError, match=r"stored when the endpoint returns.*jobs\.commit\(\)"):
            await job.wait()
        await jobs.commit()
        assert (await job.read()).args == {"n": 5}
        jobs.add_task(noop, 6)
        raise HTTPException(409)

    await host.post("/at-once", 409)
    assert await place.value("SELECT array_agg(args->>'n') FROM jobtrail.jobs") == ["5"]


async def test_a_commit_that_failed_fails_the_request(host: Host) -> None:
    """An endpoint that catches the error may have promised the other jobs."""
    await host.trail.options(idempotency_key="k").submit(noop, 1)

    @host.app.post("/caught")
    async def caught(jobs: Jobs) -> None:
        jobs.add_task(noop, 2)
        jobs.options(idempotency_key="k").add_task(noop, 3)
        with pytest.raises(IdempotencyKeyReusedError):
            await jobs.commit()

    assert "other arguments" in (await host.post("/caught", 422))["detail"]
    assert [job.args for job in await host.trail.list()] == [{"n": 1}]


@pytest.mark.parametrize("keyed", [False, True])
async def test_a_database_that_is_away_is_503_and_nothing_is_stored(place: Place, keyed: bool) -> None:
    options: Any = {"idempotency_key": "k"} if keyed else {}
    async with Proxy.before(place) as wire, Host.at(place, url=wire.url) as host:

        @host.app.post("/signup")
        async def signup(jobs: Jobs) -> None:
            jobs.options(**options).add_task(noop)

        wire.go_away()
        answer = await host.client.post("/signup")
        wire.away = False
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json() == {"detail": "the database is away or out of room for now"}
    assert await place.value(COUNT) == 0


async def test_a_process_that_stops_takes_no_more(host: Host, place: Place) -> None:
    host.app.post("/signup")(in_loop)
    host.trail._opened.node.worker.draining = True  # type: ignore[union-attr]
    answer = await host.client.post("/signup")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "shutting down" in answer.text
    assert await place.value(COUNT) == 0


async def test_too_many_that_wait_are_429(place: Place) -> None:
    async with Host.at(place, said={"max_waiting": 1}) as host:
        host.app.post("/signup")(in_loop)
        admission = host.trail._opened.services.admission  # type: ignore[union-attr]

        async def one_waits() -> bool:
            return admission._count == 1

        await place.psql.execute("BEGIN; LOCK TABLE jobtrail.jobs IN ACCESS EXCLUSIVE MODE")
        try:
            first = asyncio.create_task(host.client.post("/signup"))
            await until(one_waits)
            answer = await host.client.post("/signup")
        finally:
            await place.psql.execute("ROLLBACK")
        await first
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")


async def test_too_many_pending_jobs_are_429_but_those_of_a_session(place: Place) -> None:
    """A full queue is judged when the endpoint has returned; a script gets the error itself."""
    engine = create_async_engine(place.url.sqlalchemy)
    async with Host.at(place, said={"max_pending": {"mail": 1}, "slots": 0}) as host, AsyncSession(engine) as session:

        @host.app.post("/signup", status_code=202)
        async def signup(jobs: Jobs) -> None:
            jobs.options(queue="mail").add_task(noop)

        await host.trail.options(queue="mail").submit(noop)
        host.trail._opened.services.pending["queue"]._at -= 2  # type: ignore[union-attr]
        answer = await host.client.post("/signup")
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
        with pytest.raises(BacklogFullError):
            await host.trail.options(queue="mail").submit(noop)
        await host.trail.options(queue="mail", session=session).submit(noop)
        await session.commit()
        assert await place.value(COUNT) == 2
    await engine.dispose()


async def test_every_option_is_stored(host: Host) -> None:
    later = datetime(2100, 1, 1, tzinfo=UTC)

    @host.app.post("/signup")
    async def signup(jobs: Jobs) -> UUID:
        chosen = jobs.options(
            queue="mail", priority=9, run_at=later, ttl=None, timeout=2.5, tags=("a", "b"), max_attempts=4
        )
        return chosen.add_task(noop, n=3).id

    job = await host.trail.get(await host.post("/signup", 200, headers={"traceparent": f"00-{TRACE}-{TRACE[:16]}-01"}))
    assert (job.queue, job.priority, job.run_at, job.ttl) == ("mail", 9, later, None)
    assert (job.timeout, job.tags, job.max_attempts, job.trace_id) == (timedelta(seconds=2.5), ["a", "b"], 4, TRACE)


def undecorated(n: int) -> None:
    """No task."""


WRONG: list[tuple[Callable[[Any], object], type[Exception], str]] = [
    (lambda jobs: jobs.add_task(undecorated, 1), TypeError, "test_endpoint.undecorated is not a task: write @task"),
    (lambda jobs: jobs.add_task(None), TypeError, "None is not a task"),
    (lambda jobs: jobs.add_task(stranger), TypeError, "was not known when Jobtrail started"),
    (lambda jobs: jobs.add_task(impostor), TypeError, "is another task than the one of that name"),
    (lambda jobs: jobs.add_task(noop, n="many"), InvalidArgumentsError, "/n: "),
    (lambda jobs: jobs.add_task(noop, n=object()), InvalidArgumentsError, "/n: "),
    (lambda jobs: jobs.add_task(noop, m=1), InvalidArgumentsError, "/m: there is no such argument"),
    (lambda jobs: jobs.add_task(noop, 1, 2), InvalidArgumentsError, "2 arguments by position"),
    (lambda jobs: jobs.add_task(fail), InvalidArgumentsError, "this argument is missing"),
    (lambda jobs: jobs.options(priority=10).add_task(noop), InvalidInputError, "/priority: "),
    (lambda jobs: jobs.options(run_at=datetime(2030, 1, 1)).add_task(noop), InvalidInputError, "/run_at: "),  # noqa: DTZ001
    (lambda jobs: jobs.options(prioritaet=1).add_task(noop), InvalidInputError, "/prioritaet: "),
    (lambda jobs: jobs.options(idempotency_key="").add_task(noop), InvalidInputError, "/idempotency_key: "),
    (lambda jobs: jobs.options(tags="abc").add_task(noop), InvalidInputError, "/tags: "),
    (lambda jobs: jobs.options(session="s").add_task(noop), TypeError, "session='s'"),
    (
        lambda jobs: jobs.options(session=AsyncSession(), idempotency_key="k").add_task(noop),
        TypeError,
        "make a row of your own unique instead",
    ),
]


async def test_a_job_that_cannot_run_is_refused_where_it_is_added(host: Host, place: Place) -> None:
    refused: list[Exception] = []

    @host.app.post("/signup/{number}")
    async def signup(number: int, jobs: Jobs) -> None:
        jobs.add_task(noop)
        try:
            WRONG[number][0](jobs)
        except Exception as error:
            refused.append(error)
            raise

    for number, (_, error, text) in enumerate(WRONG):
        assert (await host.client.post(f"/signup/{number}")).status_code == 500
        assert type(refused[number]) is error
        assert text in str(refused[number])
    assert await place.value(COUNT) == 0


@pytest.mark.parametrize("own_response", [False, True])
async def test_the_hosts_own_background_tasks_run_beside_ours(host: Host, own_response: bool) -> None:
    """Where the response has its own, FastAPI forgets those of dependencies: the job is launched all the same."""
    done: list[str] = []

    @host.app.post("/signup", response_model=None)
    async def signup(jobs: Jobs, background: BackgroundTasks) -> JSONResponse | str:
        job = str(jobs.add_task(noop, 4).id)
        tasks = BackgroundTasks() if own_response else background
        tasks.add_task(done.append, "the host's")
        return JSONResponse(job, background=tasks) if own_response else job

    assert await host.trail.wait(await host.post("/signup", 200), timeout=15) == {"ok": 4}
    assert done == ["the host's"]


async def test_a_request_that_is_over_takes_no_more(host: Host, place: Place) -> None:
    """Not from a stream, and not from a background task."""
    over = r"stored already.*await trail\.submit"
    kept: list[Any] = []

    @host.app.post("/stream")
    async def stream(jobs: Jobs, background: BackgroundTasks) -> StreamingResponse:
        background.add_task(kept.append, jobs)

        async def parts() -> AsyncIterator[bytes]:
            with pytest.raises(RuntimeError, match=over):
                jobs.add_task(noop)
            yield b"refused"

        return StreamingResponse(parts())

    assert (await host.client.post("/stream")).content == b"refused"
    with pytest.raises(RuntimeError, match=over):
        await kept[0].commit()
    assert await place.value(COUNT) == 0


async def test_without_a_lifespan_the_fix_is_named() -> None:
    app = FastAPI()
    app.post("/signup")(in_loop)
    async with client_of(app) as client:
        with pytest.raises(NotRunningError, match=r"FastAPI\(lifespan=trail\.lifespan\)"):
            await client.post("/signup")


async def test_no_connection_is_held_while_jobs_run(place: Place) -> None:
    async with Host.at(place, said={"slots": 20, "pool_size": 2, "cancel_grace": 0.1, "grace": 0}) as host:

        @host.app.post("/holds")
        async def holds(jobs: Jobs) -> None:
            for _ in range(20):
                jobs.add_task(hold)

        await host.post("/holds", 200)
        database = host.trail._opened.services.database  # type: ignore[union-attr]
        engines = (database.grouped, database.engine, database.jobs)

        async def all_run_without_any() -> bool:
            running = await place.value(f"{COUNT} WHERE status = 'running'")
            return running == 20 and not any(each.sync_engine.pool.checkedout() for each in engines)  # type: ignore[attr-defined]

        await until(all_run_without_any)
