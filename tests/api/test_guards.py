"""A host's guards on our routes: what they raise."""

from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

from jobtrail.api.routes import routes
from jobtrail.ops.access import SCOPES
from support.service import OPEN, Service
from support.world import Place, services_at


class NotStaff(Exception):  # noqa: N818 - it is a host's own
    pass


class Teapot(HTTPException):
    pass


def hosted(place: Place, guard: Any, where: str) -> Service:
    """A host whose guard is on the routes, on their router, or on all that it has."""
    depends = [Depends(guard)]
    service = Service(services_at(place), app=FastAPI(dependencies=depends if where == "app" else []))
    ours = routes(service.context, dict.fromkeys(SCOPES, depends) if where == "routes" else OPEN)
    outer = APIRouter(prefix="/outer")
    outer.include_router(ours, prefix="/inner", dependencies=depends if where == "router" else [])
    service.app.include_router(outer)
    return service


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
