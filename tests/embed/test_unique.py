"""Unique keys in an app: of the request that adds a job, of several at once, and what they do not go with."""

from datetime import datetime, timedelta

import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from jobtrail import Jobs
from jobtrail.errors import InvalidInputError
from support.host import Host
from support.tasks import noop
from support.world import Place


async def test_a_request_gets_the_unfinished_job(place: Place) -> None:
    async with Host.at(place) as host:

        @host.app.post("/pages/{number}", status_code=202)
        async def page(number: int, jobs: Jobs) -> list[str]:
            added = [jobs.options(unique_key="page:{n}").add_task(noop, number) for _ in range(2)]
            with pytest.raises(RuntimeError, match=r"await jobs\.commit\(\)"):
                _ = added[0].id
            with pytest.raises(TypeError, match="unique_key="):
                jobs.batch(added)
            await jobs.commit()
            return [str(each.id) for each in added]

        first = await host.post("/pages/7", 202)
        assert first[0] == first[1]
        assert await place.value("SELECT array_agg(id::text) FROM jobtrail.jobs") == first[:1]


async def test_the_last_call_of_a_debounced_task_runs(place: Place) -> None:
    async with Host.at(place) as host:
        debounced = host.trail.options(unique_key="one", on_duplicate="replace", delay=1, max_delay=5)
        handles = [await debounced.submit(noop, n) for n in range(5)]
        assert len({each.id for each in handles}) == 1
        job = await handles[0].read()
        assert timedelta(0) < job.run_at - job.created_at <= timedelta(seconds=5)
        assert await handles[-1].wait(60) == {"ok": 4}


async def test_what_does_not_go_together_is_refused_where_it_is_written(place: Place) -> None:
    engine = create_async_engine(place.url.sqlalchemy)
    async with Host.at(place, app=FastAPI()) as host:
        async with AsyncSession(engine) as session:
            with pytest.raises(TypeError, match="session= do not go together"):
                await host.trail.options(unique_key="k", session=session).submit(noop)
        for options in (
            {"unique_key": "k", "idempotency_key": "i"},
            {"unique_key": "{m}"},
            {"on_duplicate": "replace"},
            {"delay": 1, "run_at": datetime.now().astimezone()},
            {"unique_key": "k", "on_duplicate": "both"},
        ):
            with pytest.raises(InvalidInputError):
                await host.trail.options(**options).submit(noop)
    await engine.dispose()
