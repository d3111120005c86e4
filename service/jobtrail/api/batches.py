"""The calls about batches: jobs that are submitted and counted together, with a job for when all have ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final
from uuid import UUID

from fastapi import Body
from pydantic import ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from jobtrail import errors, tracing
from jobtrail.api import bodies, headers, links, schemas
from jobtrail.api.calls import Calls, answer_moved
from jobtrail.api.context import ApiContext
from jobtrail.api.openapi import OF_BODY, OF_DATABASE, OF_SUBMIT
from jobtrail.api.representation import RETRY_AFTER, answer
from jobtrail.api.route import CANCEL, OPERATE, SEE, SUBMIT, Row
from jobtrail.jobs.bulk import Action
from jobtrail.jobs.services import require_accepting
from jobtrail.ops import batches
from jobtrail.ranges import MAX_BATCHED
from jobtrail.records import Batch
from jobtrail.task.submission import Documented, Submission

BatchState: Final = schemas.of_record(Batch, "BatchState")


class BatchBody(Documented):
    """Jobs that are stored together or not at all, and one that is submitted once all of them have ended."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    jobs: Annotated[list[Submission], Field(min_length=1, max_length=MAX_BATCHED)]
    on_done: Annotated[
        Submission | None, Field(description="Submitted once, whatever became of the jobs; not again after retries.")
    ] = None


_JOB: Final = {"task": "send_email", "args": {"to": "ann@example.org"}}
_BATCHES: Final[schemas.Examples] = {
    "two": {"summary": "Two jobs, and one at their end", "value": {"jobs": [_JOB, _JOB], "on_done": _JOB}}
}


@dataclass(frozen=True)
class BatchRoutes(Calls):
    """/batches and what lies below."""

    async def submit_batch(
        self, request: Request, wanted: Annotated[BatchBody, Body(openapi_examples=_BATCHES)]
    ) -> Response:
        """Stores all of the jobs or none. `on_done` is submitted once, right after all of them have ended; jobs that
        are retried by hand later do not bring it again.
        """
        require_accepting(self.context.accepting)
        headers.refuse_idempotency_key(request)
        try:
            batch, jobs = await batches.submit_batch(
                self.context.services,
                wanted.jobs,
                wanted.on_done,
                by=self._caller_name(request),
                trace=tracing.current(headers.trace_of(request)),
                only_of=self._view(request).only_of,
            )
        except errors.InvalidArgumentsError as error:
            raise self._redacted(error) from None
        self._launch(jobs)
        response = answer(batch, 202, RETRY_AFTER)
        if (location := links.url(request, links.BATCH, batch_id=str(batch.id))) is not None:
            response.headers["Location"] = location
        return response

    async def get_batch(self, request: Request, batch_id: UUID) -> Response:
        """Its jobs by status, and how far it is. The jobs themselves: `GET /jobs?batch_id=`."""
        found = await batches.read(self.context.services, batch_id, only_of=self._view(request).only_of)
        return answer(found, headers=None if found.done_at else RETRY_AFTER)

    async def cancel_batch(self, request: Request, batch_id: UUID, wanted: bodies.CancelBody | None = None) -> Response:
        """Cancels the jobs of a batch that have not ended, each as if it were named alone."""
        reason = wanted.reason if wanted else None
        async with self._cancelling(request, lambda: batches.read(self.context.services, batch_id)) as only_of:
            return await self._move(request, batch_id, Action.CANCEL, reason=reason, only_of=only_of)

    async def retry_batch(
        self,
        request: Request,
        batch_id: UUID,
        wanted: bodies.RetryBody | None = None,  # noqa: ARG002 - as of a job
    ) -> Response:
        """Retries the jobs of a batch that failed or were cancelled, each as if it were named alone."""
        require_accepting(self.context.accepting)
        return await self._move(request, batch_id, Action.RETRY)

    async def _move(
        self, request: Request, batch_id: UUID, action: Action, *, reason: str | None = None, only_of: str | None = None
    ) -> Response:
        done = await batches.move(
            self.context.services, batch_id, action, by=self._caller_name(request), reason=reason, only_of=only_of
        )
        return answer_moved(action, done)


def rows(context: ApiContext) -> Sequence[Row]:
    calls = BatchRoutes(context)
    finds = (errors.BatchNotFoundError, errors.InvalidInputError, *OF_DATABASE)
    return [
        Row(SUBMIT, "POST", "/batches", calls.submit_batch, 202, BatchState, "batches", "Submit a batch", OF_SUBMIT,
            ("Location", "Retry-After"), ("traceparent",)),
        Row(SEE, "GET", links.BATCH, calls.get_batch, 200, BatchState, "batches", "Read a batch", finds,
            ("Retry-After",)),
        Row(CANCEL, "POST", "/batches/{batch_id}/cancel", calls.cancel_batch, 200, schemas.Bulk, "batches",
            "Cancel the jobs of a batch", (*OF_BODY, *finds)),
        Row(OPERATE, "POST", "/batches/{batch_id}/retry", calls.retry_batch, 200, schemas.Bulk, "batches",
            "Retry the jobs of a batch", (*OF_BODY, *finds)),
    ]  # fmt: skip
