"""The calls about jobs: submit, look, move, change. An answered 202 is committed; the node of this process hears of the
job as soon as it is.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Body, Query
from starlette.requests import Request
from starlette.responses import Response

from jobtrail import errors, tracing
from jobtrail.api import bodies, headers, links, query, representation, schemas
from jobtrail.api.calls import Calls, answer_moved
from jobtrail.api.context import ApiContext
from jobtrail.api.openapi import OF_BODY, OF_DATABASE, OF_SUBMIT
from jobtrail.api.representation import View
from jobtrail.api.route import CANCEL, OPERATE, SEE, SUBMIT, Row
from jobtrail.events.hub import Hub
from jobtrail.jobs.amend import amend
from jobtrail.jobs.bulk import Action, bulk
from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.history import read_moves
from jobtrail.jobs.log import read_log
from jobtrail.jobs.query import read, read_page
from jobtrail.jobs.retry import retry
from jobtrail.jobs.services import require_accepting
from jobtrail.jobs.submit import submit, submit_batch
from jobtrail.records import Job
from jobtrail.status import Status
from jobtrail.task.submission import Amendment, Submission

_WITHOUT_BODY: Final = ("ETag", "Retry-After", "Preference-Applied")
"""Headers of an answer that stay when the job is as it was."""


@dataclass(frozen=True)
class JobRoutes(Calls):
    """/jobs and what lies below."""

    async def submit_job(
        self, request: Request, wanted: Annotated[Submission, Body(openapi_examples=bodies.SUBMISSIONS)]
    ) -> Response:
        """Stores a job and answers with it. It is committed before the answer leaves.

        With the same Idempotency-Key and the same body the first job is the answer again. With a unique key it is the
        unfinished job that has the key, if there is one. With `Prefer: wait=N` the answer comes when the job has ended,
        as 200, or after N seconds, as 202.
        """
        require_accepting(self.context.accepting)
        key, trace = headers.idempotency_key_of(request), tracing.current(headers.trace_of(request))
        services, caller = self.context.services, self.context.access.caller(request)
        view = View.of(self.context, caller)
        try:
            job, is_there = await submit(services, wanted, by=caller.name, key=key, trace=trace, only_of=view.only_of)
        except errors.InvalidArgumentsError as error:
            raise self._redacted(error) from None
        if not is_there and not job.is_for_later:
            self.context.launch(job.id, job.task, job.queue)
        status, applied = 200 if is_there and key is None else 202, None
        if (seconds := headers.wait_of(request)) is not None and view.sees(job):
            job, status, applied = await self._wait(job, seconds)
        answer = _whole(job, view, status, applied)
        seen = job.trace_id if view.sees(job) else job.id.hex
        answer.raw_headers.append((b"x-trace-id", (seen if trace is None else trace.id).encode()))
        if (location := links.job_url(request, job.id)) is not None:
            answer.raw_headers.append((b"location", location.encode("latin-1")))
        if is_there and key is not None:
            answer.headers["Idempotency-Replayed"] = "true"
        return answer

    async def submit_jobs(
        self, request: Request, wanted: Annotated[bodies.Batch, Body(openapi_examples=bodies.BATCHES)]
    ) -> Response:
        """Stores all of the jobs or none."""
        require_accepting(self.context.accepting)
        headers.refuse_idempotency_key(request)
        trace, by, view = tracing.current(headers.trace_of(request)), self._caller_name(request), self._view(request)
        try:
            jobs = await submit_batch(self.context.services, wanted.jobs, by=by, trace=trace, only_of=view.only_of)
        except errors.InvalidArgumentsError as error:
            raise self._redacted(error) from None
        self._launch(jobs)
        return representation.answer({"items": [view.job(job) for job in jobs]}, 202, representation.RETRY_AFTER)

    async def move_jobs(
        self, request: Request, wanted: Annotated[bodies.BulkBody, Body(openapi_examples=bodies.BULKS)]
    ) -> Response:
        """Cancels, or retries by hand, the jobs of a filter, in batches: each job as if it were named alone.

        `matched` jobs fitted the action when the call began. `changed` of them were moved, or asked to stop where they
        were running, and `remaining` are as they were: beyond the limit, or locked by somebody else.
        """
        action = Action(wanted.action)
        if action is Action.RETRY:
            require_accepting(self.context.accepting)
            if wanted.reason is not None:
                raise errors.InvalidInputError([errors.FieldError("/reason", "only a cancel has a reason")])
        try:
            done = await bulk(
                self.context.services,
                action,
                wanted.filter.filter(),
                by=self._caller_name(request),
                reason=wanted.reason,
                dry_run=wanted.dry_run,
                most=wanted.limit,
            )
        except errors.InvalidInputError as error:
            raise error.under("/filter") from None
        return answer_moved(action, done, dry_run=wanted.dry_run)

    async def list_jobs(self, request: Request, wanted: Annotated[query.Listing, Query()]) -> Response:
        """Jobs, newest first; a filter may be given more than once."""
        query.once(request, query.Listing.model_fields, but=query.REPEATABLE)
        view = self._view(request)
        found = await read_page(self.context.services, wanted.page(only_of=view.only_of))
        following = None if found.following is None else query.write_cursor(found.following)
        items = [view.listed(job, wanted.include) for job in found.jobs]
        link = None if following is None else {"Link": _next(request, following)}
        return representation.answer({"items": items, "next_cursor": following}, headers=link)

    async def get_job(self, request: Request, job_id: UUID) -> Response:
        """One job with all that is known of it. With If-None-Match, 304 while nothing has changed.

        With `Prefer: wait=N` the answer comes when the job has ended, as 200, or after N seconds, as 202.
        """
        view = self._view(request)
        job, status, applied = await read(self.context.services, job_id, only_of=view.only_of), 200, None
        if (seconds := headers.wait_of(request)) is not None:
            job, status, applied = await self._wait(job, seconds)
        answer = _tagged(job, view, status, applied)
        if headers.matches_if_none_match(request, answer.headers["ETag"]):
            kept = {name: answer.headers[name] for name in _WITHOUT_BODY if name in answer.headers}
            return Response(status_code=304, headers=kept)
        return answer

    async def amend_job(
        self, request: Request, job_id: UUID, wanted: Annotated[Amendment, Body(openapi_examples=bodies.AMENDMENTS)]
    ) -> Response:
        """Changes only what is sent. With If-Match, only while the job is as the caller saw it."""
        view = self._view(request)
        job = await amend(
            self.context.services,
            job_id,
            wanted,
            by=self._caller_name(request),
            unchanged=lambda job: headers.matches_if_match(request, _tagged(job, view).headers["ETag"]),
        )
        return _tagged(job, view)

    async def delete_job(
        self, request: Request, job_id: UUID, wanted: Annotated[query.CancelQuery, Query()]
    ) -> Response:
        """The same as cancel: the row stays until its TTL has passed."""
        query.once(request, query.CancelQuery.model_fields)
        return await self._cancel(request, job_id, wanted.reason)

    async def get_transitions(
        self, request: Request, job_id: UUID, wanted: Annotated[query.HistoryQuery, Query()]
    ) -> Response:
        """Every move of a job, also after its row was purged; next_cursor leads on where they are thousands."""
        query.once(request, query.HistoryQuery.model_fields)
        view = self._view(request)
        found = await read_moves(self.context.services, job_id, after=int(wanted.cursor or 0), only_of=view.only_of)
        following = None if found.following is None else str(found.following)
        items = [view.transition(each) for each in found.moves]
        return representation.answer({"items": items, "next_cursor": following})

    async def get_log(self, request: Request, job_id: UUID, wanted: Annotated[query.LogQuery, Query()]) -> Response:
        """What the job said while it ran, oldest first: the last 1,000 lines or 256 KiB of all its attempts."""
        query.once(request, query.LogQuery.model_fields)
        view = self._view(request)
        found = await read_log(self.context.services, job_id, attempt=wanted.attempt, only_of=view.only_of)
        return representation.answer({"items": [view.line(each) for each in found[-wanted.limit :]]})

    async def cancel_job(self, request: Request, job_id: UUID, wanted: bodies.CancelBody | None = None) -> Response:
        """A pending job ends at once. A running one is asked to, and may still succeed: then 202."""
        return await self._cancel(request, job_id, wanted.reason if wanted else None)

    async def retry_job(
        self,
        request: Request,
        job_id: UUID,
        wanted: bodies.RetryBody | None = None,  # noqa: ARG002 - it has nothing to say, and must not seem to
    ) -> Response:
        """A failed or cancelled job goes back to pending, with one more attempt if it had none left."""
        require_accepting(self.context.accepting)
        job = await retry(self.context.services, job_id, by=self._caller_name(request))
        self.context.launch(job.id, job.task, job.queue)
        return _whole(job, self._view(request), 202)

    async def _wait(self, job: Job, seconds: int) -> tuple[Job, int, int | None]:
        """The job as it ended, or as it is after so many seconds; the status; and how long it could be waited for."""
        if not job.status.is_terminal:
            hub = self.context.services.once(Hub)
            if not await hub.wait(job.id, seconds):
                return job, 202, None
            with suppress(errors.JobNotFoundError, errors.UnavailableError):  # then as it was seen last
                job = await read(self.context.services, job.id)
        return job, 200 if job.status.is_terminal else 202, seconds

    async def _cancel(self, request: Request, job_id: UUID, reason: str | None) -> Response:
        services, by = self.context.services, self._caller_name(request)
        async with self._cancelling(request, lambda: read(services, job_id)) as only_of:
            job = await cancel(services, job_id, by=by, reason=reason, only_of=only_of)
        return _whole(job, self._view(request), 200 if job.status is Status.CANCELLED else 202)


def _whole(job: Job, view: View, status: int = 200, waited: int | None = None) -> Response:
    answer = representation.answer(view.job(job), status, representation.polling(job))
    if waited is not None:
        answer.headers["Preference-Applied"] = f"wait={waited}"
    return answer


def _tagged(job: Job, view: View, status: int = 200, waited: int | None = None) -> Response:
    answer = _whole(job, view, status, waited)
    answer.headers["ETag"] = headers.etag_of(bytes(answer.body))
    return answer


def _next(request: Request, following: str) -> str:
    """The same list from the cursor on (RFC 8288)."""
    kept = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    return f'<{links.url(request, links.JOBS)}?{urlencode([*kept, ("cursor", following)])}>; rel="next"'


def rows(context: ApiContext) -> Sequence[Row]:
    calls = JobRoutes(context)
    finds = (errors.JobNotFoundError, errors.InvalidInputError, *OF_DATABASE)
    cancels = (*finds, errors.JobFinishedError)
    asked = [(202, "The job is running: its node was asked to stop it, and it may still succeed.")]
    waited = "The job has ended while the answer waited."
    there = [(200, f"{waited} Or an unfinished job has the unique key: this one, as far as the caller may read it.")]
    unchanged = [(304, "Nothing has changed."), (202, "The job has not ended while the answer waited.")]
    return [
        Row(SUBMIT, "POST", "/jobs", calls.submit_job, 202, schemas.Job, "jobs", "Submit a job",
            (*OF_SUBMIT, errors.IdempotencyKeyReusedError),
            ("Location", "Retry-After", "Idempotency-Replayed", "Preference-Applied"),
            ("Idempotency-Key", "traceparent", "Prefer"), there),
        Row(SUBMIT, "POST", "/jobs/batch", calls.submit_jobs, 202, schemas.SubmittedJobs, "jobs",
            "Submit several jobs, all or none", OF_SUBMIT, ("Retry-After",), ("traceparent",)),
        Row(OPERATE, "POST", "/jobs/bulk", calls.move_jobs, 200, schemas.Bulk, "jobs", "Cancel or retry many jobs",
            (*OF_BODY, *OF_DATABASE)),
        Row(SEE, "GET", "/jobs", calls.list_jobs, 200, schemas.JobList, "jobs", "List jobs",
            (errors.InvalidInputError, *OF_DATABASE), ("Link",)),
        Row(SEE, "GET", "/jobs/{job_id}", calls.get_job, 200, schemas.Job, "jobs", "Read a job", finds,
            ("ETag", "Retry-After", "Preference-Applied"), ("If-None-Match", "Prefer"), unchanged),
        Row(OPERATE, "PATCH", "/jobs/{job_id}", calls.amend_job, 200, schemas.Job, "jobs", "Change a job",
            (*OF_BODY, errors.JobNotFoundError, errors.JobConflictError, errors.PreconditionError, *OF_DATABASE),
            ("ETag", "Retry-After"), ("If-Match",)),
        Row(CANCEL, "DELETE", "/jobs/{job_id}", calls.delete_job, 200, schemas.Job, "jobs",
            "Cancel a job, without a body",
            cancels, ("Retry-After",), (), asked),
        Row(SEE, "GET", "/jobs/{job_id}/transitions", calls.get_transitions, 200, schemas.TransitionList, "jobs",
            "Read the history of a job", finds),
        Row(SEE, "GET", "/jobs/{job_id}/log", calls.get_log, 200, schemas.JobLog, "jobs",
            "Read the log of a job", finds),
        Row(CANCEL, "POST", "/jobs/{job_id}/cancel", calls.cancel_job, 200, schemas.Job, "jobs", "Cancel a job",
            (*OF_BODY, *cancels), ("Retry-After",), (), asked),
        Row(OPERATE, "POST", "/jobs/{job_id}/retry", calls.retry_job, 202, schemas.Job, "jobs", "Retry a job by hand",
            (*OF_BODY, *finds, errors.JobConflictError), ("Retry-After",)),
    ]  # fmt: skip
