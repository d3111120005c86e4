"""Access keys over HTTP: who may make them, for whom, and what is told of them."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from jobtrail.api import schemas
from jobtrail.api.access import ApiKeyAuth
from jobtrail.api.ops import AccessKeyList, NewAccessKey
from jobtrail.api.routes import install, routes
from jobtrail.callers import SCOPES, Scope
from jobtrail.ops.key_verifier import KeyVerifier
from jobtrail.ops.keys import create_key, digest, make
from support.service import OPEN, Service, client_of
from support.world import Place, services_at


@pytest.fixture(autouse=True)
def _empty(place: Place) -> None:
    """Each test has no keys but its own; the services are there for all of them."""


@pytest.fixture(scope="module")
async def service(kept_place: Place) -> AsyncIterator[Service]:
    async with served(Service(services_at(kept_place))) as made:
        yield made


@pytest.fixture(scope="module")
async def keyed(kept_place: Place) -> AsyncIterator[Service]:
    """As on an address that others reach."""
    services = services_at(kept_place)
    async with served(Service(services, access=ApiKeyAuth(KeyVerifier(services), loopback=False))) as made:
        yield made


@asynccontextmanager
async def served(made: Service) -> AsyncIterator[Service]:
    install(made.app, made.context)
    async with made.client:
        yield made


async def key_for(service: Service, *scopes: Scope, name: str = "ops") -> dict[str, str]:
    """The header of a caller with these scopes."""
    _, text = await create_key(service.services, name, scopes, by="test")
    return {"Authorization": f"Bearer {text}"}


async def listed(service: Service, **options: Any) -> list[dict[str, Any]]:
    answer = await service.client.get("/v1/keys", **options)
    assert answer.status_code == 200, answer.text
    assert AccessKeyList.model_validate_json(answer.content, strict=True)
    return list(answer.json()["items"])


def problem(answer: httpx.Response) -> tuple[int, str]:
    found = schemas.JobtrailProblem.model_validate_json(answer.content, strict=True)
    return answer.status_code, found.type.removeprefix("/v1/problems/")


async def test_a_key_is_shown_once(service: Service, place: Place) -> None:
    answer = await service.client.post("/v1/keys", json={"name": "shop", "scopes": ["submit", "read"]})
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store")
    assert NewAccessKey.model_validate_json(answer.content, strict=True)
    made = answer.json()
    text = made.pop("key")
    assert text.startswith(f"jt_{made['prefix']}_")
    assert await place.value("SELECT hash FROM jobtrail.keys") == digest(text)
    assert made == {
        "id": made["id"], "name": "shop", "prefix": made["prefix"], "scopes": ["read", "submit"], "state": "active",
        "created_at": made["created_at"], "created_by": "anonymous", "expires_at": None, "revoked_at": None,
        "revoked_by": None, "last_used_at": None,
    }  # fmt: skip
    assert await listed(service) == [made]


@pytest.mark.parametrize(
    "ends", [{"expires_in": 3600}, {"expires_in": 3600.5}, {"expires_at": "2029-01-31T12:00:00+02:00"}]
)
async def test_a_key_with_an_end(service: Service, ends: dict[str, Any]) -> None:
    answer = await service.client.post("/v1/keys", json={"name": "shop", "scopes": ["read"], **ends})
    assert answer.status_code == 201
    expires_at = answer.json()["expires_at"]
    assert expires_at == "2029-01-31T10:00:00Z" if "expires_at" in ends else expires_at > answer.json()["created_at"]


async def test_a_key_works_until_it_is_revoked(keyed: Service) -> None:
    admin = await key_for(keyed, *SCOPES)
    made = (await keyed.client.post("/v1/keys", json={"name": "bob", "scopes": ["operate"]}, headers=admin)).json()
    bob = {"Authorization": f"Bearer {made['key']}"}
    for _ in range(2):
        gone = await keyed.client.delete(f"/v1/keys/{made['id']}", headers=admin)
        assert (gone.status_code, gone.content) == (204, b"")
    assert problem(await keyed.client.get("/v1/keys", headers=bob)) == (401, "unauthorized")
    first, second = await listed(keyed, headers=admin)
    assert (first["state"], second["state"]) == ("active", "revoked")
    assert (second["created_by"], second["revoked_by"]) == ("key:ops", "key:ops")
    assert first["last_used_at"] is not None
    assert second["last_used_at"] is None


@pytest.mark.parametrize("ends", [{}, {"expires_in": 3600}, {"expires_at": "2029-01-31T12:00:00Z"}])
async def test_a_key_does_not_outlive_the_one_that_made_it(keyed: Service, ends: dict[str, Any]) -> None:
    maker, text = await create_key(keyed.services, "ops", SCOPES, by="test", lives_for=timedelta(minutes=1))
    admin = {"Authorization": f"Bearer {text}"}
    made = await keyed.client.post("/v1/keys", json={"name": "bob", "scopes": ["read"], **ends}, headers=admin)
    assert maker.expires_at is not None
    assert datetime.fromisoformat(made.json()["expires_at"]) <= maker.expires_at + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("own", "wanted", "status"),
    [
        (["operate"], ["operate"], 201),
        (["operate"], ["read"], 201),
        (["operate"], ["submit"], 403),
        (["operate"], ["read", "submit", "operate"], 403),
        (["submit", "operate"], ["read", "submit", "operate"], 201),
    ],
)
async def test_nobody_gives_what_it_has_not(
    keyed: Service, place: Place, own: list[Scope], wanted: list[Scope], status: int
) -> None:
    headers = await key_for(keyed, *own)
    answer = await keyed.client.post("/v1/keys", json={"name": "shop", "scopes": wanted}, headers=headers)
    assert answer.status_code == status
    assert await place.value("SELECT count(*) FROM jobtrail.keys") == (2 if status == 201 else 1)
    if status == 403:
        assert answer.json()["detail"] == "key:ops may not do this: it takes the scope submit"


async def test_never_among_the_routes_of_a_host(service: Service) -> None:
    app = FastAPI()
    app.include_router(routes(service.context, OPEN), prefix="/inner")
    async with client_of(app) as client:
        body = {"name": "shop", "scopes": ["read"]}
        for answer in (await client.get("/inner/keys"), await client.post("/inner/keys", json=body)):
            assert answer.status_code == 404
        assert (await client.get("/inner/jobs")).status_code == 200
    assert not [path for path in app.openapi()["paths"] if "keys" in path]


async def test_the_key_is_in_no_other_answer_and_in_no_log(keyed: Service, caplog: pytest.LogCaptureFixture) -> None:
    admin = await key_for(keyed, *SCOPES)
    with caplog.at_level(logging.DEBUG):
        made = (await keyed.client.post("/v1/keys", json={"name": "bob", "scopes": ["submit"]}, headers=admin)).json()
        text, prefix = made["key"], made["prefix"]
        bob, half = {"Authorization": f"Bearer {text}"}, {"Authorization": f"Bearer {text[:-1]}"}
        forged = {"Authorization": f"Bearer {text[:16]}{make().text[16:]}"}
        answers = [
            await keyed.client.get("/v1/keys", headers=admin),
            *[await keyed.client.get("/v1/keys", headers=headers) for headers in (bob, half, forged)],
            await keyed.client.post("/v1/jobs", json={"task": "noop"}, headers=bob),
            await keyed.client.get("/v1/jobs", headers=admin),
            await keyed.client.delete(f"/v1/keys/{made['id']}", headers=admin),
            await keyed.client.get("/v1/audit/purged", headers=admin),
        ]
    assert [each.status_code for each in answers] == [200, 403, 401, 401, 202, 200, 204, 200]
    told = [each.text + str(each.headers) for each in answers] + [str(each.__dict__) for each in caplog.records]
    ours = [each for each in told if prefix in each]
    assert len(ours) >= 3
    for secret in (text[16:], admin["Authorization"][-43:]):
        assert not [each for each in told if secret in each or secret[:14] in each or secret[-14:] in each]
    assert answers[4].json()["created_by"] == "key:bob"
