"""Read by mypy and pyright, never run: what a host writes is understood, and its types are known."""
# pyright: strict

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from typing import Annotated, Any, assert_type
from uuid import UUID

from fastapi import Depends, FastAPI
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from jobtrail import (
    Again,
    Caller,
    Fail,
    Gap,
    JobContext,
    JobEvent,
    JobHandle,
    Jobs,
    Jobtrail,
    Retry,
    Settings,
    Task,
    task,
)  # fmt: skip
from jobtrail.client import AsyncClient, AsyncJobHandle, Client, Page, submission
from jobtrail.client import JobHandle as RemoteHandle
from jobtrail.records import Batch, Job, Transition
from jobtrail.testing import Workbench, scratch_database, workbench


class Rates(BaseModel):
    euro: float


@task
async def send_welcome(to: str, copies: int = 1) -> bool:
    return bool(to) and copies > 0


@task(max_attempts=5, timeout=30, retry=Retry(base=0.5, factor=2, max=60, jitter=0.2, on=(TimeoutError,)), ttl=None)
async def fetch(context: JobContext, urls: list[str], *, at_once: int = 5) -> Rates:
    context.progress(1, total=len(urls), note="begun")
    context.log.info("attempt %d of %s", context.attempt, context.token("fetch"))
    session = await context.session()
    assert_type(session, AsyncSession)
    assert_type(await context.submit(send_welcome, "ada", copies=at_once), UUID)
    if context.cancelled:
        raise Fail("told to end")
    raise Again(after=5)


@task
def resize(width: int, *, height: int) -> date | None:
    return date(width, height, 1)


@task(runs_in="process", name="crunch", queue="slow", priority=2)
def crunch_numbers(numbers: list[float]) -> float:
    return sum(numbers)


@task
def in_context(context: JobContext, name: str) -> None:
    context.log.info(name)


@task
async def loose(payload: dict[str, Any], note: Any = None) -> dict[str, Any]:
    return {**payload, "note": note}


@task
def strict_loose(context: JobContext, /, payload: dict[str, Any]) -> Any:  # with Any, mypy needs the /
    return context.job_id if payload else None


@task
@Retry(on=(OSError,))
async def patient(n: int) -> str:
    return str(n)


@Retry(base=0.1, on=(OSError,))
async def called(n: int, *, x: str = "a") -> list[int]:
    return [n, len(x)]


@Retry()
def called_sync(n: int) -> str:
    return str(n)


class Shop:
    @Retry()
    async def find(self, n: int) -> str:
        return str(n)


async def again() -> None:
    assert_type(await called(1, x="b"), list[int])
    assert_type(called_sync(1), str)
    assert_type(await Shop().find(1), str)
    assert_type(Retry().call(called_sync, 1), str)
    assert_type(await Retry().call(called, 1, x="b"), list[int])


settings = Settings(database_url="postgresql://localhost/app", slots=4, tasks=("app.tasks",))
trail = Jobtrail(settings, engine=create_async_engine("postgresql+asyncpg://localhost/app"), tasks=[fetch, resize])


def staff() -> None: ...


Jobtrail(who=lambda request: Caller(request.headers["x-user"], frozenset({"read", "operate"})))
Jobtrail(who=lambda request: request.headers["x-user"])


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[dict[str, str], None]:
    async with trail.lifespan(app):
        yield {"db": "mine"}


app = FastAPI(lifespan=trail.lifespan)
both = FastAPI(lifespan=lifespan)
app.include_router(trail.router(read=Depends(staff), submit=None, operate=[Depends(staff)]), prefix="/jobs")
app.include_router(trail.router(read="open"))


@app.post("/signup", status_code=202)
async def signup(to: str, jobs: Jobs, session: Annotated[AsyncSession, Depends()]) -> dict[str, UUID]:
    job = jobs.add_task(send_welcome, to, copies=2)
    assert_type(job, JobHandle[bool])
    assert_type(jobs.add_task(fetch, ["a"], at_once=2), JobHandle[Rates])
    assert_type(jobs.add_task(loose, {"a": 1}), JobHandle[dict[str, Any]])
    jobs.add_task(loose, payload={}, note=1)
    assert_type(jobs.add_task(strict_loose, payload={}), JobHandle[Any])
    jobs.options(queue="mail", priority=9, run_at=datetime.now(UTC), ttl=None, timeout=2.5).add_task(patient, n=1)
    jobs.options(tags=["a"], max_attempts=3, idempotency_key="k").add_task(in_context, name="a")
    assert_type(jobs.options(session=session).add_task(resize, 1, height=2), JobHandle[date | None])
    await jobs.commit()
    assert_type(await job.wait(timeout=30), bool)
    return {"job": job.id}


