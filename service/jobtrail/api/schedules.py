"""The calls about schedules: the rows of the calls, what they take and answer, and the calls themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Body, Path, Query
from pydantic import BaseModel, ConfigDict, Field, StrictBool, create_model
from starlette.requests import Request
from starlette.responses import Response

from jobtrail import errors
from jobtrail.api import headers, links, schemas
from jobtrail.api.calls import Calls
from jobtrail.api.context import ApiContext
from jobtrail.api.openapi import OF_BODY, OF_DATABASE
from jobtrail.api.ops import PauseBody
from jobtrail.api.query import once
from jobtrail.api.representation import RETRY_AFTER, answer
from jobtrail.api.route import OPERATE, READ, Row
from jobtrail.ops import backfill, schedules
from jobtrail.ranges import MAX_TASK, TASK_PATTERN
from jobtrail.records import shown
from jobtrail.task import schedule
from jobtrail.task.schedule import ScheduleSpec
from jobtrail.task.submission import Documented, Due, Moment

Schedule: Final = schemas.of_record(schedule.Schedule, "Schedule")
ScheduleList: Final = schemas.list_of(Schedule, "ScheduleList", "By name.", next_cursor=schemas.NEXT)

_jobs: Final[Any] = list.__class_getitem__(schemas.ListedJob)
ScheduleDetail: Final = create_model(
    "ScheduleDetail",
    __base__=Schedule,
    __doc__="A schedule with its next times and its last jobs.",
    next_times=Annotated[list[Moment], Field(description="The next five due times, without jitter.")],
    last_jobs=Annotated[_jobs, Field(description="The last ten, newest first.")],
    skipped=Annotated[
        dict[str, int], Field(description="How many due times came to nothing, by the reason: missed, overlap, …")
    ],
)

Backfill: Final = schemas.of_record(schedule.Backfill, "Backfill")

_EXAMPLES: Final[schemas.Examples] = {
    "cron": {
        "summary": "Each working day at seven, in Paris",
        "value": {"task": "send_digest", "cron": "0 7 * * mon-fri", "zone": "Europe/Paris"},
    },
    "every": {"summary": "Every five minutes", "value": {"task": "refresh", "args": {"full": False}, "every": 300}},
}


class BackfillBody(Documented):
    """The time whose due times become jobs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    since: Annotated[Due, Field(alias="from", description="The first due time is not before (RFC 3339 with a zone).")]
    until: Annotated[Due, Field(description="The last due time is before; at most now.")]
    dry_run: Annotated[StrictBool, Field(description="Only tell the due times.")] = False


_BACKFILLS: Final[schemas.Examples] = {
    "count": {
        "summary": "Which due times would become jobs",
        "value": {"from": "2026-03-01T00:00:00Z", "until": "2026-04-01T00:00:00Z", "dry_run": True},
    },
}


class NothingBody(Documented):
    """Nothing can be said here; what is said all the same would be taken for done."""

    model_config = ConfigDict(extra="forbid")


class SchedulesQuery(BaseModel):
    """How many, and where the list goes on."""

    limit: Annotated[int, Field(ge=1, le=200, description="How many at most.")] = 50
    cursor: Annotated[str | None, Field(max_length=MAX_TASK, description="The next_cursor of the page before.")] = None


def rows(context: ApiContext) -> Sequence[Row]:
    calls = ScheduleRoutes(context)
    finds = (errors.InvalidInputError, errors.ScheduleNotFoundError, *OF_DATABASE)
    runs = (errors.UnknownTaskError, errors.InvalidArgumentsError)
    one = "/schedules/{name}"
    return [
        Row(READ, "GET", "/schedules", calls.list_schedules, 200, ScheduleList, "schedules", "List the schedules",
            (errors.InvalidInputError, *OF_DATABASE)),
        Row(READ, "GET", one, calls.get_schedule, 200, ScheduleDetail, "schedules", "Read a schedule", finds,
            ("ETag",), ("If-None-Match",), [(304, "Nothing has changed.")]),
        Row(OPERATE, "PUT", one, calls.put_schedule, 200, Schedule, "schedules", "Make or replace a schedule",
            (*OF_BODY, *runs, errors.PreconditionError, *OF_DATABASE), (), ("If-Match",)),
        Row(OPERATE, "DELETE", one, calls.delete_schedule, 204, None, "schedules", "Delete a schedule", finds),
        Row(OPERATE, "POST", f"{one}/pause", calls.pause_schedule, 200, Schedule, "schedules", "Pause a schedule",
            (*OF_BODY, *finds[1:])),
        Row(OPERATE, "POST", f"{one}/resume", calls.resume_schedule, 200, Schedule, "schedules", "Resume a schedule",
            (*OF_BODY, *finds[1:])),
        Row(OPERATE, "POST", f"{one}/run", calls.run_schedule, 202, schemas.Job, "schedules",
            "Run a job of a schedule now", (*OF_BODY, *finds[1:], *runs, errors.ScheduleBusyError), ("Retry-After",)),
        Row(OPERATE, "POST", f"{one}/backfill", calls.backfill_schedule, 202, Backfill, "schedules",
            "Make up for due times of a schedule", (*OF_BODY, *finds[1:], *runs), ("Location", "Retry-After"), (),
            [(200, "A dry run: nothing was stored.")]),
    ]  # fmt: skip


