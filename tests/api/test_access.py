"""Who may: every call of the service, with every kind of key and with none."""

from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi_offline import FastAPIOffline
from starlette.routing import Route

from jobtrail.api.access import ApiKeyAuth
from jobtrail.api.routes import install
from jobtrail.callers import SCOPES
from jobtrail.ops.batches import submit_batch
from jobtrail.ops.key_verifier import KeyVerifier
from jobtrail.ops.keys import create_key, make, revoke_key
from jobtrail.ops.webhooks import put as put_webhook
from jobtrail.task.submission import Submission
from support.schedules import put
from support.service import Service
from support.world import Place, services_at, submitted

# what who may read, submit, operate is answered; a job is the submitter's own, and pending
TABLE: dict[str, tuple[int, int, int]] = {
    "POST /v1/jobs": (403, 202, 403),
    "POST /v1/jobs/batch": (403, 202, 403),
    "POST /v1/jobs/bulk": (403, 403, 200),
    "GET /v1/jobs": (200, 200, 200),
    "GET /v1/jobs/{job_id}": (200, 200, 200),
    "PATCH /v1/jobs/{job_id}": (403, 403, 200),
    "DELETE /v1/jobs/{job_id}": (403, 200, 200),
    "GET /v1/jobs/{job_id}/transitions": (200, 200, 200),
    "GET /v1/jobs/{job_id}/log": (200, 200, 200),
    "GET /v1/jobs/{job_id}/events": (200, 200, 200),
    "GET /v1/events": (200, 200, 200),
    "POST /v1/jobs/{job_id}/cancel": (403, 200, 200),
    "POST /v1/jobs/{job_id}/retry": (403, 403, 409),
    "POST /v1/batches": (403, 202, 403),
    "GET /v1/batches/{batch_id}": (200, 200, 200),
    "POST /v1/batches/{batch_id}/cancel": (403, 200, 200),
    "POST /v1/batches/{batch_id}/retry": (403, 403, 200),
    "GET /v1/tasks": (200, 200, 200),
    "GET /v1/tasks/{name}": (200, 200, 200),
    "GET /v1/nodes": (200, 403, 200),
    "GET /v1/pauses": (200, 403, 200),
    "PUT /v1/pauses/{kind}/{name}": (403, 403, 200),
    "DELETE /v1/pauses/{kind}/{name}": (403, 403, 204),
    "GET /v1/schedules": (200, 403, 200),
    "PUT /v1/schedules/{schedule}": (403, 403, 200),
    "GET /v1/schedules/{schedule}": (200, 403, 200),
    "POST /v1/schedules/{schedule}/pause": (403, 403, 200),
    "POST /v1/schedules/{schedule}/resume": (403, 403, 200),
    "POST /v1/schedules/{schedule}/run": (403, 403, 202),
    "POST /v1/schedules/{schedule}/backfill": (403, 403, 202),
    "DELETE /v1/schedules/{schedule}": (403, 403, 204),
    "GET /v1/webhooks": (200, 403, 200),
    "GET /v1/webhooks/{webhook}": (200, 403, 200),
    "PUT /v1/webhooks/{webhook}": (403, 403, 200),
    "POST /v1/webhooks/{webhook}/rotate": (403, 403, 200),
    "DELETE /v1/webhooks/{webhook}": (403, 403, 204),
    "GET /v1/limits": (200, 403, 200),
    "GET /v1/limits/{key}": (404, 403, 404),
    "PUT /v1/limits/{key}": (403, 403, 200),
    "DELETE /v1/limits/{key}": (403, 403, 204),
    "GET /v1/stats": (200, 403, 200),
    "GET /v1/metrics": (200, 403, 200),
    "GET /v1/metrics/database": (200, 403, 200),
    "GET /v1/audit": (200, 403, 200),
    "GET /v1/audit/{question}": (200, 403, 200),
    "GET /v1/keys": (403, 403, 200),
    "POST /v1/keys": (403, 403, 201),
    "DELETE /v1/keys/{key_id}": (403, 403, 404),
}
# nobody is asked
OPEN = {
    "GET /v1/problems", "GET /v1/problems/{slug}", "GET /health", "GET /health/live", "GET /health/ready",
    "GET /docs", "GET /docs/oauth2-redirect", "GET /redoc", "GET /openapi.json",
}  # fmt: skip
BODIES: dict[str, Any] = {
    "POST /v1/jobs": {"task": "noop"},
    "POST /v1/jobs/batch": {"jobs": [{"task": "noop"}]},
    "POST /v1/jobs/bulk": {"action": "cancel", "filter": {"task": ["none"]}},
    "PATCH /v1/jobs/{job_id}": {"ttl": 60},
    "POST /v1/batches": {"jobs": [{"task": "noop"}], "on_done": {"task": "noop"}},
    "PUT /v1/schedules/{schedule}": {"task": "noop", "every": 60},
    "POST /v1/schedules/{schedule}/backfill": {"from": "2020-01-01T00:00:00Z", "until": "2020-01-02T00:00:00Z"},
    "PUT /v1/webhooks/{webhook}": {"url": "https://example.com/"},
    "PUT /v1/limits/{key}": {"number": 3},
    "POST /v1/keys": {"name": "more", "scopes": ["read"]},
}
PARTS = {
    "name": "noop", "kind": "task", "question": "slowest_jobs", "slug": "forbidden", "key_id": UUID(int=0),
    "key": "noop",
}  # fmt: skip
WITHOUT = ("none", "revoked", "expired", "forged", "half", "twice", "basic")


