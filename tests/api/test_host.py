"""Our routes among a host's: they bring their errors with them, and leave the host's alone."""

import json
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from jobtrail.api.routes import install, routes
from jobtrail.callers import SCOPES
from support.service import OPEN, Service, client_of
from support.world import Place, services_at


def own_routes(app: FastAPI) -> None:
    @app.get("/mine/{job_id}")
    async def get_job(job_id: int) -> int:
        return job_id

    @app.post("/mine")
    async def take(body: dict[str, int]) -> dict[str, int]:
        return body

    @app.get("/broken")
    async def broken() -> None:
        raise HTTPException(409, "mine")


CALLS = [
    ("GET", "/mine/x", None), ("GET", "/mine/1", None), ("GET", "/nothing", None), ("PUT", "/mine", None),
    ("POST", "/mine", b"{"), ("POST", "/mine", b'{"a":"x"}'), ("POST", "/mine", b'{"a":1}'),
    ("POST", "/mine", b"x" * 200_000), ("GET", "/broken", None),
    ("GET", "/mine/1/", None), ("GET", "/jobs/nothing", None), ("PUT", "/jobs/jobs", None),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body"), CALLS, ids=[f"{a} {b} {(c or b'')[:9]!r}" for a, b, c in CALLS])
async def test_the_hosts_answers_stay_as_they_were(place: Place, method: str, path: str, body: bytes | None) -> None:
    service, alone = Service(services_at(place)), FastAPI()
    own_routes(alone)
    alone.add_api_route("/jobs/jobs", lambda: None, methods=["POST"])
    own_routes(service.app)
    service.app.include_router(routes(service.context, OPEN), prefix="/jobs")
    answers = []
    for app in (alone, service.app):
        async with client_of(app) as client:
            answers.append(
                await client.request(method, path, content=body, headers={"Content-Type": "application/json"})
            )
    assert answers[0].status_code == answers[1].status_code
    assert answers[0].content == answers[1].content
    assert answers[0].headers == answers[1].headers


async def test_addresses_have_the_hosts_prefix_and_never_meet_its_names(place: Place) -> None:
    service = Service(services_at(place))
    own_routes(service.app)  # it has a get_job of its own
    service.app.include_router(routes(service.context, OPEN), prefix="/back/office")
    answer = await service.client.post("/back/office/jobs", json={"task": "noop"})
    job_id = answer.json()["id"]
    assert answer.headers["Location"] == f"http://jobs.test/back/office/jobs/{job_id}"
    assert (await service.client.get(answer.headers["Location"])).json()["id"] == job_id
    assert (await service.client.get("/back/office/jobs/x")).json()["type"] == "/back/office/problems/invalid-input"


async def test_addresses_behind_a_proxy_and_in_a_mounted_app(place: Place) -> None:
    service = Service(services_at(place))
    install(service.app, service.context)
    host = FastAPI()
    host.mount("/sub", service.app)
    async with client_of(host, root_path="/proxy") as client:
        answer = await client.post("/proxy/sub/v1/jobs", json={"task": "noop"})
        refused = await client.get("/proxy/sub/v1/jobs/x")
    assert answer.headers["Location"] == f"http://jobs.test/proxy/sub/v1/jobs/{answer.json()['id']}"
    assert refused.json()["type"] == "/proxy/sub/v1/problems/invalid-input"


async def test_addresses_in_an_app_that_an_included_router_mounts(place: Place) -> None:
    service = Service(services_at(place))
    install(service.app, service.context)
    between, host = APIRouter(), FastAPI()
    between.mount("/sub", service.app)
    host.include_router(between, prefix="/api")
    async with client_of(host) as client:
        answer = await client.post("/api/sub/v1/jobs", json={"task": "noop"})
        assert answer.headers["Location"] == f"http://jobs.test/api/sub/v1/jobs/{answer.json()['id']}"
        for unknown in ("/api/sub/v1/jobs/x", "/api/sub/nothing"):
            assert (await client.get(unknown)).json()["type"].startswith("/api/sub/v1/problems/")


async def test_an_address_is_made_for_who_asks(service: Service) -> None:
    """What was found for one caller is not told to another."""
    for host in ("a.test", "b.test:8000", "a.test"):
        answer = await service.client.post("/v1/jobs", json={"task": "noop"}, headers={"Host": host})
        assert answer.headers["Location"].startswith(f"http://{host}/v1/jobs/")
    service.app.include_router(routes(service.context, OPEN), prefix="/other")
    other = await service.client.post("/other/jobs", json={"task": "noop"})
    assert other.status_code == 202


async def test_a_guard_of_the_host_keeps_the_door(place: Place) -> None:
    async def staff(x_key: Annotated[str | None, Header()] = None) -> None:
        if x_key != "right":
            raise HTTPException(401, "who are you?", {"WWW-Authenticate": "Bearer"})

    service = Service(services_at(place))
    service.app.include_router(routes(service.context, {each: [Depends(staff)] for each in SCOPES}), prefix="/jobs")
    refused = await service.client.post("/jobs/jobs", json={"task": "noop"})
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert refused.json() | {"type": "about:blank", "title": "Unauthorized", "detail": "who are you?"} == refused.json()
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 0
    passed = await service.client.post("/jobs/jobs", json={"task": "noop"}, headers={"X-Key": "right"})
    assert passed.status_code == 202


async def test_a_guard_of_the_whole_app_is_not_passed_by(place: Place) -> None:
    """The short way of the stand-alone service is for routes without dependencies only."""

    async def nobody() -> None:
        raise HTTPException(403)

    service = Service(services_at(place), app=FastAPI(dependencies=[Depends(nobody)]))
    install(service.app, service.context)
    for path, body in (("/v1/jobs", {"task": "noop"}), ("/v1/jobs/batch", {"jobs": [{"task": "noop"}]})):
        assert (await service.client.post(path, json=body)).status_code == 403
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 0


async def test_what_a_guard_leaves_behind_happens(place: Place) -> None:
    """Background tasks and headers of a host's dependency are not lost with our own answers."""
    done = []

    async def note(background: BackgroundTasks, response: Response) -> None:
        background.add_task(done.append, "noted")
        response.headers["X-Host"] = "1"

    service = Service(services_at(place))
    service.app.include_router(routes(service.context, {each: [Depends(note)] for each in SCOPES}), prefix="/jobs")
    answer = await service.client.post("/jobs/jobs", json={"task": "noop"})
    assert answer.status_code == 202
    assert (done, len(service.launched)) == (["noted"], 1)


async def test_the_hosts_documentation_has_ours(place: Place) -> None:
    service = Service(services_at(place))
    own_routes(service.app)
    service.app.include_router(routes(service.context, OPEN), prefix="/jobs")
    told = (await service.client.get("/openapi.json")).json()
    assert told["paths"]["/jobs/jobs"]["post"]["operationId"] == "jobtrail_submit_job"
    assert "JobtrailProblem" in told["components"]["schemas"]
    assert "HTTPValidationError" not in json.dumps(told["paths"]["/jobs/jobs"])


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
