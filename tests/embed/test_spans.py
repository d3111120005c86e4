"""A host that traces its database sees what its tasks do there, and nothing of what a node does all the time, although
the provider is that of the whole process.
"""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from jobtrail import JobContext, Jobtrail, task
from jobtrail.settings import Settings
from support.until import until
from support.world import Place

QUICK: dict[str, Any] = {
    "lease": timedelta(seconds=1), "poll_every": timedelta(milliseconds=50), "purge_every": timedelta(milliseconds=100),
}  # fmt: skip


BEAT = "SELECT heartbeat_at FROM jobtrail.nodes"


@task
async def look(context: JobContext) -> None:
    session = await context.session()
    await session.execute(text("SELECT 'seen'"))
    context.log.info("seen")
    context.progress(1)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[TracerProvider]:
    provider = TracerProvider()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    AsyncPGInstrumentor().instrument(tracer_provider=provider)
    yield provider
    AsyncPGInstrumentor().uninstrument()


@pytest.fixture
def spans(provider: TracerProvider) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


@pytest.fixture(params=["its own pools", "the host's engine"])
async def engine(
    place: Place, request: pytest.FixtureRequest, provider: TracerProvider
) -> AsyncIterator[AsyncEngine | None]:
    if request.param == "its own pools":
        yield None
        return
    made, instrumentor = create_async_engine(place.url.sqlalchemy), SQLAlchemyInstrumentor()
    # it has not heard yet of the SQLAlchemy of today
    instrumentor.instrument(engine=made.sync_engine, tracer_provider=provider, skip_dep_check=True)
    yield made
    instrumentor.uninstrument()
    await made.dispose()


def statements(spans: InMemorySpanExporter) -> list[str]:
    """The statements of the spans that are there; the name of a span without one."""
    return [str((span.attributes or {}).get("db.statement", span.name)) for span in spans.get_finished_spans()]


async def has_ended(spans: InMemorySpanExporter) -> bool:
    return "process default" in [each.name for each in spans.get_finished_spans()]


async def test_only_what_a_task_does_is_traced(
    place: Place, spans: InMemorySpanExporter, engine: AsyncEngine | None
) -> None:
    trail = Jobtrail(Settings(database_url=place.setting, **QUICK), engine=engine, tasks=[look])
    if engine is not None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
        assert {"connect", "SELECT 1"} <= set(statements(spans)), "nothing would be proved"
    async with trail.lifespan():
        node = trail._running().node
        assert node is not None
        await node.worker.claim_loop.ticked()
        spans.clear()
        for loop in (
            *node.maintenance._loops,
            node.worker.claim_loop,
            node.worker.watch_loop,
            node.worker._reports.loop,
        ):
            loop.every = 0.05  # some look once a minute
            loop.wake()
            await loop.ticked()
        before = await place.value(BEAT)
        await until(lambda: place.value(f"{BEAT} WHERE heartbeat_at > $1", before))
        assert [each for each in statements(spans) if BEAT not in each] == []
        job = await trail.submit(look)
        await job.wait(5)
        await until(lambda: has_ended(spans))
        said = statements(spans)
        assert any("'seen'" in each for each in said), said
        # the rest is what this test asks, and the host that waits
        (process,) = [each for each in spans.get_finished_spans() if each.name == "process default"]
        seen = [each for each in spans.get_finished_spans() if "'seen'" in str(each.attributes)]
        assert {each.context.trace_id for each in seen} == {process.context.trace_id}
        assert not any("log_lines" in each or "INSERT" in each for each in said), said
