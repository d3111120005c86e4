"""Base of calls about one noun: the caller of each request, what it may see, and what it may cancel."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from jobtrail import errors
from jobtrail.api.context import ApiContext
from jobtrail.api.representation import View, answer
from jobtrail.jobs.bulk import Action, Bulk
from jobtrail.records import Job


@dataclass(frozen=True)
class Calls:
    """Calls about jobs, batches, schedules or events."""

    context: ApiContext

    def _caller_name(self, request: Request) -> str:
        return self.context.access.caller(request).name

    def _view(self, request: Request) -> View:
        return View.of(self.context, self.context.access.caller(request))

    def _redacted(self, error: errors.InvalidArgumentsError) -> errors.InvalidArgumentsError:
        return errors.InvalidArgumentsError(self.context.redaction.of_flaws(error.flaws))

    def _launch(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            if not job.is_for_later:
                self.context.launch(job.id, job.task, job.queue)

    @asynccontextmanager
    async def _cancelling(self, request: Request, read: Callable[[], Awaitable[object]]) -> AsyncIterator[str | None]:
        """Gives whose jobs the caller may cancel, None for all. Those of another are forbidden to a caller that sees
        them, and not found by others; `read` raises where there are none.
        """
        caller = self.context.access.caller(request)
        only_of = None if caller.operates else caller.name
        try:
            yield only_of
        except (errors.JobNotFoundError, errors.BatchNotFoundError):
            if only_of is None or not caller.sees_all:
                raise
            await read()
            raise errors.ForbiddenError(caller.name, ("operate",)) from None


def answer_moved(action: Action, done: Bulk, *, dry_run: bool = False) -> Response:
    counts = {"matched": done.matched, "changed": done.changed, "remaining": done.remaining}
    return answer({"action": action, "dry_run": dry_run, **counts})
