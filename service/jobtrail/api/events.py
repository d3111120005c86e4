"""Event streams: what happens to a job, or to all of them. A transition has an id, and a stream goes on after the one
of `Last-Event-ID`, in any process and after any restart; no other event has one. A reader whose filter lets nothing
through is told ids without an event, so that it need not begin again where it was long ago (WHATWG HTML, section
9.2.6: a block without data only sets the last event id).
"""

import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import Query
from fastapi.sse import format_sse_event
from pydantic import BaseModel, Field
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from jobtrail import errors
from jobtrail.api import problems
from jobtrail.api.calls import Calls
from jobtrail.api.context import ApiContext
from jobtrail.api.openapi import OF_DATABASE
from jobtrail.api.query import MOST_VALUES, Text, once
from jobtrail.api.representation import View
from jobtrail.api.route import SEE, Row
from jobtrail.api.schemas import AnyStatus
from jobtrail.api.stream import EventStream, Reached, Room, control
from jobtrail.events import job_news
from jobtrail.events.feed import Event, Place, Wanted, place_after
from jobtrail.events.hub import Hub
from jobtrail.events.job_news import JobPlace
from jobtrail.records import LogLine, Transition
from jobtrail.task.job_events import Gap, JobEvent

_RETRY: Final = 1000
"""Milliseconds after which a reader whose stream was cut asks for another one."""

_AT_ONCE: Final = 100
"""Events that are sent together: a reader on a slow line takes them in time."""

_TELL_EVERY: Final = 1.0
"""Seconds, at least, between two ids without an event."""

_CONTENT: Final = {
    EventStream.media_type: {
        "itemSchema": {  # OpenAPI 3.2, section 4.14.4
            "type": "object",
            "required": ["event", "data"],
            "properties": {
                "event": {"enum": ["transition", "progress", "log", "hello", "gap", "end"]},
                "data": {"type": "string", "contentMediaType": "application/json"},
                "id": {"type": "string"},
                "retry": {"type": "integer"},
            },
        }
    }
}

_NOT_THIS: Final = "this id is of another history"


class EventFilters(BaseModel):
    """Which transitions. The values of a field are alternatives, except tags; the fields add up. Of a job that was
    purged only its task is known.
    """

    task: Annotated[list[Text], Field(max_length=MOST_VALUES, description="Any of these.")] = []
    queue: Annotated[list[Text], Field(max_length=MOST_VALUES, description="Any of these.")] = []
    status: Annotated[
        list[AnyStatus | Literal["purged"]], Field(max_length=MOST_VALUES, description="To any of these.")
    ] = []
    tag: Annotated[list[Text], Field(max_length=MOST_VALUES, description="All of these.")] = []

    def wanted(self, *, only_of: str | None) -> Wanted:
        return Wanted(frozenset(self.task), frozenset(self.queue), frozenset(self.status), frozenset(self.tag), only_of)


@dataclass(frozen=True)
class EventRoutes(Calls):
    """/events, and that of each job."""

    async def stream_job(self, request: Request, job_id: UUID) -> Response:
        """What has happened to a job, and what happens, until it has ended: events `transition`, `progress` and `log`.

        With the id of its end there is nothing more: 204.
        """
        once(request, ())
        room, view = self._enter(), self._view(request)
        said = _last_event_id(request)
        now = await job_news.find(self.context.services, job_id, only_of=view.only_of)
        place = JobPlace(job_id) if said is None else JobPlace.read(job_id, said)
        is_known = place is not None and place.seq <= now.seq
        if place is not None and said is not None and place.seq == now.seq and now.is_end:
            return Response(status_code=204)
        gap = None if is_known else control("gap", reason=_NOT_THIS, since=None)
        frames = _of_job(room.hub, view, place if place is not None and is_known else JobPlace(job_id), gap)
        return self._stream(request, room, frames)

    async def stream_events(self, request: Request, wanted: Annotated[EventFilters, Query()]) -> Response:
        """Every transition of every job that the caller may see, from now on or after the last event id, in an order
        that is the same for all. A filter may be given more than once.

        An id that is not known gives one event `gap`, and then what is there.
        """
        once(request, EventFilters.model_fields, but=EventFilters.model_fields)
        room, view = self._enter(), self._view(request)
        said = _last_event_id(request)
        place = None if said is None else Place.read(said) or Place(0, "", 0)
        begin, gap = await room.hub.enter(place)
        first, reading = _hello(str(begin)), _Reading(begin)
        if gap is not None:
            first += _gap(gap)
        if said != str(begin):
            first += reading.frame()
        frames = _of_feed(room.hub.follow(begin), first, view, wanted.wanted(only_of=view.only_of), reading)
        return self._stream(request, room, frames, reading.frame)

    def _enter(self) -> Room:
        """Raises UnavailableError where there is no room, or no time."""
        hub = self.context.services.once(Hub)
        if hub.closing.is_set() or not self.context.accepting():
            raise errors.UnavailableError("this process is shutting down; ask another one, or the next one")
        if hub.streams >= self.context.streams:
            raise problems.TooManyStreamsError(self.context.streams)
        return Room(hub)

    def _stream(
        self, request: Request, room: Room, frames: AsyncGenerator[bytes, None], reached: Reached = bytes
    ) -> Response:
        async def renew() -> None:
            await self.context.access.admit(request, SEE)
            await self.context.access.confirm(request, SEE)

        return EventStream(frames, room, renew, self.context.stream_max.total_seconds(), reached)


