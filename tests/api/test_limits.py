"""How much at once: submits that wait for the database, open connections, and how long somebody may take."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

from jobtrail.api.middleware import SilentConnections
from jobtrail.api.routes import install
from jobtrail.errors import OverloadedError
from jobtrail.jobs.services import AdmissionLimit
from jobtrail.jobs.submit import submit, submit_batch
from jobtrail.task.submission import Submission
from support.service import Service
from support.until import until
from support.world import Place, services_at

NOOP = Submission(task="noop", args={})


@asynccontextmanager
async def held(place: Place) -> AsyncIterator[None]:
    """Whoever wants to store a job waits meanwhile."""
    async with place.psql.transaction():
        await place.psql.execute("LOCK TABLE jobtrail.jobs IN SHARE ROW EXCLUSIVE MODE")
        yield


async def waits(service: Service, **wanted: Any) -> "asyncio.Task[httpx.Response]":
    """A submit that waits."""
    before = service.services.admission._count
    waiting = asyncio.create_task(service.client.post(**wanted))
    await until(lambda: _is_more(service, before))
    return waiting


async def _is_more(service: Service, before: int) -> bool:
    return service.services.admission._count > before


@pytest.fixture
async def service(place: Place) -> AsyncIterator[Service]:
    """With room for three."""
    made = Service(replace(services_at(place), admission=AdmissionLimit(3)))
    install(made.app, made.context)
    async with made.client:
        yield made


ONE: dict[str, Any] = {"url": "/v1/jobs", "json": {"task": "noop"}}
KEYED = {**ONE, "headers": {"Idempotency-Key": "k"}}
TWO = {"url": "/v1/jobs/batch", "json": {"jobs": [{"task": "noop"}] * 2}}
MANY = {"url": "/v1/jobs/batch", "json": {"jobs": [{"task": "noop"}] * 5}}


@pytest.mark.parametrize("waiting", [[ONE, ONE, ONE], [KEYED, TWO], [TWO, ONE], [MANY]])
async def test_what_is_too_much_is_refused_at_once(service: Service, place: Place, waiting: list[Any]) -> None:
    async with held(place):
        there = [await waits(service, **each) for each in waiting]
        for each in (ONE, KEYED, TWO):
            answer = await service.client.post(**each)
            assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
            assert answer.json()["type"] == "/v1/problems/too-many-waiting"
    assert [(await each).status_code for each in there] == [202] * len(there)
    assert (await service.client.post(**MANY)).status_code == 202, "alone a larger batch goes too"


async def test_a_batch_counts_its_jobs(service: Service, place: Place) -> None:
    async with held(place):
        first = [await waits(service, **each) for each in (ONE, ONE)]
        assert (await service.client.post(**TWO)).status_code == 429
        last = await waits(service, **ONE)
    assert [(await each).status_code for each in (*first, last)] == [202] * 3


async def test_no_room_is_lost(service: Service, place: Place) -> None:
    """By what is refused, fails or is given up."""
    for body in ({"task": "none"}, {"task": "noop", "args": {"m": 1}}):
        await service.client.post("/v1/jobs", json=body)
    async with held(place):
        given_up = await waits(service, **ONE)
        given_up.cancel()
        await asyncio.wait({given_up})
    assert service.services.admission._count == 0


async def test_calls_from_python_are_counted_too(service: Service, place: Place) -> None:
    services = service.services
    async with held(place):
        there = await waits(service, **MANY)
        for refused in (
            submit(services, NOOP, by="me"),
            submit(services, NOOP, by="me", key="k"),
            submit_batch(services, [NOOP], by="me"),
        ):
            with pytest.raises(OverloadedError):
                await refused
    assert (await there).status_code == 202


async def test_too_many_pending_jobs(place: Place) -> None:
    """A full queue refuses them; the others take what comes."""
    service = Service(replace(services_at(place), max_pending={"mail": 1}))
    install(service.app, service.context)
    mail = {"task": "noop", "queue": "mail"}
    async with service.client as client:
        first = await client.post("/v1/jobs", json=mail, headers={"Idempotency-Key": "k"})
        assert first.status_code == 202
        service.services.pending["queue"]._at -= 2  # a second later
        for path, body in (("/v1/jobs", mail), ("/v1/jobs/batch", {"jobs": [mail]}), ("/v1/batches", {"jobs": [mail]})):
            answer = await client.post(path, json=body)
            assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
            assert answer.json()["type"] == "/v1/problems/backlog-full"
            assert answer.json()["detail"] == "the queue 'mail' has no room: at most 1 pending"
        again = await client.post("/v1/jobs", json=mail, headers={"Idempotency-Key": "k"})
        assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
        assert (await client.post("/v1/jobs", json={"task": "noop"})).status_code == 202
        await client.post(f"/v1/jobs/{first.json()['id']}/cancel")

        async def has_room() -> bool:
            return (await client.post("/v1/jobs", json=mail)).status_code == 202

        assert await until(has_room)


@pytest.mark.parametrize(("count", "expected"), [(0, 200), (2, 200), (3, 503)])
async def test_connections(place: Place, count: int, expected: int) -> None:
    service = Service(services_at(place))
    install(service.app, service.context, connections=lambda: count, most_connections=2)
    for path in ("/v1/jobs", "/health", "/docs", "/nothing"):
        answer = await service.client.get(path)
        assert answer.status_code == (503 if expected == 503 else 404 if path == "/nothing" else 200)
        assert ("Connection" in answer.headers) is (expected == 503)
        if expected == 503:
            assert answer.json()["type"] == "/v1/problems/overloaded"
            assert (answer.headers["Connection"], answer.headers["Retry-After"]) == ("close", "1")
            assert "X-Trace-Id" in answer.headers
    assert (await service.client.get("/health/live")).status_code == 200


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/batch", "/v1/pauses/task/noop"])
async def test_a_body_that_takes_too_long(place: Place, path: str) -> None:
    service = Service(services_at(place))
    install(service.app, replace(service.context, body_timeout=timedelta(milliseconds=50)))

    async def slow() -> AsyncIterator[bytes]:
        yield b'{"task":'
        await asyncio.Event().wait()

    method = "PUT" if "pauses" in path else "POST"
    headers = {"Content-Type": "application/json"}
    answer = await service.client.request(method, path, content=slow(), headers=headers)
    assert (answer.status_code, answer.headers["Connection"]) == (408, "close")
    assert answer.json()["type"] == "/v1/problems/body-too-slow"
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 0


class Request:
    response_complete = True


class Connection:
    """As far as it is looked at, uvicorn's."""

    def __init__(self, cycle: Request | None, unsent: int = 0) -> None:
        self.cycle = cycle
        self.unsent = unsent
        self.is_closed = False
        self.transport = self

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def close(self) -> None:
        self.is_closed = True


def test_who_says_nothing_is_closed() -> None:
    running = Request()
    running.response_complete = False
    silent, done, busy, reading, fresh = (
        Connection(None), Connection(Request()), Connection(running), Connection(Request(), unsent=1), Connection(None),
    )  # fmt: skip
    between = Connection(Request())
    closer = SilentConnections(timedelta(seconds=30))
    closer.close({silent, done, busy, reading, between, object()}, 100.0)
    between.cycle = Request()  # asked again, between two looks
    closer.close({silent, done, busy, reading, between, fresh}, 120.0)
    assert not any(each.is_closed for each in (silent, done, busy, reading, between, fresh))
    closer.close({silent, done, busy, reading, between, fresh}, 130.0)
    assert [each.is_closed for each in (silent, done, busy, reading, between, fresh)] == [True, True] + [False] * 4
    closer.close({fresh}, 150.0)
    assert fresh.is_closed
    closer.close((), 151.0)
    assert not closer._since
