"""What callers are told while the database takes nothing, or says nothing."""

from uuid import UUID

import pytest

from jobtrail.db.engine import open_database
from jobtrail.jobs import services as module
from jobtrail.jobs.services import Services
from jobtrail.task.catalog import Catalog
from support import service, tasks
from support.proxy import Proxy
from support.service import Service
from support.world import Place


async def test_a_read_only_database_is_not_ready_and_takes_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    name = await place.value("SELECT current_database()")
    await place.psql.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    database = open_database(place.url.sqlalchemy)
    try:
        closed = Service(Services(database, Catalog.from_modules([tasks])))
        service.install(closed.app, closed.context)
        ready = await closed.client.get("/health/ready")
        refused = await closed.client.post("/v1/jobs", json={"task": "noop"})
        keyed = await closed.client.post("/v1/jobs", json={"task": "noop"}, headers={"Idempotency-Key": "k"})
        read = await closed.client.get("/v1/jobs")
    finally:
        await place.psql.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await database.dispose()
    for answer in (ready, refused, keyed):
        assert (answer.status_code, answer.json()["type"]) == (503, "/v1/problems/unavailable")
        assert answer.json()["detail"] == "the database is read-only for now"
        assert int(answer.headers["Retry-After"]) >= 1
    assert (read.status_code, read.json()["items"]) == (200, [])
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 0


async def test_a_submit_whose_outcome_is_unknown_says_so(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENCE", 1.0)
    async with Proxy.before(place) as wire:
        database = open_database(wire.url)
        silent = Service(Services(database, Catalog.from_modules([tasks])))
        service.install(silent.app, silent.context)
        await silent.submitted()
        wire.mute = True
        answer = await silent.client.post("/v1/jobs", json={"task": "noop"})
        wire.go_away()
        await database.dispose()
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (503, "/v1/problems/outcome-unknown")
    assert "not known whether" in problem["detail"]
    assert answer.headers["Retry-After"] == "1"
    there = await place.value("SELECT count(*) FROM jobtrail.jobs WHERE id = $1", UUID(problem["job_id"]))
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 1 + there
