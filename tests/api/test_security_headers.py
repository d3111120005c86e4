"""What browsers are told, by the service with every answer, and by our routes in a host; by a host's own never."""

import re
from base64 import b64encode
from collections.abc import AsyncIterator
from hashlib import sha256

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi_offline import FastAPIOffline

from jobtrail.api.routes import install, routes
from support.service import OPEN, Service, client_of
from support.world import Place, services_at

SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}

CALLS = [
    ("GET", "/v1/jobs", 200), ("HEAD", "/v1/jobs", 200), ("POST", "/v1/jobs", 415), ("GET", "/v1/jobs/x", 422),
    ("PUT", "/v1/jobs", 405), ("GET", "/nothing", 404), ("GET", "/health", 200), ("GET", "/broken", 500),
    ("GET", "/openapi.json", 200), ("GET", "/static-offline-docs/favicon.png", 200),
    ("GET", "/static-offline-docs/nothing", 404), ("DELETE", "/v1/pauses/task/noop", 204),
]  # fmt: skip
PAGES = ["/docs", "/redoc", "/docs/oauth2-redirect"]


@pytest.fixture(scope="module")
async def client(kept_place: Place) -> AsyncIterator[httpx.AsyncClient]:
    service = Service(services_at(kept_place), app=FastAPIOffline())
    install(service.app, service.context)

    @service.app.get("/broken")
    async def broken() -> None:
        raise RuntimeError

    async with client_of(service.app, raise_app_exceptions=False) as made:
        yield made


def of(answer: httpx.Response) -> dict[str, str | None]:
    assert all(len(answer.headers.get_list(name)) <= 1 for name in SAFE)
    return {name: answer.headers.get(name) for name in SAFE}


@pytest.mark.parametrize(("method", "path", "status"), CALLS)
async def test_every_answer_of_the_service(client: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    answer = await client.request(method, path)
    assert (answer.status_code, of(answer)) == (status, SAFE)
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Trace-Id"])


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_of_the_documentation_runs_what_is_in_it(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    told = of(answer)
    policy = dict(part.split(" ", 1) for part in str(told.pop("Content-Security-Policy")).split("; "))
    assert told == {name: value for name, value in SAFE.items() if name in told}
    assert (policy["default-src"], policy["frame-ancestors"]) == ("'none'", "'none'")
    scripts = re.findall(rb"<script(?: src=\"([^\"]*)\")?>(.*?)</script>", answer.content, re.DOTALL)
    assert scripts, "a page without a script shows nothing"
    hashes = {f"'sha256-{b64encode(sha256(script).digest()).decode()}'" for source, script in scripts if not source}
    assert set(policy["script-src"].split()) == {"'self'", *hashes}
    assert all(source.startswith(b"/static-offline-docs/") for source, _ in scripts if source)


@pytest.mark.parametrize("path", [*PAGES, "/openapi.json", "/nothing"])
async def test_a_trace_is_told_everywhere(client: httpx.AsyncClient, path: str) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    answer = await client.get(path, headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    assert answer.headers["X-Trace-Id"] == trace


async def test_in_a_host_only_our_routes(place: Place) -> None:
    service = Service(services_at(place))
    service.app.include_router(routes(service.context, OPEN), prefix="/inner")
    service.app.add_api_route("/own", lambda: 1)
    for path in ("/inner/jobs", "/inner/jobs/x"):
        assert of(await service.client.get(path)) == SAFE
    for path in ("/own", "/nothing", "/docs", "/openapi.json"):
        answer = await service.client.get(path)
        assert set(of(answer).values()) == {None}
        assert "X-Trace-Id" not in answer.headers


async def test_a_refusal_of_a_guard_has_them_unless_it_says_otherwise(place: Place) -> None:
    async def nobody() -> None:
        raise HTTPException(403, headers={"X-Frame-Options": "SAMEORIGIN", "CACHE-CONTROL": "private"})

    service = Service(services_at(place), app=FastAPI(dependencies=[Depends(nobody)]))
    service.app.include_router(routes(service.context, OPEN))
    told = of(await service.client.get("/jobs"))
    assert told == {**SAFE, "X-Frame-Options": "SAMEORIGIN", "Cache-Control": "private"}
