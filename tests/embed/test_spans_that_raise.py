"""A span processor of the host's that raises changes nothing of a submit or an attempt."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider

from support import traced
from support.host import Host
from support.until import until
from support.world import Place

HEADERS = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
RAISED = [RuntimeError("no"), SystemExit("no"), asyncio.CancelledError("no")]
HISTORY = "SELECT to_status FROM jobtrail.transitions WHERE job_id = $1 ORDER BY seq"


class Raising(SpanProcessor):
    """Raises at Jobtrail's own spans alone: at FastAPI's it would fail the request. `at`: on_start or on_end."""

    def __init__(self, at: str, error: BaseException) -> None:
        self.at = at
        self.error = error
        self.raised: list[str] = []

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002 - an interface
        self._raise("on_start", span)

    def on_end(self, span: ReadableSpan) -> None:
        self._raise("on_end", span)

    def _raise(self, at: str, span: ReadableSpan) -> None:
        scope = span.instrumentation_scope
        if at == self.at and scope is not None and scope.name == "jobtrail":
            self.raised.append(span.name)
            raise self.error


@pytest.fixture(params=["on_start", "on_end"])
def at(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=RAISED, ids=lambda error: type(error).__name__)
def raising(at: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Raising:
    provider, processor = TracerProvider(), Raising(at, request.param)
    provider.add_span_processor(processor)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return processor


@pytest.fixture
async def host(place: Place, raising: Raising) -> AsyncIterator[Host]:
    assert raising.raised == []
    async with Host.at(place, tasks=traced.TASKS, said={"processes": 1, "poll_every": 0.1}) as made:
        made.app.include_router(made.trail.router(read="open", submit="open", operate="open"), prefix="/trail")
        yield made


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.levelname for each in caplog.records if each.name == "jobtrail.tracing"]


@pytest.mark.parametrize("task", ["flaky", "flaky_in_thread"])
async def test_a_job_is_submitted_and_runs(
    host: Host, place: Place, raising: Raising, task: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        job = await host.post("/trail/jobs", 202, json={"task": task}, headers=HEADERS)
        await host.trail.wait(job["id"], 60)
        await until(lambda: _has_raised(raising, 3))
    moves = [each["to_status"] for each in await place.rows(HISTORY, job["id"])]
    assert moves == ["pending", "running", "pending", "running", "succeeded"]
    assert raising.raised == ["send default", "process default", "process default"]
    assert warnings(caplog) == ["WARNING"]


@pytest.mark.parametrize("raising", RAISED[:1], indirect=True)
async def test_a_job_of_a_process_and_one_of_a_job_run_too(host: Host, raising: Raising) -> None:
    for task in ("where_in_process", "parent"):
        job = await host.post("/trail/jobs", 202, json={"task": task}, headers=HEADERS)
        result = await host.trail.wait(job["id"], 60)
    assert await host.trail.wait(result, 60)
    assert {"send default", "process default"} == {*raising.raised}


@pytest.mark.parametrize("raising", RAISED[:1], indirect=True)
async def test_a_refusal_stays_what_it_is(host: Host, raising: Raising) -> None:
    headers = HEADERS | {"Idempotency-Key": "k"}
    await host.post("/trail/jobs", 202, json={"task": "where"}, headers=headers)
    await host.post("/trail/jobs", 422, json={"task": "where", "priority": 1}, headers=headers)
    assert raising.raised.count("send default") == 2


async def _has_raised(raising: Raising, number: int) -> bool:
    return len(raising.raised) >= number
