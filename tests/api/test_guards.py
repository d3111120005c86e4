"""A host's guards on our routes: what they read, and what they raise."""

from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyQuery
from pydantic import BaseModel, Field

from jobtrail.api.routes import routes
from jobtrail.job.access import SCOPES
from support.database import Place
from support.house import services_at
from support.service import OPEN, Service


class NotStaff(Exception):  # noqa: N818 - it is a host's own
    pass


class Teapot(HTTPException):
    pass


class Asked(BaseModel):
    tenant: str
    since: Annotated[int, Field(alias="not-before")] = 0


async def by_own_parameter(user: str, as_: Annotated[list[str] | None, Query(alias="as")] = None) -> None: ...


async def by_model(asked: Annotated[Asked, Query()]) -> None: ...


async def nested(inner: Annotated[None, Depends(by_own_parameter)]) -> None: ...


GUARDS = {
    "APIKeyQuery": (APIKeyQuery(name="api_key"), "api_key=x"),
    "its own parameter": (by_own_parameter, "user=ann&as=a&as=b"),
    "its own model": (by_model, "tenant=t&not-before=3"),
    "a guard's guard": (nested, "user=ann"),
}
PATHS = ["jobs", "jobs/{id}/log", "audit/slowest_jobs"]


def hosted(place: Place, guard: Any, where: str) -> Service:
    """A host whose guard is on the routes, on their router, or on all that it has."""
    depends = [Depends(guard)]
    service = Service(services_at(place), app=FastAPI(dependencies=depends if where == "app" else []))
    ours = routes(service.door, dict.fromkeys(SCOPES, depends) if where == "routes" else OPEN)
    outer = APIRouter(prefix="/outer")
    outer.include_router(ours, prefix="/inner", dependencies=depends if where == "router" else [])
    service.app.include_router(outer)
    return service


@pytest.mark.parametrize("where", ["routes", "router", "app"])
@pytest.mark.parametrize(("guard", "query"), GUARDS.values(), ids=GUARDS)
async def test_what_a_guard_reads_of_a_query_is_no_mistake(place: Place, guard: Any, query: str, where: str) -> None:
    service = hosted(place, guard, where)
    job = await service.client.post(f"/outer/inner/jobs?{query}", json={"task": "noop"})
    for path in PATHS:
        address = f"/outer/inner/{path.format(id=job.json()['id'])}"
        assert (await service.client.get(f"{address}?{query}&limit=1")).status_code == 200, path
        wrong = await service.client.get(f"{address}?{query}&limt=1")
        assert (wrong.status_code, [each["pointer"] for each in wrong.json()["errors"]]) == (422, ["?limt"]), path
    cancelled = await service.client.delete(f"/outer/inner/jobs/{job.json()['id']}?{query}&reason=why")
    assert (cancelled.status_code, cancelled.json()["cancel_reason"]) == (200, "why")


@pytest.mark.parametrize("where", ["routes", "router", "app"])
@pytest.mark.parametrize(
    ("error", "handled", "expected"),
    [
        (NotStaff("who?"), NotStaff, (401, {"from": "NotStaff"})),
        (Teapot(418), Teapot, (418, {"from": "Teapot"})),
        (NotStaff("who?"), None, (500, None)),
        (NotStaff("who?"), Exception, (500, None)),
        (NotStaff("who?"), LookupError, (500, None)),
        (Teapot(418), None, (418, None)),
        (Teapot(500), None, (500, None)),
        (HTTPException(403), HTTPException, (403, None)),
    ],
)
async def test_what_a_guard_raises(
    place: Place, error: Exception, handled: type[Exception] | None, expected: tuple[int, Any], where: str
) -> None:
    """It reaches the host's handler of its class; without one it is a problem, as of anything that goes wrong here."""

    async def guard() -> None:
        raise error

    async def answer(_request: Request, raised: Exception) -> JSONResponse:
        return JSONResponse({"from": type(raised).__name__}, getattr(raised, "status_code", 401))

    service = hosted(place, guard, where)
    if handled is not None:
        service.app.add_exception_handler(handled, answer)
    found = await service.client.get("/outer/inner/jobs")
    status, content = expected
    assert found.status_code == status
    if content is None:
        assert found.headers["Content-Type"] == "application/problem+json"
    else:
        assert found.json() == content


async def test_our_own_refusals_stay_ours(place: Place) -> None:
    async def answer(_request: Request, _error: Exception) -> JSONResponse:
        return JSONResponse({}, 599)

    service = hosted(place, lambda: None, "routes")
    for each in (LookupError, ValueError, HTTPException, Exception):
        service.app.add_exception_handler(each, answer)
    assert (await service.client.get("/outer/inner/jobs/x")).status_code == 422
    assert (await service.client.post("/outer/inner/jobs", json={"task": "none"})).status_code == 422
