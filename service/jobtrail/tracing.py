"""Spans of jobs, by the messaging conventions of OpenTelemetry: one of each submit, one of each attempt.

They are made by the global provider, and only where one is installed. Its processors and samplers are the host's own:
what they raise is logged, and changes nothing of a submit or an attempt. From process to process the row of a job
carries its trace, in the form of `Trace`.
"""

import logging
import time
from asyncio import CancelledError
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from functools import lru_cache
from importlib.metadata import version
from typing import Final
from uuid import UUID
from weakref import WeakSet

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    TracerProvider,
)

from jobtrail.ids import Trace, parse_traceparent, running_trace
from jobtrail.records import Claimed, NewJob
from jobtrail.task.outcome import Failed, Outcome, Released, Retried

log = logging.getLogger(__name__)

_NO_SPAN: Final = nullcontext()

_REMEMBERED: Final = 1000
"""Attempts, at most, that a node can link the next ones of their jobs to."""


def current(given: Trace | None = None) -> Trace | None:
    """The trace of a job that is submitted here, under the current span. `given`: that of the request's `traceparent`,
    or of the job that submits, which is else the one that runs here; its id stays, and so does its parent where there
    is no current span.
    """
    given = given or running_trace.get()
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return given
    trace_id = trace.format_trace_id(span.trace_id) if given is None else given.id
    return Trace(trace_id, _parent(span, trace_id))


def sends(jobs: Sequence[NewJob]) -> AbstractContextManager[None]:
    """While these jobs are stored: a span for those of a trace and queue, which becomes their parent."""
    tracer = _tracer()
    return _NO_SPAN if tracer is None else _sends(tracer, jobs)


@contextmanager
def _sends(tracer: Tracer, jobs: Sequence[NewJob]) -> Iterator[None]:
    together: dict[tuple[str, str, str], list[NewJob]] = defaultdict(list)
    for job in jobs:
        if job.trace_parent is not None:
            together[job.trace_id, job.trace_parent, job.queue].append(job)
    spans = []
    for (trace_id, parent, queue), group in together.items():
        with _harmless():
            spans.append(_send(tracer, group, _span_of(trace_id, parent), trace_id, queue))
    try:
        yield
    except BaseException as error:
        for span in spans:
            with _harmless():
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(StatusCode.ERROR)
        raise
    finally:
        for span in spans:
            with _harmless():
                span.end()


def _send(tracer: Tracer, jobs: Sequence[NewJob], above: SpanContext, trace_id: str, queue: str) -> Span:
    attributes = _attributes("send", queue, trace_id)
    if len(jobs) == 1:
        attributes |= {"messaging.message.id": str(jobs[0].id), "jobtrail.task": jobs[0].task}
    else:
        attributes["messaging.batch.message_count"] = len(jobs)
    span = tracer.start_span(f"send {queue}", _below(above), SpanKind.PRODUCER, attributes)
    parent = _parent(span.get_span_context(), trace_id)
    for job in jobs:
        job.trace_parent = parent
    return span


class AttemptSpans:
    """The spans of a node's attempts. `link_after`: an attempt that begins so long after the submit has a trace of its
    own, with a link to that of the submit.
    """

    def __init__(self, link_after: timedelta) -> None:
        self._link_after = link_after
        self._before: Final[OrderedDict[UUID, SpanContext]] = OrderedDict()

    def begin(self, claimed: Claimed) -> "AttemptSpan | None":
        """Start the span of an attempt, and make it the current one of this context; None without a provider, or where
        that raises.
        """
        tracer = _tracer()
        if tracer is not None:
            with _harmless():
                return self._begin(tracer, claimed)
        return None

    def _begin(self, tracer: Tracer, claimed: Claimed) -> "AttemptSpan":
        above, links = Context(), []
        if claimed.trace_parent is not None:
            parent = _span_of(claimed.trace_id, claimed.trace_parent)
            if claimed.age is not None and claimed.age >= self._link_after:
                links.append(Link(parent))
            else:
                above = _below(parent)
        if (before := self._before.pop(claimed.id, None)) is not None:
            links.append(Link(before))
        attributes = _attributes("process", claimed.queue, claimed.trace_id) | {
            "messaging.message.id": str(claimed.id),
            "jobtrail.task": claimed.task,
            "jobtrail.attempt": claimed.attempt,
        }
        began = time.time_ns()
        span = tracer.start_span(f"process {claimed.queue}", above, SpanKind.CONSUMER, attributes, links, began)
        context.attach(trace.set_span_in_context(span))
        return AttemptSpan(self, claimed.id, span, began)

    def remember(self, job_id: UUID, span: SpanContext) -> None:
        """For the link of the job's next attempt, should it be here."""
        self._before[job_id] = span
        if len(self._before) > _REMEMBERED:
            self._before.popitem(last=False)


