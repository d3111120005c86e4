"""A host with Jobtrail is the host that it was, in what it answers and in what it says of itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, create_model
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from jobtrail import Jobs, Jobtrail
from jobtrail.api.schemas import Job as OurJob
from support.host import TASKS, settings_at
from support.world import Place


class Job(BaseModel):
    """The host's own, and so are the next ones."""

    salary: int


class Status(BaseModel):
    is_open: bool


class Task(BaseModel):
    jobs: list[Job]
    status: Status


@asynccontextmanager
async def own_lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
    app.state.jobs = "the host's"
    yield {"db": "the host's", "jobs": "too"}


def shop(handlers: bool, **said: Any) -> FastAPI:
    """It has names that we have too: Job, Task, Status, get_job, list_jobs, /jobs, /problems, the tag jobs."""
    app = FastAPI(title="Shop", lifespan=own_lifespan, **said)

    @app.middleware("http")
    async def stamp(request: Request, call_next: Any) -> Any:
        answer = await call_next(request)
        answer.headers["x-stamp"] = "shop"
        return answer

    if handlers:
        app.add_exception_handler(RequestValidationError, lambda *_: JSONResponse({"shop": "invalid"}, 422))
        app.add_exception_handler(404, lambda *_: JSONResponse({"shop": "nothing"}, 404))
        app.add_exception_handler(Exception, lambda *_: JSONResponse({"shop": "sorry"}, 500))

    @app.get("/jobs/{job_id}", tags=["jobs"])
    async def get_job(job_id: int) -> Job:
        return Job(salary=job_id)

    @app.post("/jobs", status_code=201)
    async def list_jobs(task: Task, status: Literal["a", "b"] = "a") -> dict[str, Task | str]:
        return {"task": task, "status": status}

    @app.get("/problems")
    async def get_problem(request: Request) -> dict[str, Any]:
        return {"state": request.state._state, "app": request.app.state._state}

    @app.get("/broken/{how}")
    async def broken(how: str) -> None:
        raise HTTPException(409, "mine") if how == "told" else RuntimeError("mine")

    return app


def with_ours(app: FastAPI, trail: Jobtrail) -> FastAPI:
    app.include_router(trail.router(read="open", submit="open", operate="open"), prefix="/trail")
    return app


CALLS: list[tuple[str, str, bytes | None]] = [
    ("GET", "/jobs/1", None), ("GET", "/jobs/x", None), ("PUT", "/jobs", None), ("GET", "/nothing", None),
    ("POST", "/jobs", b'{"jobs":[{"salary":5}],"status":{"is_open":true}}'), ("POST", "/jobs", b"{"),
    ("POST", "/jobs", b'{"jobs":[]}'), ("POST", "/jobs?status=c", b"{}"), ("GET", "/problems", None),
    ("GET", "/broken/told", None), ("GET", "/broken/down", None), ("GET", "/problems/", None),
    ("HEAD", "/jobs/1", None), ("OPTIONS", "/jobs", None), ("GET", "/trailer", None),
]  # fmt: skip


async def answers(app: FastAPI) -> list[Any]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    json = {"Content-Type": "application/json"}
    async with app.router.lifespan_context(app) as state:

        async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": dict(state)}, receive, send)

        transport.app = with_state
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
            got = [await client.request(method, path, content=body, headers=json) for method, path, body in CALLS]
    return [(each.status_code, each.headers, each.content) for each in got]


@pytest.mark.parametrize("handlers", [False, True])
async def test_its_answers_are_as_before(place: Place, handlers: bool) -> None:
    trail = Jobtrail(settings_at(place.url.libpq), tasks=TASKS)
    before, after = await answers(shop(handlers)), await answers(with_ours(shop(handlers), trail))
    for call, one, other in zip(CALLS, before, after, strict=True):
        assert one == other, call
    statuses = [200, 422, 405, 404, 201, 422, 422, 422, 200, 409, 500, 307, 405, 405, 404]
    assert [status for status, *_ in before] == statuses


def test_its_documentation_is_as_before() -> None:
    before, after = shop(False).openapi(), with_ours(shop(False), Jobtrail()).openapi()
    after["paths"] = {path: calls for path, calls in after["paths"].items() if not path.startswith("/trail/")}
    schemas = after["components"]["schemas"]
    ours = [name for name in schemas if name.startswith("Jobtrail")]
    assert len(ours) > 30
    for name in ours:
        del schemas[name]
    assert after == before


def test_no_name_of_ours_is_taken_from_it() -> None:
    """Whatever a host calls its models and functions, the documentation keeps the names, and finds no two alike."""
    ours = with_ours(FastAPI(), Jobtrail())
    app = with_ours(FastAPI(generate_unique_id_function=lambda route: route.name), Jobtrail())
    schemas = [name.removeprefix("Jobtrail") for name in ours.openapi()["components"]["schemas"]]
    for name in schemas:
        app.get(f"/mine/{name}", name=f"of_{name}")(_returns(create_model(name, mine=(int, ...))))
    for methods in ours.openapi()["paths"].values():
        for each in methods.values():
            name = each["operationId"].removeprefix("jobtrail_")
            app.get(f"/named/{name}", name=name)(_returns(int))
    told = app.openapi()
    for name in schemas:
        content = told["paths"][f"/mine/{name}"]["get"]["responses"]["200"]["content"]
        assert content["application/json"]["schema"] == {"$ref": f"#/components/schemas/{name}"}
    ids = [each["operationId"] for methods in told["paths"].values() for each in methods.values()]
    assert len(ids) == len(set(ids))
    assert OurJob.__name__ == "Job"


def _returns(kind: Any) -> Any:
    async def endpoint() -> Any: ...

    endpoint.__annotations__["return"] = kind
    return endpoint


def test_an_endpoint_with_jobs_says_the_same_of_itself() -> None:
    def said_of(*, jobs: bool) -> Any:
        app = FastAPI()

        async def signup(to: str, trail: Any) -> None: ...

        async def plain(to: str) -> None: ...

        signup.__annotations__["trail"] = Jobs
        app.post("/signup", name="signup", operation_id="signup", summary="Signup")(signup if jobs else plain)
        return app.openapi()

    assert said_of(jobs=True) == said_of(jobs=False)
