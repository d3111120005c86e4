"""`Jobs` in endpoints of a host: stored before the answer, or not at all."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.types import Message, Receive, Scope, Send

from jobtrail import Jobs, Jobtrail, task
from jobtrail.errors import InvalidArgumentsError, InvalidInputError, NotRunningError
from support.host import TASKS, Host, settings_at
from support.proxy import Proxy
from support.service import client_of
from support.tasks import fail, hold, noop
from support.world import Place

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@task
async def stranger() -> None:
    """No Jobtrail of these tests knows it."""


@task(name="noop")
async def impostor(n: int = 0) -> None:
    """Another than the one of that name that they know."""


async def in_loop(jobs: Jobs) -> dict[str, UUID]:
    return {"job": jobs.add_task(noop, n=1).id}


def in_thread(jobs: Jobs) -> dict[str, UUID]:
    return {"job": jobs.add_task(noop, 1).id}


@pytest.mark.parametrize("endpoint", [in_loop, in_thread])
async def test_a_job_is_committed_before_the_answer_leaves(
    host: Host, place: Place, endpoint: Callable[..., Any]
) -> None:
    host.app.post("/signup", status_code=202)(endpoint)
    stored: list[int] = []

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                stored.append(await place.value("SELECT count(*) FROM jobtrail.jobs"))
            await send(message)

        await host.app(scope, receive, watch)

    async with client_of(watched) as client:  # type: ignore[arg-type]
        answer = await client.post("/signup")
    assert (answer.status_code, stored) == (202, [1])
    job = await host.trail.get(answer.json()["job"])
    assert (job.task, job.args, job.created_by) == ("noop", {"n": 1}, "app")


@pytest.mark.parametrize("endpoint", [in_loop, in_thread])
async def test_a_job_runs_after_the_answer(host: Host, endpoint: Callable[..., Any]) -> None:
    """At once, and not with the next poll."""
    host.app.post("/signup", status_code=202)(endpoint)
    job = await host.post("/signup", 202)
    assert await host.trail.wait(job["job"], timeout=5) == {"ok": 1}


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
        await host.client.post("/signup")
    else:
        with pytest.raises(asyncio.CancelledError):
            await host.client.post("/signup")
    assert await place.value("SELECT count(*) FROM jobtrail.transitions") == 0


async def test_the_jobs_of_a_request_are_stored_together(host: Host, place: Place) -> None:
    @host.app.post("/several")
    async def several(jobs: Jobs) -> list[UUID]:
        return [jobs.add_task(noop, n).id for n in range(3)]

    ids = await host.post("/several", 200)
    assert await place.value("SELECT count(DISTINCT xact) FROM jobtrail.transitions WHERE seq = 1") == 1
    assert [await host.trail.wait(each, timeout=5) for each in ids] == [{"ok": 0}, {"ok": 1}, {"ok": 2}]


async def test_what_is_committed_at_once_stays(host: Host, place: Place) -> None:
    @host.app.post("/at-once")
    async def at_once(jobs: Jobs) -> None:
        job = jobs.add_task(noop, 5)
        await jobs.commit()
        assert await job.wait(timeout=60) == {"ok": 5}
        jobs.add_task(noop, 6)
        raise HTTPException(409)

    host.trail._opened.node.worker.claim_loop._every = 0.05  # type: ignore[union-attr]
    assert (await host.client.post("/at-once")).status_code == 409
    assert await place.value("SELECT array_agg(args->>'n') FROM jobtrail.jobs") == ["5"]


async def test_a_job_cannot_be_waited_for_before_it_is_stored(host: Host) -> None:
    @host.app.post("/early")
    async def early(jobs: Jobs) -> str:
        with pytest.raises(RuntimeError, match=r"stored when the endpoint returns.*jobs\.commit\(\)"):
            await jobs.add_task(noop).wait()
        return "refused"

    assert await host.post("/early", 200) == "refused"


@pytest.mark.parametrize("keyed", [False, True])
async def test_a_database_that_is_away_is_503_and_nothing_is_stored(place: Place, keyed: bool) -> None:
    said: Any = {"idempotency_key": "k"} if keyed else {}
    async with Proxy.before(place) as wire, Host.at(place, url=wire.url) as host:

        @host.app.post("/signup")
        async def signup(jobs: Jobs) -> None:
            jobs.options(**said).add_task(noop)

        wire.go_away()
        answer = await host.client.post("/signup")
        wire.away = False
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json() == {"detail": "the database is away or out of room for now"}
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 0


async def test_a_process_that_stops_takes_no_more(host: Host, place: Place) -> None:
    host.app.post("/signup")(in_loop)
    host.trail._opened.node.worker.draining = True  # type: ignore[union-attr]
    answer = await host.client.post("/signup")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "shutting down" in answer.text
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 0


async def test_all_that_can_be_said(host: Host) -> None:
    later = datetime(2100, 1, 1, tzinfo=UTC)

    @host.app.post("/signup")
    async def signup(jobs: Jobs) -> UUID:
        said = jobs.options(
            queue="mail", priority=9, run_at=later, ttl=None, timeout=2.5, tags=("a", "b"), max_attempts=4
        )
        return said.add_task(noop, n=3).id

    answer = await host.client.post("/signup", headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})
    job = await host.trail.get(answer.json())
    assert (job.queue, job.priority, job.run_at, job.ttl) == ("mail", 9, later, None)
    assert (job.timeout, job.tags, job.max_attempts, job.trace_id) == (timedelta(seconds=2.5), ["a", "b"], 4, TRACE)


def undecorated(n: int) -> None:
    """No task."""


WRONG: list[tuple[Callable[[Any], object], type[Exception], str]] = [
    (lambda jobs: jobs.add_task(undecorated, 1), TypeError, "test_endpoint.undecorated is not a task: write @task"),
    (lambda jobs: jobs.add_task(print), TypeError, "print is not a task"),
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


async def test_what_cannot_run_is_refused_where_it_is_added(host: Host, place: Place) -> None:
    refused: list[Exception] = []

    @host.app.post("/signup/{number}")
    async def signup(number: int, jobs: Jobs) -> None:
        jobs.add_task(noop)
        try:
            WRONG[number][0](jobs)
        except Exception as error:
            refused.append(error)
            raise

    for number, (_, error, told) in enumerate(WRONG):
        assert (await host.client.post(f"/signup/{number}")).status_code == 500
        assert type(refused[number]) is error
        assert told in str(refused[number])
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 0


async def test_the_hosts_own_background_tasks_run_beside_ours(host: Host) -> None:
    done: list[str] = []

    @host.app.post("/signup")
    async def signup(jobs: Jobs, background: BackgroundTasks) -> UUID:
        background.add_task(done.append, "the host's")
        return jobs.add_task(noop).id

    await host.trail.wait(await host.post("/signup", 200), timeout=5)
    assert done == ["the host's"]


async def test_a_dependency_and_its_endpoint_have_the_same_jobs(host: Host, place: Place) -> None:
    async def audit(jobs: Jobs) -> None:
        jobs.add_task(noop, 1)

    @host.app.post("/signup", dependencies=[Depends(audit)])
    async def signup(jobs: Jobs) -> None:
        jobs.add_task(noop, 2)

    await host.post("/signup", 200)
    assert await place.value("SELECT count(DISTINCT xact) FROM jobtrail.transitions WHERE seq = 1") == 1
    assert len(await host.trail.list()) == 2


async def test_who_calls_is_asked_of_the_host(place: Place) -> None:
    async with Host.at(place, who=lambda request: request.headers["x-user"]) as host:
        host.app.post("/signup")(in_loop)
        job = await host.post("/signup", 200, headers={"x-user": "ada@example.org"})
        assert (await host.trail.get(job["job"])).created_by == "ada@example.org"
        assert (await host.client.post("/signup", headers={"x-user": "x" * 256})).status_code == 500


async def test_without_a_lifespan_the_fix_is_named(place: Place) -> None:
    app = FastAPI()
    app.post("/signup")(in_loop)
    Jobtrail(settings_at(place.url.libpq), tasks=TASKS)
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
        while len(await host.trail.list(status="running")) < 20:
            await asyncio.sleep(0.01)
        engines = (database.grouped, database.engine, database.jobs)
        assert [each.sync_engine.pool.checkedout() for each in engines] == [0, 0, 0]  # type: ignore[attr-defined]