@pytest.fixture(scope="module")
async def service(kept_place: Place) -> AsyncIterator[Service]:
    """As on an address that others reach."""
    await kept_place.empty()
    services = services_at(kept_place)
    made = Service(services, app=FastAPIOffline(), access=ApiKeyAuth(KeyVerifier(services), loopback=False))
    install(made.app, made.context)
    async with made.client:
        yield made


@pytest.fixture(scope="module")
async def headers(service: Service, kept_place: Place) -> dict[str, list[tuple[str, str]]]:
    """What each kind of caller sends."""
    texts = {scope: (await create_key(service.services, scope, [scope], by="test"))[1] for scope in SCOPES}
    ended = {each: await create_key(service.services, each, list(SCOPES), by="test") for each in ("revoked", "expired")}
    await revoke_key(service.services, ended["revoked"][0].id, by="test")
    await kept_place.psql.execute("UPDATE jobtrail.keys SET expires_at = now() WHERE name = 'expired'")
    texts |= {each: text for each, (_, text) in ended.items()}
    for several in ("read submit", "read operate", "submit operate", "read submit operate"):
        texts[several] = (await create_key(service.services, "submit", several.split(), by="test"))[1]  # type: ignore[arg-type]
    texts |= {"forged": texts["operate"][:16] + make().text[16:], "half": texts["operate"][:30]}
    sent = {who: [("Authorization", f"Bearer {text}")] for who, text in texts.items()}
    two = [("Authorization", f"Bearer {texts['operate']}")] * 2
    return sent | {"none": [], "twice": two, "basic": [("Authorization", f"Basic {texts['operate']}")]}


def calls_of(service: Service, *, method_is: Callable[[str], bool]) -> set[str]:
    """Every call of the app, with each part of a path named for what it is."""
    found = {
        f"{method} {route.path}"
        for route in service.app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method_is(method)
    }
    return {
        call.replace("/audit/{name}", "/audit/{question}")
        .replace("/schedules/{name}", "/schedules/{schedule}")
        .replace("/webhooks/{name}", "/webhooks/{webhook}")
        .replace("{key:path}", "{key}")
        for call in found
    }


def test_every_call_is_in_the_table(service: Service) -> None:
    assert calls_of(service, method_is=lambda method: method != "HEAD") == {*TABLE, *OPEN}
    heads = calls_of(service, method_is=lambda method: method == "HEAD")
    assert heads == {f"HEAD{call[3:]}" for call in (*TABLE, *OPEN) if call.startswith("GET ")}


async def ask(service: Service, call: str, sent: list[tuple[str, str]], **given: Any) -> httpx.Response:
    method, path = call.split()
    job_id = (await submitted(service.services, "noop", by="key:submit")).id if "{job_id}" in path else None
    wanted = [Submission(task="noop")]
    batch = (await submit_batch(service.services, wanted, by="key:submit"))[0] if "{batch_id}" in path else None
    schedule = (await put(service.services, f"s{uuid4().hex}", cron="@daily")).name if "{schedule}" in path else None
    body = {"json": BODIES[call]} if call in BODIES else {}
    if "{webhook}" in path:
        await put_webhook(service.services, "ops", "https://example.com/", by="test")
    path = path.format(**PARTS, job_id=job_id, batch_id=batch and batch.id, schedule=schedule, webhook="ops")
    return await service.client.request(method, path, headers=sent, **{**body, **given})


