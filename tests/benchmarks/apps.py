"""What an endpoint is measured beside: `uvicorn benchmarks.apps:NAME`."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from fastapi import APIRouter, BackgroundTasks, FastAPI
from pydantic import BaseModel

from benchmarks.tasks import noop
from jobtrail import Jobs, Jobtrail


class Submit(BaseModel):
    task: str
    args: dict[str, Any] = {}
    ttl: int | None = None


class Accepted(BaseModel):
    id: UUID
    task: str
    status: str
    created_at: datetime
    trace_id: str


class Row(Accepted):
    """As many fields as a job has."""

    queue: str = "default"
    args: dict[str, Any] = {"a": 1}
    result: Any = None
    error: Any = None
    priority: int = 5
    tags: list[str] = []
    attempt: int = 0
    max_attempts: int = 1
    timeout: float | None = None
    progress: Any = None
    run_at: datetime = datetime.now(UTC)
    started_at: datetime | None = None
    finished_at: datetime | None = None
    ttl: float = 604800
    expires_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    cancel_reason: str | None = None
    created_by: str = "anonymous"
    node_id: UUID | None = None


def fields(task: str) -> dict[str, Any]:
    job_id = uuid4()
    return {"id": job_id, "task": task, "status": "pending", "created_at": datetime.now(UTC), "trace_id": job_id.hex}


nothing = FastAPI()
"""FastAPI doing nothing: it reads a body, adds a background task that returns at once, and answers."""


@nothing.post("/short", status_code=202)
async def answer_in_short(body: Submit, background: BackgroundTasks) -> Accepted:
    background.add_task(noop.function, 1)
    return Accepted(**fields(body.task))


@nothing.post("/full", status_code=202)
async def answer_in_full(body: Submit, background: BackgroundTasks) -> Row:
    background.add_task(noop.function, 1)
    return Row(**fields(body.task))


ONE = Row(**fields("noop"))
ROWS: dict[UUID, Row] = {}


@nothing.get("/row/{job_id}")
async def row(job_id: UUID) -> Row:
    return ROWS.get(job_id, ONE)


trail = Jobtrail()
endpoints = APIRouter()
"""Endpoints of a host app: the same one with Jobtrail and with BackgroundTasks."""


@endpoints.post("/jobs", status_code=202)
async def with_jobs(body: Submit, jobs: Jobs) -> dict[str, UUID]:
    return {"job": jobs.add_task(noop, **body.args).id}


@endpoints.post("/background", status_code=202)
async def with_background(body: Submit, background: BackgroundTasks) -> dict[str, UUID]:
    background.add_task(noop.function, **body.args)
    return {"job": uuid4()}


@asynccontextmanager
async def frozen_lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with trail.lifespan(app):
        gc.collect()
        gc.freeze()
        yield


host = FastAPI(lifespan=trail.lifespan)
host.include_router(endpoints)

frozen = FastAPI(lifespan=frozen_lifespan)
"""The same, and what was made at the start is left out of garbage collections."""
frozen.include_router(endpoints)
