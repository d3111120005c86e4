"""Tasks of a host that tests them, and its app."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from fastapi import FastAPI

from jobtrail import Again, JobContext, Jobs, Jobtrail, Retry, task
from jobtrail.task.task import Task
from support import heavy
from support import tasks as simple

TOMORROW = datetime(2100, 1, 1, tzinfo=UTC)


@task
async def where() -> int:
    return id(asyncio.get_running_loop())


@task(max_attempts=3, retry=Retry(base=3600, max=3600))
async def stubborn(context: JobContext) -> int:
    if context.attempt == 1:
        raise ConnectionError("not yet")
    if context.attempt == 2:
        raise Again(after=3600)
    return context.attempt


@task(max_attempts=2, retry=Retry(base=3600, max=3600))
async def halfway(context: JobContext) -> list[int | None]:
    if context.attempt == 1:
        await context.checkpoint(41)
        raise ConnectionError("half the way")
    return [context.cursor, context.attempt]


@task
async def family(context: JobContext, generations: int) -> None:
    if generations:
        await context.submit(family, generations - 1)


RUNNING: list[Jobtrail] = []
"""Whose jobs submit jobs for tomorrow."""


@task
async def every_day(day: int) -> int:
    await RUNNING[-1].options(run_at=TOMORROW).submit(every_day, day + 1)
    return day


@task
async def ship(order: UUID, express: bool = False, parts: tuple[int, ...] = (1, 2)) -> None: ...


TASKS: list[Task[..., Any]] = [
    where, stubborn, halfway, family, every_day, ship,
    heavy.add, simple.in_thread, simple.noop, simple.fail, simple.hold, simple.block,
]  # fmt: skip


def app_of(trail: Jobtrail) -> FastAPI:
    app = FastAPI(lifespan=trail.lifespan)

    @app.get("/where")
    async def tell(jobs: Jobs) -> int:
        jobs.add_task(where)
        return id(asyncio.get_running_loop())

    @app.get("/block")
    async def stop(jobs: Jobs) -> None:
        jobs.add_task(simple.block, seconds=0.5)

    @app.get("/runs")
    async def is_run() -> bool:
        """Whether the kit runs jobs in this loop."""
        return any("jobtrail/testing/workbench.py" in repr(each) for each in asyncio.all_tasks())

    return app