@pytest.mark.parametrize("call", [*TABLE, *(f"HEAD{call[3:]}" for call in TABLE if call.startswith("GET "))])
async def test_who_may(service: Service, headers: dict[str, list[tuple[str, str]]], call: str) -> None:
    expected = TABLE[call.replace("HEAD", "GET")]
    assert tuple([(await ask(service, call, headers[scope])).status_code for scope in SCOPES]) == expected
    told = set()
    for who in WITHOUT:
        # a body that is nothing tells whether it was looked at
        answer = await ask(service, call, headers[who], content=b"\xff", json=None)
        assert answer.status_code == 401, (call, who)
        problem = answer.text and answer.json() | {"trace_id": "", "instance": ""}
        shown = "" if who in ("none", "basic") else ', error="invalid_token"'
        assert answer.headers["WWW-Authenticate"] == f'Bearer realm="jobtrail"{shown}', who
        told.add((str(problem), frozenset(answer.headers) - {"content-length"}))
    assert len(told) == 1, "what is wrong with a key is not told"


@pytest.mark.parametrize("call", TABLE)
async def test_scopes_add_up(service: Service, headers: dict[str, list[tuple[str, str]]], call: str) -> None:
    """Whoever has several may what any of them may, and no more. They are all one caller."""
    for several in ("read submit", "read operate", "submit operate", "read submit operate"):
        alone = [TABLE[call][SCOPES.index(scope)] for scope in several.split()]  # type: ignore[arg-type]
        expected = next((status for status in alone if status != 403), 403)
        assert (await ask(service, call, headers[several])).status_code == expected, several


@pytest.mark.parametrize("call", sorted(OPEN))
async def test_what_everybody_may(service: Service, headers: dict[str, list[tuple[str, str]]], call: str) -> None:
    assert {(await ask(service, call, headers[who])).status_code for who in (*SCOPES, *WITHOUT)} == {200}


async def test_the_scope_that_lacks_is_named(service: Service, headers: dict[str, list[tuple[str, str]]]) -> None:
    answer = await ask(service, "POST /v1/jobs", headers["read"])
    assert answer.json()["type"] == "/v1/problems/forbidden"
    assert answer.json()["detail"] == "key:read may not do this: it takes the scope submit"
    said = answer.headers["WWW-Authenticate"]
    assert said == 'Bearer realm="jobtrail", error="insufficient_scope", scope="submit"'


@pytest.mark.parametrize("written", ["bearer {}", "BEARER {}", "Bearer  {} "])
async def test_ways_to_write_a_key(service: Service, headers: dict[str, list[tuple[str, str]]], written: str) -> None:
    text = headers["read"][0][1].removeprefix("Bearer ")
    answer = await service.client.get("/v1/jobs", headers={"Authorization": written.format(text)})
    assert answer.status_code == 200


@pytest.mark.parametrize("written", ["{}", "Bearer", "Bearer:{}", "Bearer{}", "Token {}", "Bearer {}, Bearer {}", "é"])
async def test_ways_that_are_none(service: Service, headers: dict[str, list[tuple[str, str]]], written: str) -> None:
    said = written.replace("{}", headers["operate"][0][1].removeprefix("Bearer ")).encode("latin-1")
    answer = await service.client.get("/v1/jobs", headers=[("Authorization", said)])  # type: ignore[list-item]
    assert answer.status_code == 401


async def test_the_key_says_who_did_it(service: Service, headers: dict[str, list[tuple[str, str]]]) -> None:
    job = (await ask(service, "POST /v1/jobs", headers["submit"])).json()
    assert job["created_by"] == "key:submit"
    await service.client.post(f"/v1/jobs/{job['id']}/cancel", headers=headers["operate"])
    moves = (await service.client.get(f"/v1/jobs/{job['id']}/transitions", headers=headers["read"])).json()["items"]
    assert [move["actor"] for move in moves] == ["key:submit", "key:operate"]