@app.post("/plain")
def plain(jobs: Jobs, session: Annotated[Session, Depends()]) -> UUID:
    jobs.options(session=session, tags=("a", "b")).add_task(crunch_numbers, [1, 2.5])
    return jobs.add_task(in_context, "a").id


async def script() -> None:
    async with Jobtrail() as trail:
        job = await trail.submit(fetch, urls=["a"])
        assert_type(job, JobHandle[Rates])
        assert_type(await job.wait(), Rates)
        assert_type((await job.read()).id, UUID)
        assert_type(await trail.options(queue="slow").submit(crunch_numbers, numbers=[1]), JobHandle[float])
        debounced = trail.options(unique_key="k", on_duplicate="replace", delay=1, max_delay=5)
        assert_type(await debounced.submit(crunch_numbers, numbers=[1]), JobHandle[float])
        assert_type(await (await trail.submit(in_context, "a")).wait(), None)
        [newest] = await trail.list(status="failed", task=["fetch"], limit=1)
        await trail.cancel(newest.id, reason="enough")
        await trail.retry(str((await trail.get(newest.id)).id))


async def over_http() -> None:
    async with AsyncClient("http://127.0.0.1:8000/v1", "key", timeout=5) as client:
        job = await client.submit(fetch, urls=["a"])
        assert_type(job, AsyncJobHandle[Rates])
        assert_type(await job.wait(timeout=5), Rates)
        assert_type(await client.submit("fetch", urls=["a"]), AsyncJobHandle[Any])
        options = client.options(queue="slow", after=[job, job.id, job.job], ttl=None)
        assert_type(await options.submit(crunch_numbers, [1]), AsyncJobHandle[float])
        assert_type(await client.list(status="failed", task=[fetch, "other"]), Page[Job])
        async for event in client.events(task=fetch):
            if not isinstance(event, Gap):
                assert_type(event.job_id, UUID)


def over_http_blocking() -> None:
    with Client("http://127.0.0.1:8000/v1") as client:
        job = client.submit(fetch, ["a"], at_once=1)
        assert_type(job, RemoteHandle[Rates])
        assert_type(job.wait(5), Rates)
        assert_type(client.options(unique_key="k").submit("fetch", urls=["a"]), RemoteHandle[Any])
        assert_type(client.cancel(job.id, reason="enough"), Job)
        assert_type(client.transitions(str(job.id)), Sequence[Transition])
        assert_type(client.list(limit=1).items, Sequence[Job])
        assert_type(client.amend(job.id, ttl=None), Job)
        assert_type(client.submit_batch([submission(fetch, ["a"]), submission("fetch", urls=[])]), Batch)
        for event in client.job_events(job.id):
            assert_type(event, JobEvent | Gap)


async def handed_on(job: JobHandle[bool], again: Task[[int], str], jobs: Jobs) -> bool:
    assert_type(jobs.add_task(again, 1), JobHandle[str])
    return await job.wait()


async def test_of_a_host(jobtrail: Workbench) -> None:
    assert_type(jobtrail.assert_submitted(fetch, urls=["a"], at_once=2), Job)
    jobtrail.assert_submitted(fetch)
    jobtrail.assert_nothing_submitted(resize)
    assert_type(jobtrail.run(within=5, later=True), list[Job])
    assert_type(await jobtrail.run_async(), list[Job])
    Jobtrail(jobtrail.database.settings(slots=1), engine=create_async_engine(jobtrail.database.sqlalchemy_url))


def test_of_a_host_without_fixtures() -> None:
    with scratch_database() as database, workbench(database, tasks=[resize]) as jobtrail:
        assert_type(jobtrail, Workbench)