class AttemptSpan:
    """The span of an attempt, until its outcome is recorded."""

    def __init__(self, spans: AttemptSpans, job_id: UUID, span: Span, began: int) -> None:
        self._spans = spans
        self._job_id = job_id
        self._span = span
        self._began = began
        self._is_over = False

    @property
    def traceparent(self) -> str:
        """For a process of its own."""
        found = self._span.get_span_context()
        return f"00-{trace.format_trace_id(found.trace_id)}-{_place(found)}"

    def end(self, seconds: float, outcome: Outcome | None = None) -> None:
        """End it where the task ended, `seconds` after it began. `outcome` None: it does not count, or is not known.
        Once it has ended, this does nothing.
        """
        if self._is_over:
            return
        self._is_over = True
        end = self._began + int(seconds * 1e9)
        with _harmless():
            self._describe(outcome, end)
        with _harmless():
            self._span.end(end)

    def _describe(self, outcome: Outcome | None, end: int) -> None:
        if outcome is None:
            self._span.set_status(StatusCode.ERROR, "its outcome is not the job's")
        elif isinstance(outcome, Failed | Retried):
            failure = outcome.failure
            self._span.set_attribute("error.type", failure.type)
            self._span.set_status(StatusCode.ERROR, f"{failure.type}: {failure.message}")
            told = {"exception.type": failure.type, "exception.message": failure.message}
            if failure.traceback is not None:
                told["exception.stacktrace"] = failure.traceback
            self._span.add_event("exception", told, end)
        if isinstance(outcome, Retried | Released):
            self._spans.remember(self._job_id, self._span.get_span_context())


def under(traceparent: str) -> AbstractContextManager[object]:
    """The span of an attempt as the current one, in a process of its own."""
    found = parse_traceparent(traceparent)
    if found is None or found.parent is None:
        return _NO_SPAN
    span = NonRecordingSpan(_span_of(found.id, found.parent))
    return trace.use_span(span, record_exception=False, set_status_on_exception=False)


def _tracer() -> Tracer | None:
    # the public getter looks into the environment each time, which takes 2 µs
    provider: TracerProvider | None = getattr(trace, "_TRACER_PROVIDER", None)
    if provider is not None:
        with _harmless():
            return _tracer_of(provider)
    return None


@lru_cache(maxsize=1)
def _tracer_of(provider: TracerProvider) -> Tracer:
    return provider.get_tracer("jobtrail", version("jobtrail"))


@contextmanager
def _harmless() -> Iterator[None]:
    try:
        yield
    except (Exception, SystemExit, CancelledError) as error:  # noqa: BLE001 - nothing is awaited: it is the provider's
        with suppress(Exception):  # a host's own filters and handlers may raise
            _tell_once(getattr(trace, "_TRACER_PROVIDER", None), error)


_told: Final[WeakSet[TracerProvider]] = WeakSet()


def _tell_once(provider: TracerProvider | None, error: BaseException) -> None:
    """What raises may do so for every job."""
    if provider is not None and provider not in _told:
        _told.add(provider)
        words = "the provider of spans raised: jobs go on, some of their spans are missing; this is logged once"
        log.warning(words, exc_info=error)


def _attributes(operation: str, queue: str, trace_id: str) -> dict[str, str | int]:
    """https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/"""
    return {
        "messaging.system": "jobtrail",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": queue,
        "messaging.message.conversation_id": trace_id,
    }


def _below(span: SpanContext) -> Context:
    return trace.set_span_in_context(NonRecordingSpan(span), Context())


def _parent(span: SpanContext, trace_id: str) -> str:
    """As the row of a job of this trace has it."""
    own = trace.format_trace_id(span.trace_id)
    return _place(span) if own == trace_id else f"{own}-{_place(span)}"


def _place(span: SpanContext) -> str:
    return f"{trace.format_span_id(span.span_id)}-{span.trace_flags:02x}"


def _span_of(trace_id: str, parent: str) -> SpanContext:
    *other, span, flags = parent.split("-")
    found = int(other[0] if other else trace_id, 16)
    return SpanContext(found, int(span, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
