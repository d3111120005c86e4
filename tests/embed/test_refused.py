"""While a process runs, a server that refuses connections is one that is away for now, whatever it says."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

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

Refuse = Callable[[bool], Awaitable[None]]


class TokenError(Exception):
    """A host's own way to a password may raise it: it is neither the driver's error nor SQLAlchemy's."""


@asynccontextmanager
async def refusing(place: Place, state: str) -> AsyncIterator[tuple[Host, Refuse]]:
    """A host, and the switch that keeps it from connecting: by this SQLSTATE, or by its own engine."""
    if state != "own engine":
        async with Proxy.before(place) as wire, Host.at(place, url=wire.url) as host:

            async def refuse_by_state(refuses: bool) -> None:
                if refuses:
                    wire.refuse(state)
                else:
                    assert wire.refused
                    wire.refuses = None

            yield host, refuse_by_state
        return
    engine, is_away = create_async_engine(place.url.sqlalchemy), [False]

    @event.listens_for(engine.sync_engine, "do_connect")
    def _connect(*_: object) -> None:
        if is_away[0]:
            raise TokenError("no token")

    async def refuse(refuses: bool) -> None:
        is_away[0] = refuses
        await engine.dispose()

    async with Host.at(place, engine=engine) as host:
        yield host, refuse
    await engine.dispose()


@pytest.mark.parametrize("state", [*REFUSALS, "own engine"])
async def test_a_caller_is_to_come_again_and_nothing_is_lost(
    place: Place, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    GATE.clear()
    async with refusing(place, state) as (host, refuse):
        host.app.include_router(host.trail.router(read="open", submit="open"), prefix="/trail")
        job = await host.trail.submit(hold)
        await until(lambda: place.value("SELECT true FROM jobtrail.jobs WHERE status = 'running'"))
        await refuse(True)
        GATE.set()
        for call in ("POST jobs", "POST jobs keyed", "GET jobs", f"GET jobs/{job.id}", "GET nodes"):
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
        await refuse(False)
        assert await host.trail.wait(job.id, timeout=15) == "released"
        later = await host.post("/trail/jobs", 202, json={"task": "noop"})
        assert await host.trail.wait(later["id"], timeout=15) == {"ok": 0}
    assert await place.value("SELECT array_agg(attempt) FROM jobtrail.jobs") == [1, 1]