@dataclass(frozen=True)
class ScheduleRoutes(Calls):
    """/schedules and what lies below."""

    async def list_schedules(self, request: Request, wanted: Annotated[SchedulesQuery, Query()]) -> Response:
        """All schedules by name: those that code declares, and those that were made by hand."""
        once(request, SchedulesQuery.model_fields)
        found = await schedules.read_schedules(self.context.services, after=wanted.cursor or "", most=wanted.limit + 1)
        following = found[wanted.limit - 1].name if len(found) > wanted.limit else None
        return answer({"items": [self._shown(each) for each in found[: wanted.limit]], "next_cursor": following})

    async def get_schedule(self, request: Request, name: str) -> Response:
        """One schedule with its next five times, its last ten jobs, and what was skipped."""
        _, found = await self._detail(request, name)
        etag = found.headers["ETag"]
        if headers.matches_if_none_match(request, etag):
            return Response(status_code=304, headers={"ETag": etag})
        return found

    async def put_schedule(
        self,
        request: Request,
        name: Annotated[str, Path(pattern=TASK_PATTERN)],
        wanted: Annotated[ScheduleSpec, Body(openapi_examples=_EXAMPLES)],
    ) -> Response:
        """Makes it, or replaces it as a whole; what is left out is the default. It counts at once.

        Of one that code declares, the edit stays through deploys, until the schedule is deleted.
        """
        seen = await self._seen(request, name) if "if-match" in request.headers else None

        def unchanged(row: schedule.Schedule | None) -> bool:
            if seen is None:
                return True
            edition, etag = seen
            return row is not None and row.edition == edition and headers.matches_if_match(request, etag)

        by = self._caller_name(request)
        try:
            found = await schedules.put(self.context.services, name, wanted, by=by, unchanged=unchanged)
        except errors.InvalidArgumentsError as error:
            raise self._redacted(error) from None
        return answer(self._shown(found))

    async def delete_schedule(self, request: Request, name: str) -> Response:
        """Its jobs stay. One that code declares comes back as it is declared, without pause and edits."""
        await schedules.delete(self.context.services, name, by=self._caller_name(request))
        return Response(status_code=204)

    async def pause_schedule(self, request: Request, name: str, wanted: PauseBody | None = None) -> Response:
        """No due time counts until it is resumed, also through deploys. What is paused already stays as it is."""
        reason, by = wanted.reason if wanted else None, self._caller_name(request)
        return answer(self._shown(await schedules.pause(self.context.services, name, by=by, reason=reason)))

    async def resume_schedule(
        self,
        request: Request,
        name: str,
        wanted: NothingBody | None = None,  # noqa: ARG002 - see there
    ) -> Response:
        """It goes on with the next due time; those of the pause are not made up for."""
        by = self._caller_name(request)
        return answer(self._shown(await schedules.resume(self.context.services, name, by=by)))

    async def run_schedule(
        self,
        request: Request,
        name: str,
        wanted: NothingBody | None = None,  # noqa: ARG002 - the same
    ) -> Response:
        """A job of it now, whatever its times. Where it allows one at a time, an unfinished job refuses it."""
        job = await schedules.run(self.context.services, name, by=self._caller_name(request))
        self.context.launch(job.id, job.task, job.queue)
        return answer(self._view(request).job(job), 202, RETRY_AFTER)

    async def backfill_schedule(
        self, request: Request, name: str, wanted: Annotated[BackfillBody, Body(openapi_examples=_BACKFILLS)]
    ) -> Response:
        """A job for each due time in a time that has passed, all in one batch, whatever jobs there are of them already.

        They run one after the other, oldest first, unless the schedule allows them at once. A pause keeps none of them.
        """
        headers.refuse_idempotency_key(request)
        by = self._caller_name(request)
        try:
            found = await backfill.backfill(
                self.context.services, name, wanted.since, wanted.until, by=by, dry_run=wanted.dry_run
            )
        except errors.InvalidArgumentsError as error:
            raise self._redacted(error) from None
        if found.batch_id is None:
            return answer(found)
        response = answer(found, 202, RETRY_AFTER)
        if (location := links.url(request, links.BATCH, batch_id=str(found.batch_id))) is not None:
            response.headers["Location"] = location
        return response

    async def _detail(self, request: Request, name: str) -> tuple[int, Response]:
        """Its edition, and the answer."""
        found = await schedules.read_schedule(self.context.services, name)
        view = self._view(request)
        jobs = [view.listed(job, ()) for job in found.last_jobs]
        more = {"next_times": found.next_times, "last_jobs": jobs, "skipped": found.skipped}
        response = answer(self._shown(found.schedule) | more)
        response.headers["ETag"] = headers.etag_of(bytes(response.body))
        return found.schedule.edition, response

    async def _seen(self, request: Request, name: str) -> tuple[int | None, str]:
        """Edition and ETag; None: it is not there."""
        try:
            edition, response = await self._detail(request, name)
        except errors.ScheduleNotFoundError:
            return None, ""
        return edition, response.headers["ETag"]

    def _shown(self, found: schedule.Schedule) -> dict[str, Any]:
        return shown(found) | {"args": self.context.redaction.of(found.args)}
