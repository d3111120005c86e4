"""On loopback, while there are no keys: who calls this machine by its own name may all, and nobody else anything."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from jobtrail.api.access import ApiKeyAuth
from jobtrail.api.routes import install
from jobtrail.ops.keys import KeyVerifier, create_key, revoke_key
from support.service import Service
from support.world import Place, services_at


@asynccontextmanager
async def served(place: Place, *, loopback: bool) -> AsyncIterator[Service]:
    services = services_at(place)
    made = Service(services, access=ApiKeyAuth(KeyVerifier(services), loopback=loopback))
    install(made.app, made.context)
    async with made.client:
        yield made


@pytest.fixture
async def service(place: Place) -> AsyncIterator[Service]:
    async with served(place, loopback=True) as made:
        yield made


OURS = ["localhost", "LOCALHOST:8000", "app.localhost:1", "127.0.0.1:8000", "127.8.9.10", "[::1]:8000", "[::1]"]
OTHERS = [
    "jobs.test", "jobs.test:8000", "localhost.jobs.test", "localhost.", "127.0.0.1.jobs.test", "0", "10.0.0.1",
    "[::2]", "::1", "", "localhost@jobs.test", "jobs.test#localhost", "jobs.test/localhost", "jobs.test@127.0.0.1",
    "127.0.0.1#.jobs.test", "127.0.0.1/.jobs.test", "127.0.0.1?x", "localhost:x", "localhost:1:2", "localhost ", "é",
    "[", "2130706433",
]  # fmt: skip


@pytest.mark.parametrize("host", OURS)
async def test_its_own_names(service: Service, host: str) -> None:
    headers = {"Host": host, "Origin": f"http://{host}", "Authorization": "Bearer none"}
    answer = await service.client.post("/v1/jobs", json={"task": "noop"}, headers=headers)
    assert (answer.status_code, answer.json()["created_by"]) == (202, "anonymous")


@pytest.mark.parametrize("host", OTHERS)
async def test_other_names(service: Service, place: Place, host: str) -> None:
    """A page from elsewhere can make its own name lead here; what it then asks of itself, it asks of us."""
    for headers in ([("Host", host)], [("Host", "localhost"), ("Host", host)], [("Host", host), ("Host", "localhost")]):
        sent = [(name, value.encode("latin-1")) for name, value in headers]
        answer = await service.client.post("/v1/jobs", json={"task": "noop"}, headers=sent)  # type: ignore[arg-type]
        assert answer.status_code == 403, headers
        assert answer.json()["type"] == "/v1/problems/not-this-machine"
        assert "jobtrail keys create" in answer.json()["detail"]
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 0


@pytest.mark.parametrize(
    "origin",
    [
        "https://jobs.test", "null", "", "localhost", "http://jobs.test:8000", "http://jobs.test@localhost",
        "http://localhost#.jobs.test", "http://localhost/",
    ],
)  # fmt: skip
async def test_pages_from_elsewhere(service: Service, origin: str) -> None:
    headers = {"Host": "localhost", "Origin": origin}
    answer = await service.client.post("/v1/jobs", json={"task": "noop"}, headers=headers)
    assert (answer.status_code, "Origin" in answer.json()["detail"]) == (403, True)


async def test_on_another_address_nobody_may_anything(place: Place) -> None:
    async with served(place, loopback=False) as service:
        assert (await service.client.get("/v1/jobs", headers={"Host": "localhost"})).status_code == 401


async def test_what_everybody_may_is_asked_by_any_name(service: Service) -> None:
    for path in ("/health", "/v1/problems"):
        assert (await service.client.get(path)).status_code == 200


async def test_who_makes_the_first_key_closes_the_door_behind_itself(service: Service) -> None:
    """At once, though it was just asked whether there is a key."""
    headers = {"Host": "localhost"}
    made = await service.client.post("/v1/keys", json={"name": "ops", "scopes": ["read"]}, headers=headers)
    assert made.status_code == 201
    assert (await service.client.get("/v1/jobs", headers=headers)).status_code == 401
    shown = {"Authorization": f"Bearer {made.json()['key']}"}
    assert (await service.client.get("/v1/jobs", headers=shown)).status_code == 200


async def test_with_the_first_key_everybody_is_asked(service: Service) -> None:
    """By any name then, and still when the key is revoked."""
    record, text = await create_key(service.services, "ops", ["read"], by="test")
    statuses = [
        (await service.client.get("/v1/jobs", headers=headers)).status_code
        for headers in ({"Host": "localhost"}, {"Authorization": f"Bearer {text}"})
    ]
    assert statuses == [401, 200]
    await revoke_key(service.services, record.id, by="test")
    assert (await service.client.get("/v1/jobs", headers={"Host": "localhost"})).status_code == 401
