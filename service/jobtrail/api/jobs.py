"""Jobs that are there: looking at them, and the verbs that move or change them."""

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

from fastapi import BackgroundTasks, Body, Query
from starlette.requests import Request
from starlette.responses import Response

from jobtrail.api import cursor, links, representation
from jobtrail.api.conditions import etag_of, matches_if_match, matches_if_none_match
from jobtrail.api.context import ApiContext
from jobtrail.api.examples import AMENDMENTS
from jobtrail.api.query import REPEATABLE, CancelBody, CancelQuery, HistoryQuery, Listing, LogQuery, RetryBody, once
from jobtrail.api.representation import View
from jobtrail.api.submissions import launch, refuse_while_closing
from jobtrail.errors import ForbiddenError, JobNotFoundError
from jobtrail.jobs.amend import amend
from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.history import read_moves
from jobtrail.jobs.log import read_log
from jobtrail.jobs.query import read, read_page
from jobtrail.jobs.retry import retry
from jobtrail.records import Job
from jobtrail.status import Status
from jobtrail.task.submission import Amendment


@dataclass(frozen=True)
class JobRoutes:
    """/jobs and what lies below."""

    context: ApiContext

    async def get_job(self, request: Request, job_id: UUID) -> Response:
        """One job with all that is known of it. With If-None-Match, 304 while nothing has changed."""
        view = View.of(self.context, request)
        job = await read(self.context.services, job_id, only_of=view.only_of)
        answer = _whole(job, view)
        if matches_if_none_match(request, answer.headers["ETag"]):
            return Response(status_code=304, headers={"ETag": answer.headers["ETag"], **representation.polling(job)})
        return answer

    async def list_jobs(self, request: Request, wanted: Annotated[Listing, Query()]) -> Response:
        """Jobs, newest first; a filter may be given more than once."""
        once(request, Listing.model_fields, but=REPEATABLE)
        view = View.of(self.context, request)
        found = await read_page(self.context.services, wanted.page(only_of=view.only_of))
        following = None if found.following is None else cursor.write(found.following)
        items = [representation.of_listed_job(job, wanted.include, view) for job in found.jobs]
        headers = {} if following is None else {"Link": _next(request, following)}
        return representation.answer({"items": items, "next_cursor": following}, headers=headers)

    async def get_transitions(
        self, request: Request, job_id: UUID, wanted: Annotated[HistoryQuery, Query()]
    ) -> Response:
        """Every move of a job, also after its row was purged; next_cursor leads on where they are thousands."""
        once(request, HistoryQuery.model_fields)
        view = View.of(self.context, request)
        found = await read_moves(self.context.services, job_id, after=int(wanted.cursor or 0), only_of=view.only_of)
        following = None if found.following is None else str(found.following)
        items = [representation.of_transition(each, view) for each in found.moves]
        return representation.answer({"items": items, "next_cursor": following})

    async def get_log(self, request: Request, job_id: UUID, wanted: Annotated[LogQuery, Query()]) -> Response:
        """What the job said while it ran, oldest first: the last 1,000 lines or 256 KiB of all its attempts."""
        once(request, LogQuery.model_fields)
        view = View.of(self.context, request)
        found = await read_log(self.context.services, job_id, attempt=wanted.attempt, only_of=view.only_of)
        return representation.answer({"items": [representation.of_line(each, view) for each in found[-wanted.limit :]]})

    async def cancel_job(self, request: Request, job_id: UUID, wanted: CancelBody | None = None) -> Response:
        """A pending job ends at once. A running one is asked to, and may still succeed: then 202."""
        return await self._cancel(request, job_id, wanted.reason if wanted else None)

    async def delete_job(self, request: Request, job_id: UUID, wanted: Annotated[CancelQuery, Query()]) -> Response:
        """The same as cancel: the row stays until its TTL has passed."""
        once(request, CancelQuery.model_fields)
        return await self._cancel(request, job_id, wanted.reason)

    async def retry_job(
        self,
        request: Request,
        job_id: UUID,
        background: BackgroundTasks,
        wanted: RetryBody | None = None,  # noqa: ARG002 - it has nothing to say, and must not seem to
    ) -> Response:
        """A failed or cancelled job goes back to pending, with one more attempt if it had none left."""
        refuse_while_closing(self.context)
        job = await retry(self.context.services, job_id, by=self.context.access.caller(request).name)
        background.add_task(launch, self.context, (job,))
        shown = representation.of_job(job, View.of(self.context, request))
        return representation.answer(shown, 202, representation.polling(job))

    async def amend_job(
        self, request: Request, job_id: UUID, wanted: Annotated[Amendment, Body(openapi_examples=AMENDMENTS)]
    ) -> Response:
        """Changes only what is sent. With If-Match, only while the job is as the caller saw it."""
        view = View.of(self.context, request)
        job = await amend(
            self.context.services,
            job_id,
            wanted,
            unchanged=lambda job: matches_if_match(request, _whole(job, view).headers["ETag"]),
        )
        return _whole(job, view)

    async def _cancel(self, request: Request, job_id: UUID, reason: str | None) -> Response:
        view, caller = View.of(self.context, request), self.context.access.caller(request)
        only_of = None if caller.operates else caller.name
        try:
            job = await cancel(self.context.services, job_id, by=caller.name, reason=reason or None, only_of=only_of)
        except JobNotFoundError:
            if only_of is None or not caller.sees_all:
                raise
            await read(self.context.services, job_id)
            raise ForbiddenError(caller.name, ("operate",)) from None
        status = 200 if job.status is Status.CANCELLED else 202
        return representation.answer(representation.of_job(job, view), status, representation.polling(job))


def _whole(job: Job, view: View) -> Response:
    answer = representation.answer(representation.of_job(job, view), headers=representation.polling(job))
    answer.headers["ETag"] = etag_of(bytes(answer.body))
    return answer


def _next(request: Request, following: str) -> str:
    """The same list from the cursor on (RFC 8288)."""
    kept = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    return f'<{links.url(request, links.JOBS)}?{urlencode([*kept, ("cursor", following)])}>; rel="next"'
