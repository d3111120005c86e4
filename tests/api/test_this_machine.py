"""On loopback, while there are no keys: who calls this machine by its own name may all, and nobody else anything."""

from collections.abc import AsyncIterator

import pytest

from jobtrail.api.access import ApiKeyAuth
from jobtrail.api.routes import install
from jobtrail.ops.key_verifier import KeyVerifier
from jobtrail.ops.keys import create_key, revoke_key
from support.service import Service
from support.world import Place, services_at


@pytest.fixture
async def service(place: Place) -> AsyncIterator[Service]:
    services = services_at(place)
    made = Service(services, access=ApiKeyAuth(KeyVerifier(services), loopback=True))
    install(made.app, made.context)
    async with made.client:
        yield made


OURS = ["localhost", "LOCALHOST:8000", "app.localhost:1", "127.0.0.1:8000", "127.8.9.10", "[::1]:8000", "[::1]"]
OTHERS = [
    "jobs.test", "jobs.test:8000", "localhost.jobs.test", "localhost.", "127.0.0.1.jobs.test", "0", "10.0.0.1",
    "[::2]", "::1", "", "localhost@jobs.test", "jobs.test#localhost", "jobs.test/localhost", "jobs.test@127.0.0.1",
    "127.0.0.1#.jobs.test", "127.0.0.1/.jobs.test", "127.0.0.1?x", "localhost:x", "localhost:1:2", "localhost ", "é",
    "[", "2130706433",
]  # fmt: skip
ORIGINS = [
    "https://jobs.test", "null", "", "localhost", "http://jobs.test:8000", "http://jobs.test@localhost",
    "http://localhost#.jobs.test", "http://localhost/",
]  # fmt: skip


async def test_its_own_names(service: Service) -> None:
    for host in OURS:
        headers = {"Host": host, "Origin": f"http://{host}", "Authorization": "Bearer none"}
        answer = await service.client.post("/v1/jobs", json={"task": "noop"}, headers=headers)
        assert (answer.status_code, answer.json()["created_by"]) == (202, "anonymous"), host


async def test_other_names(service: Service, place: Place) -> None:
    """A page from elsewhere can make its own name lead here; what it then asks of itself, it asks of us."""
    for name in OTHERS:
        host = name.encode("latin-1")
        for sent in ([host], [b"localhost", host], [host, b"localhost"]):
            headers = [("Host", each) for each in sent]
            answer = await service.client.post("/v1/jobs", json={"task": "noop"}, headers=headers)
            assert (answer.status_code, answer.json()["type"]) == (403, "/v1/problems/not-this-machine"), sent
            assert "jobtrail keys create" in answer.json()["detail"]
    for origin in ORIGINS:
        headers = [("Host", b"localhost"), ("Origin", origin.encode())]
        answer = await service.client.post("/v1/jobs", json={"task": "noop"}, headers=headers)
        assert (answer.status_code, "Origin" in answer.json()["detail"]) == (403, True), origin
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 0


async def test_what_everybody_may_is_asked_by_any_name(service: Service) -> None:
    for path in ("/health", "/v1/problems"):
        assert (await service.client.get(path)).status_code == 200


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
