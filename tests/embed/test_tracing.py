"""The trace of a request goes on through its jobs: each span has the right one above it, and none is made in vain."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from jobtrail import Jobs
from jobtrail.task.task import Task
from support import traced
from support.host import Host
from support.until import until
from support.world import Place

CALLER = "00f067aa0ba902b7"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADERS = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
ROW = "SELECT trace_id, trace_parent FROM jobtrail.jobs WHERE id = $1"


class Spans(InMemorySpanExporter):
    """All that have ended, by their names."""

    @property
    def names(self) -> list[str]:
        return sorted(each.name for each in self.get_finished_spans())

    async def named(self, name: str, count: int = 1) -> list[ReadableSpan]:
        """So many, in the order in which they began. An attempt's ends a moment after its job."""

        async def found() -> list[ReadableSpan] | None:
            named = [each for each in self.get_finished_spans() if each.name == name]
            return sorted(named, key=lambda span: span.start_time or 0) if len(named) >= count else None

        return await until(found)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    """The spans of this process, which has a provider of them while the test runs."""
    exporter, provider = Spans(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return exporter


@pytest.fixture
async def host(place: Place, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Host]:
    said = {"processes": 1, "poll_every": 0.1} | getattr(request, "param", {})
    async with Host.at(place, tasks=traced.TASKS, said=said) as made:
        made.app.include_router(made.trail.router(read="open", submit="open", operate="open"), prefix="/trail")
        monkeypatch.setattr(traced, "RUNNING", [(made.trail, asyncio.get_running_loop())])
        yield made


def span_id(span: ReadableSpan) -> str:
    return format_span_id(span.context.span_id)


def above(span: ReadableSpan) -> str | None:
    return None if span.parent is None else format_span_id(span.parent.span_id)


def trace_id(span: ReadableSpan) -> str:
    return format_trace_id(span.context.trace_id)


def linked(span: ReadableSpan) -> list[str]:
    return [format_span_id(each.context.span_id) for each in span.links]


async def posted(host: Host, task: str, headers: dict[str, str] | None = None, **wanted: Any) -> dict[str, Any]:
    return dict(await host.post("/trail/jobs", 202, json={"task": task, **wanted}, headers=headers or {}))


@pytest.mark.parametrize("task", [traced.flaky, traced.flaky_in_thread])
@pytest.mark.parametrize("way", ["add_task", "http"])
async def test_one_trace_leads_from_the_request_through_a_retry_to_the_end(
    host: Host, place: Place, spans: Spans, task: Task[..., str], way: str
) -> None:
    @host.app.post("/report", status_code=202)
    async def report(jobs: Jobs) -> dict[str, str]:
        return {"id": str(jobs.add_task(task).id)}

    if way == "http":
        job = await posted(host, task.name, HEADERS)
    else:
        job = await host.post("/report", 202, headers=HEADERS)
    result = await host.trail.wait(job["id"], 60)

    (send,) = await spans.named("send default")
    first, second = await spans.named("process default", 2)
    assert {trace_id(each) for each in spans.get_finished_spans()} == {TRACE}
    by_id = {span_id(each): each for each in spans.get_finished_spans()}
    way_up = []
    found: str | None = span_id(second)
    while found in by_id:
        way_up.append(by_id[found].name)
        found = above(by_id[found])
    assert found == CALLER
    assert way_up[:2] == ["process default", "send default"]
    assert way_up[-1].startswith("POST /")
    assert (above(first), above(second)) == (span_id(send), span_id(send))
    assert (linked(first), linked(second)) == ([], [span_id(first)])
    works = await spans.named("work", 2)
    assert [above(each) for each in works] == [span_id(first), span_id(second)]
    assert result == f"00-{TRACE}-{span_id(works[1])}-{by_id[span_id(second)].context.trace_flags:02x}"
    stored = await place.psql.fetchrow(ROW, job["id"])
    assert stored is not None
    assert tuple(stored) == (TRACE, f"{span_id(send)}-{send.context.trace_flags:02x}")

    told = {
        "messaging.system": "jobtrail", "messaging.destination.name": "default", "messaging.message.id": job["id"],
        "messaging.message.conversation_id": TRACE, "jobtrail.task": task.name,
    }  # fmt: skip
    for span, operation, kind, more in (
        (send, "send", SpanKind.PRODUCER, {}),
        (first, "process", SpanKind.CONSUMER, {"jobtrail.attempt": 1, "error.type": "Again"}),
        (second, "process", SpanKind.CONSUMER, {"jobtrail.attempt": 2}),
    ):
        names = {"messaging.operation.name": operation, "messaging.operation.type": operation}
        assert (span.kind, dict(span.attributes or {})) == (kind, told | names | more)
    assert [each.status.status_code for each in (send, first, second)] == [
        StatusCode.UNSET, StatusCode.ERROR, StatusCode.UNSET
    ]  # fmt: skip
    (event,) = first.events
    attributes = dict(event.attributes or {})
    assert (event.name, attributes["exception.message"]) == ("exception", "not there yet")
    assert "traced.py" in str(attributes["exception.stacktrace"])
    assert second.events == ()


@pytest.mark.parametrize("task", ["where", "where_in_process", "where_limited"])
async def test_the_span_is_the_current_one_in_every_executor(host: Host, spans: Spans, task: str) -> None:
    job = await posted(host, task, HEADERS, args={"name": "a"} if task == "where_limited" else {}, queue="slow")
    result = await host.trail.wait(job["id"], 60)
    (span,) = await spans.named("process slow")
    assert result.split()[-1] == f"00-{TRACE}-{span_id(span)}-01"


async def test_what_is_not_sampled_is_kept_so(host: Host, place: Place, spans: Spans) -> None:
    job = await posted(host, "parent", {"traceparent": f"00-{TRACE}-{CALLER}-00"})
    child = await host.trail.wait(job["id"], 60)
    assert (await host.trail.wait(child, 60)).endswith("-00")
    rows = await place.rows("SELECT trace_id, right(trace_parent, 3) AS flags FROM jobtrail.jobs")
    assert rows == [{"trace_id": TRACE, "flags": "-00"}] * 2
    assert spans.names == []


async def test_a_job_of_a_job_is_below_the_attempt_that_submitted_it(host: Host, spans: Spans) -> None:
    job = await posted(host, "parent", HEADERS)
    child = await host.trail.wait(job["id"], 60)
    await host.trail.wait(child, 60)
    (first, second), (send, other) = await spans.named("process default", 2), await spans.named("send default", 2)
    assert [above(each) for each in (first, other, second)] == [span_id(send), span_id(first), span_id(other)]
    assert (await host.trail.get(child)).trace_id == TRACE


@pytest.mark.parametrize("task", traced.PARENTS_BY_TRAIL, ids=lambda task: str(task.name))
@pytest.mark.parametrize("headers", [HEADERS, {}], ids=["a trace of the caller", "none"])
async def test_a_job_that_a_task_submits_by_the_trail_is_in_its_trace_without_a_provider(
    host: Host, place: Place, task: Task[..., str], headers: dict[str, str]
) -> None:
    job = await posted(host, task.name, headers, args={"url": place.url.libpq} if task.runs_in == "process" else {})
    child = await host.trail.wait(job["id"], 60)
    above = (TRACE, f"{CALLER}-01") if headers else (job["trace_id"], None)
    assert tuple(await place.psql.fetchrow(ROW, child) or ()) == above
    other = await host.trail.submit(traced.where)
    assert (await host.trail.get(other.id)).trace_id == other.id.hex


async def test_a_job_that_a_task_submits_by_the_trail_is_below_its_attempt(host: Host, spans: Spans) -> None:
    """As one of `context.submit`, also where the attempt is in another trace than its job."""
    handle = await host.trail.submit(traced.parent_by_trail)
    child = await host.trail.get(await handle.wait(60))
    process, _ = await spans.named("process default", 2)
    (send,) = await spans.named("send default")
    assert (child.trace_id, above(send)) == (handle.id.hex, span_id(process))


async def test_a_job_without_a_trace_has_no_parent(host: Host, place: Place, spans: Spans) -> None:
    handle = await host.trail.submit(traced.parent)
    job = await host.trail.get(handle.id)
    child = await host.trail.get(await host.trail.wait(handle.id, 60))
    await host.trail.wait(child.id, 60)
    first, second = await spans.named("process default", 2)
    assert (first.parent, linked(first), await place.value(ROW.replace("trace_id, ", ""), job.id)) == (None, [], None)
    assert (first.attributes or {})["messaging.message.conversation_id"] == job.trace_id == job.id.hex
    # its own job is in the trace of its attempt all the same
    assert child.trace_id == job.trace_id
    assert trace_id(second) == trace_id(first) != job.trace_id
    (send,) = await spans.named("send default")
    assert (above(send), above(second)) == (span_id(first), span_id(send))


async def test_a_job_of_a_schedule_has_no_parent(host: Host, place: Place, spans: Spans) -> None:
    schedule = {"task": "where", "cron": "0 3 1 1 *"}
    assert (await host.client.put("/trail/schedules/yearly", json=schedule)).is_success
    job = await host.post("/trail/schedules/yearly/run", 202, headers=HEADERS)
    await host.trail.wait(job["id"], 60)
    (span,) = await spans.named("process default")
    assert (span.parent, await place.value("SELECT trace_parent FROM jobtrail.jobs")) == (None, None)


@pytest.mark.parametrize("host", [{"trace_link_after": 0}], indirect=True)
async def test_what_begins_late_has_a_trace_of_its_own_that_links_to_the_submit(host: Host, spans: Spans) -> None:
    job = await posted(host, "flaky", HEADERS)
    await host.trail.wait(job["id"], 60)
    (send,) = await spans.named("send default")
    first, second = await spans.named("process default", 2)
    assert (first.parent, second.parent) == (None, None)
    assert len({TRACE, trace_id(first), trace_id(second)}) == 3
    assert (linked(first), linked(second)) == ([span_id(send)], [span_id(send), span_id(first)])
    assert (await host.trail.get(job["id"])).trace_id == TRACE


async def test_jobs_that_are_stored_together_have_one_span_above_them(host: Host, place: Place, spans: Spans) -> None:
    wanted = [{"task": "where"}, {"task": "where"}, {"task": "where", "queue": "slow"}]
    await host.post("/trail/jobs/batch", 202, json={"jobs": wanted}, headers=HEADERS)
    await spans.named("process default", 2)
    (two,), (one,) = await spans.named("send default"), await spans.named("send slow")
    assert (two.attributes or {})["messaging.batch.message_count"] == 2
    assert "messaging.message.id" not in (two.attributes or {})
    rows = await place.rows("SELECT queue, left(trace_parent, 16) AS span FROM jobtrail.jobs ORDER BY queue")
    assert [tuple(row.values()) for row in rows] == [("default", span_id(two))] * 2 + [("slow", span_id(one))]


async def test_a_job_in_a_session_is_below_the_span_of_the_endpoint(host: Host, place: Place, spans: Spans) -> None:
    engine = create_async_engine(place.url.sqlalchemy)

    @host.app.post("/order", status_code=202)
    async def order(jobs: Jobs) -> dict[str, str]:
        async with AsyncSession(engine) as session, session.begin():
            with trace.get_tracer("of the host").start_as_current_span("order"):
                return {"id": str(jobs.options(session=session).add_task(traced.where).id)}

    job = await host.post("/order", 202)
    await host.trail.wait(job["id"], 60)
    (own,), (process,) = await spans.named("order"), await spans.named("process default")
    assert (above(process), trace_id(process)) == (span_id(own), trace_id(own))
    assert (await host.trail.get(job["id"])).trace_id == trace_id(own)
    assert "send default" not in spans.names
    await engine.dispose()


async def test_a_submit_that_is_refused_is_an_error_of_its_span(host: Host, spans: Spans) -> None:
    headers = HEADERS | {"Idempotency-Key": "k"}
    await posted(host, "where", headers)
    await host.post("/trail/jobs", 422, json={"task": "where", "priority": 1}, headers=headers)
    stored, refused = await spans.named("send default", 2)
    assert (stored.status.status_code, refused.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)
    assert (refused.attributes or {})["error.type"] == "IdempotencyKeyReusedError"


async def test_without_a_provider_no_span_is_made_and_the_trace_of_the_caller_is_kept(host: Host, place: Place) -> None:
    job = await posted(host, "parent", HEADERS)
    child = await host.trail.wait(job["id"], 60)
    assert await host.trail.wait(child, 60) == f"00-{'0' * 32}-{'0' * 16}-00"
    rows = await place.rows("SELECT trace_id, trace_parent FROM jobtrail.jobs")
    assert rows == [{"trace_id": TRACE, "trace_parent": f"{CALLER}-01"}] * 2
    plain = await posted(host, "where")
    assert await place.value("SELECT trace_parent FROM jobtrail.jobs WHERE id = $1", plain["id"]) is None


@pytest.mark.parametrize("text", ["", CALLER, f"{CALLER}-1", f"{CALLER.upper()}-01", f"00-{TRACE}-{CALLER}-01"])
async def test_the_table_refuses_what_is_no_parent(place: Place, text: str) -> None:
    insert = "INSERT INTO jobtrail.jobs (id, task, trace_parent) VALUES (gen_random_uuid(), 'noop', $1)"
    with pytest.raises(asyncpg.CheckViolationError, match="ck_jobs_trace_parent"):
        await place.psql.execute(insert, text)
