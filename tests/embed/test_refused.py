"""While a process runs, a server that lets nobody in is one that is away for now, whatever it says."""

from uuid import UUID

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine

from jobtrail.jobs import services as module
from support.host import Host
from support.proxy import Proxy
from support.startup import REFUSALS
from support.tasks import GATE, hold
from support.until import until
from support.world import Place


@pytest.mark.parametrize("state", REFUSALS)
async def test_who_is_not_let_in_is_told_to_come_again_and_nothing_is_lost(
    place: Place, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    GATE.clear()
    async with Proxy.before(place) as wire, Host.at(place, url=wire.url) as host:
        host.app.include_router(host.trail.router(read="open", submit="open"), prefix="/trail")
        job = await host.trail.submit(hold)
        await until(lambda: place.value("SELECT true FROM jobtrail.jobs WHERE status = 'running'"))
        wire.refuse(state)
        GATE.set()
        for call in ("POST jobs", "POST jobs keyed", "GET jobs", f"GET jobs/{job.id}", "GET nodes"):
            await told_to_come_again(host, call)
        assert wire.refused
        wire.refuses = None
        assert await host.trail.wait(job.id, timeout=5) == "released"
        later = await host.post("/trail/jobs", 202, json={"task": "noop"})
        assert await host.trail.wait(UUID(later["id"]), timeout=5) == {"ok": 0}
    assert await place.value("SELECT array_agg(attempt) FROM jobtrail.jobs") == [1, 1]


class TokenError(Exception):
    """What a host's own way to a password may raise."""


async def test_a_host_whose_engine_cannot_connect_for_now(place: Place) -> None:
    """The error is neither the driver's nor SQLAlchemy's."""
    GATE.clear()
    engine = create_async_engine(place.url.sqlalchemy)
    is_away = False

    @event.listens_for(engine.sync_engine, "do_connect")
    def _connect(*_: object) -> None:
        if is_away:
            raise TokenError("no token")

    async with Host.at(place, engine=engine) as host:
        host.app.include_router(host.trail.router(read="open", submit="open"), prefix="/trail")
        job = await host.trail.submit(hold)
        await until(lambda: place.value("SELECT true FROM jobtrail.jobs WHERE status = 'running'"))
        is_away = True
        await engine.dispose()
        GATE.set()
        for call in ("POST jobs", "POST jobs keyed", "GET jobs", f"GET jobs/{job.id}", "GET nodes"):
            await told_to_come_again(host, call)
        is_away = False
        assert await host.trail.wait(job.id, timeout=5) == "released"
    await engine.dispose()


async def told_to_come_again(host: Host, call: str) -> None:
    method, path, *keyed = call.split()
    answer = await host.client.request(
        method,
        f"/trail/{path}",
        json={"task": "noop"} if method == "POST" else None,
        headers={"Idempotency-Key": "k"} if keyed else {},
    )
    assert answer.status_code == 503, f"{call}: {answer.status_code} {answer.text}"
    # the first that meets a connection which was cut cannot know whether its statement got through
    assert answer.json()["type"].rpartition("/")[2] in ("unavailable", "outcome-unknown")
    assert int(answer.headers["Retry-After"]) >= 1
