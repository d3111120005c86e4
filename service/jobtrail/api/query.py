"""Query parameters, the cursor of a list among them. An unknown name is refused: a filter with a typo would list
everything.
"""

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, Field
from starlette.requests import Request

from jobtrail import errors, ranges
from jobtrail.api.schemas import AnyStatus
from jobtrail.jobs.query import Cursor, Filter, Page
from jobtrail.status import Status
from jobtrail.task.storable import MAX_FLAWS, check, visible
from jobtrail.task.submission import Moment

MOST_VALUES: Final = 50
"""Values of one filter."""

OTHER_NAMES: Final = "jobtrail.other_names"
"""In the scope of a request whose query may have names that are none of ours."""

REPEATABLE: Final = ("status", "task", "queue", "tag", "trace_id", "schedule", "include")

_LAYOUT: Final = struct.Struct(">Bq16s")
"""A cursor: its version, microseconds since 1970, the id of a job."""

_VERSION: Final = 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _split(found: Any) -> Any:
    """`a,b` says the same as `a` and `b`."""
    return [part for each in found for part in each.split(",")]


Text = Annotated[str, Field(min_length=1, max_length=200)]
TraceId = Annotated[str, Field(pattern=ranges.TRACE_PATTERN)]
Reason = Annotated[str, Field(strict=True, max_length=ranges.MAX_REASON)]
Part = Literal["args", "result", "traceback"]


class Filters(BaseModel):
    """Which jobs. The values of a field are alternatives, except tags; the fields add up."""

    status: Annotated[list[AnyStatus], Field(max_length=MOST_VALUES, description="Any of these.")] = []
    task: Annotated[list[Text], Field(max_length=MOST_VALUES, description="Any of these.")] = []
    queue: Annotated[list[Text], Field(max_length=MOST_VALUES, description="Any of these.")] = []
    tag: Annotated[list[Text], Field(max_length=MOST_VALUES, description="All of these.")] = []
    trace_id: Annotated[list[TraceId], Field(max_length=MOST_VALUES, description="Any of these.")] = []
    schedule: Annotated[list[Text], Field(max_length=MOST_VALUES, description="Any of these.")] = []
    created_after: Annotated[Moment | None, Field(description="Later than this (RFC 3339 with a zone).")] = None
    created_before: Annotated[Moment | None, Field(description="Earlier than this (RFC 3339 with a zone).")] = None

    def filter(self, *, created_by: str | None = None) -> Filter:
        return Filter(
            [Status(each) for each in self.status], self.task, self.queue, self.tag, self.trace_id,
            self.created_after, self.created_before, created_by, self.schedule,
        )  # fmt: skip


class Listing(Filters):
    """Which jobs, and how much of each."""

    batch_id: Annotated[UUID | None, Field(description="Of this batch.")] = None
    limit: Annotated[int, Field(ge=1, le=200, description="How many at most; fewer where they are large.")] = 50
    cursor: Annotated[str | None, Field(description="The next_cursor of the page before.")] = None
    include: Annotated[
        list[Part],
        BeforeValidator(_split),
        Field(max_length=MOST_VALUES, description="What is left out otherwise, separated by commas."),
    ] = []

    def page(self, *, only_of: str | None = None) -> Page:
        """Raises InvalidInputError."""
        return Page(
            limit=self.limit,
            after=None if self.cursor is None else read_cursor(self.cursor),
            heavy=bool({"args", "result"}.intersection(self.include)),
            filter=replace(self.filter(created_by=only_of), batch_id=self.batch_id),
        )


class HistoryQuery(BaseModel):
    """Where a long history goes on."""

    cursor: Annotated[
        str | None, Field(pattern=r"^[1-9][0-9]{0,8}$", description="The next_cursor of the page before.")
    ] = None


class LogQuery(BaseModel):
    """How much of a job's log."""

    attempt: Annotated[int | None, Field(ge=1, description="Only what this one said.")] = None
    limit: Annotated[int, Field(ge=1, le=ranges.LOG_LINES, description="How many of the last lines at most.")] = (
        ranges.LOG_LINES
    )


class CancelQuery(BaseModel):
    """Why, where there is no body."""

    reason: Annotated[Reason | None, Field(description="Kept in the row and the history.")] = None


def once(request: Request, known: Collection[str], *, but: Collection[str] = ()) -> dict[str, str]:
    """The parameters of a query in which only the names in `but` may repeat, and none but the `known` ones occur; among
    a host's routes others are left out, since its guards may read them.

    Raises InvalidInputError, also for what the database cannot hold.
    """
    found: dict[str, str] = {}
    flaws: list[errors.FieldError] = []
    for name, value in request.query_params.multi_items():
        if name not in known:
            if OTHER_NAMES in request.scope:
                continue
            flaws.append(
                errors.FieldError(f"?{visible(name)}", f"there is no such parameter; there are: {', '.join(known)}")
            )
        if name in found and name not in but:
            flaws.append(errors.FieldError(f"?{visible(name)}", "given more than once"))
        flaws += [errors.FieldError(f"?{visible(name)}", flaw.detail) for text in (name, value) for flaw in check(text)]
        found[name] = value
    if flaws:
        raise errors.InvalidInputError(flaws[:MAX_FLAWS])
    return found


def write_cursor(cursor: Cursor) -> str:
    """The cursor as opaque text."""
    packed = _LAYOUT.pack(_VERSION, (cursor.created_at - _EPOCH) // timedelta(microseconds=1), cursor.id.bytes)
    return urlsafe_b64encode(packed).rstrip(b"=").decode()


def read_cursor(text: str) -> Cursor:
    """Raises InvalidInputError for anything that `write_cursor` did not make."""
    try:
        version, microseconds, job_id = _LAYOUT.unpack(
            urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        )
        cursor = Cursor(_EPOCH + timedelta(microseconds=microseconds), UUID(bytes=job_id))
        if (version, write_cursor(cursor)) == (_VERSION, text):
            return cursor
    except (ValueError, struct.error, OverflowError):
        pass
    raise errors.InvalidInputError(
        [errors.FieldError("?cursor", "this is no cursor of this list: take next_cursor as it was given")]
    ) from None
