"""Taking jobs in. What was answered 202 is committed; the node of this process hears of it after the answer."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Final

from fastapi import BackgroundTasks, Body
from starlette.requests import Request
from starlette.responses import Response

from jobtrail.api import representation
from jobtrail.api.context import ApiContext
from jobtrail.api.examples import BATCHES, SUBMISSIONS
from jobtrail.api.headers import idempotency_key_of, refuse_idempotency_key, trace_of
from jobtrail.api.links import JobLinks
from jobtrail.api.representation import View
from jobtrail.api.schemas import Batch
from jobtrail.errors import InvalidArgumentsError, UnavailableError
from jobtrail.jobs.submit import submit, submit_batch, submit_keyed
from jobtrail.records import Job
from jobtrail.task.submission import Submission


async def launch(context: ApiContext, jobs: Sequence[Job]) -> None:
    """The one background task of an answer. Async, since a plain function would be called in a thread."""
    for job in jobs:
        context.launch(job.id, job.task, job.queue)


def refuse_while_closing(context: ApiContext) -> None:
    if not context.accepting():
        raise UnavailableError("this process is shutting down; send it again, to another or to the next one")


@dataclass(frozen=True)
class SubmissionRoutes:
    """POST /jobs and /jobs/batch."""

    context: ApiContext
    links: JobLinks = field(default_factory=JobLinks)

    async def submit_job(
        self,
        request: Request,
        wanted: Annotated[Submission, Body(openapi_examples=SUBMISSIONS)],
        background: BackgroundTasks,
    ) -> Response:
        """Stores a job and answers with it. It is committed before the answer leaves.

        With the same Idempotency-Key and the same body the first job is the answer again.
        """
        refuse_while_closing(self.context)
        key, trace_id, caller = idempotency_key_of(request), trace_of(request), self.context.access.caller(request).name
        replayed = False
        with self._telling_no_secrets():
            if key is None:
                job = await submit(self.context.services, wanted, by=caller, trace_id=trace_id)
            else:
                job, replayed = await submit_keyed(self.context.services, wanted, by=caller, key=key, trace_id=trace_id)
        if not replayed:
            background.add_task(launch, self.context, (job,))
        headers = {
            **self.links.location(request, job.id),
            "X-Trace-Id": trace_id or job.trace_id,
            **representation.polling(job),
            **(_REPLAYED if replayed else {}),
        }
        return representation.answer(representation.of_job(job, View.of(self.context, request)), 202, headers)

    async def submit_jobs(
        self,
        request: Request,
        wanted: Annotated[Batch, Body(openapi_examples=BATCHES)],
        background: BackgroundTasks,
    ) -> Response:
        """Stores all of the jobs or none."""
        refuse_while_closing(self.context)
        refuse_idempotency_key(request)
        caller = self.context.access.caller(request).name
        with self._telling_no_secrets():
            jobs = await submit_batch(self.context.services, wanted.jobs, by=caller, trace_id=trace_of(request))
        background.add_task(launch, self.context, jobs)
        view = View.of(self.context, request)
        items = [representation.of_job(job, view) for job in jobs]
        return representation.answer({"items": items}, 202, representation.RETRY_AFTER)

    @contextmanager
    def _telling_no_secrets(self) -> Iterator[None]:
        try:
            yield
        except InvalidArgumentsError as error:
            raise InvalidArgumentsError(self.context.redaction.of_flaws(error.flaws)) from None


_REPLAYED: Final = {"Idempotency-Replayed": "true"}