def _last_event_id(request: Request) -> str | None:
    """None without one: an empty one is none (WHATWG HTML, section 9.2.4)."""
    return ",".join(request.headers.getlist("last-event-id")) or None


async def _of_job(hub: Hub, view: View, place: JobPlace, gap: bytes | None) -> AsyncGenerator[bytes, None]:
    yield _hello(str(place)) + (gap or b"")
    is_over = False
    while not is_over:
        news = await hub.news(place)
        for some in _several([_job_frame(view, each) for each in news.items]):
            yield some
        place, is_over = news.following, news.is_over


class _Reading:
    """How far a reader of the feed has read, whether it got anything of it or not."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._told: Place | None = None
        self._told_at = 0.0

    @property
    def is_long_ago(self) -> bool:
        """Whether a place was told."""
        return time.monotonic() - self._told_at >= _TELL_EVERY

    def frame(self) -> bytes:
        """The place, where it has not been told; no event."""
        if self.place == self._told:
            return b""
        self._told, self._told_at = self.place, time.monotonic()
        return f"id: {self.place}\n\n".encode()


async def _of_feed(
    pages: AsyncGenerator[Sequence[Event] | Gap, None], first: bytes, view: View, wanted: Wanted, reading: _Reading
) -> AsyncGenerator[bytes, None]:
    try:
        yield first
        async for page in pages:
            if isinstance(page, Gap):
                yield _gap(page)
                continue
            for some in _several([_feed_frame(view, each) for each in page if wanted.has(each)]):
                yield some
            reading.place = place_after(page)
            if reading.is_long_ago:
                yield reading.frame()
    finally:
        await pages.aclose()


def _hello(place: str) -> bytes:
    """The first bytes: the reader is heard, and knows where it began and when to come back."""
    return format_sse_event(data_str=to_json({"since": place}).decode(), event="hello", retry=_RETRY)


def _gap(gap: Gap) -> bytes:
    return control("gap", reason=gap.reason, since=gap.since)


def _several(frames: Sequence[bytes]) -> Iterator[bytes]:
    for start in range(0, len(frames), _AT_ONCE):
        yield b"".join(frames[start : start + _AT_ONCE])


def _feed_frame(view: View, event: Event) -> bytes:
    found = event.written.get(view.tracebacks)
    if found is None:
        found = event.written[view.tracebacks] = _transition_frame(view, event.transition, str(event.place))
    return found


def _job_frame(view: View, event: JobEvent) -> bytes:
    match event.data:
        case Transition():
            return _transition_frame(view, event.data, event.id)
        case LogLine():
            return _frame("log", {"job_id": event.job_id, **view.line(event.data)})
        case _:
            return _frame("progress", {"job_id": event.job_id, "attempt": event.attempt, **event.data.as_json()})


def _transition_frame(view: View, moved: Transition, place: str | None) -> bytes:
    return _frame("transition", {"job_id": moved.job_id, **view.transition(moved)}, place)


def _frame(kind: str, data: dict[str, Any], place: str | None = None) -> bytes:
    return format_sse_event(data_str=to_json(data, inf_nan_mode="null").decode(), event=kind, id=place)


def rows(context: ApiContext) -> Sequence[Row]:
    calls = EventRoutes(context)
    opens = (problems.TooManyStreamsError, errors.InvalidInputError, *OF_DATABASE)
    return [
        Row(SEE, "GET", "/jobs/{job_id}/events", calls.stream_job, 200, None, "events", "Follow a job",
            (errors.JobNotFoundError, *opens), (), ("Last-Event-ID",),
            [(204, "The job has ended, as the reader knows.")], _CONTENT),
        Row(SEE, "GET", "/events", calls.stream_events, 200, None, "events", "Follow all jobs",
            opens, (), ("Last-Event-ID",), (), _CONTENT),
    ]  # fmt: skip
