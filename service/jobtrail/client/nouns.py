"""The calls about batches, schedules and stats, each once, as coroutines on whatever connection they are given."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from urllib.parse import quote
from uuid import UUID

from jobtrail.client import parsing
from jobtrail.client.connection import Calls
from jobtrail.client.jobs import Id, JobCalls, said_of, text_of
from jobtrail.client.parsing import Moved, job_of, parsed
from jobtrail.records import Batch, Job, Stats
from jobtrail.task.schedule import Backfill, Detail, Schedule, ScheduleSpec
from jobtrail.task.submission import Submission


class BatchCalls(Calls):
    """/batches and what lies below."""

    async def submit_batch(self, jobs: Sequence[Submission], on_done: Submission | None = None) -> Batch:
        """Store the jobs together, or none; `on_done` is submitted once all of them have ended. Raises as `submit`."""
        said = {"jobs": [said_of(each) for each in jobs], **({} if on_done is None else {"on_done": said_of(on_done)})}
        return parsed(await self._connection.call("POST", "/batches", said), partial(parsing.read, Batch))

    async def get_batch(self, batch_id: Id) -> Batch:
        """Its numbers as they are now. Raises BatchNotFoundError, UnavailableError."""
        return parsed(await self._connection.call("GET", _batch(batch_id)), partial(parsing.read, Batch))

    async def cancel_batch(self, batch_id: Id, *, reason: str | None = None) -> Moved:
        """Cancel its jobs that have not ended. Raises BatchNotFoundError, ForbiddenError, UnavailableError."""
        body = {} if reason is None else {"reason": reason}
        answer = await self._connection.call("POST", _batch(batch_id, "cancel"), body, may_repeat=True)
        return parsed(answer, partial(parsing.read, Moved))

    async def retry_batch(self, batch_id: Id) -> Moved:
        """Retry its failed and cancelled jobs. Raises BatchNotFoundError, UnavailableError."""
        return parsed(await self._connection.call("POST", _batch(batch_id, "retry"), {}), partial(parsing.read, Moved))


class ScheduleCalls(Calls):
    """/schedules and what lies below."""

    async def list_schedules(self) -> Sequence[Schedule]:
        """By name. Raises UnavailableError."""
        return await self._connection.pages("/schedules", parsing.schedule_of)

    async def get_schedule(self, name: str) -> Detail:
        """With its next times and its last jobs. Raises ScheduleNotFoundError, UnavailableError."""
        return parsed(await self._connection.call("GET", _schedule(name)), parsing.detail_of)

    async def put_schedule(self, name: str, spec: ScheduleSpec) -> Schedule:
        """Make it, or replace it as a whole.

        Raises InvalidInputError, UnknownTaskError, InvalidArgumentsError, UnavailableError.
        """
        return parsed(await self._connection.call("PUT", _schedule(name), said_of(spec)), parsing.schedule_of)

    async def delete_schedule(self, name: str) -> None:
        """Raises ScheduleNotFoundError, UnavailableError."""
        await self._connection.call("DELETE", _schedule(name))

    async def pause_schedule(self, name: str, *, reason: str | None = None) -> Schedule:
        """Raises ScheduleNotFoundError, UnavailableError."""
        body = {} if reason is None else {"reason": reason}
        answer = await self._connection.call("POST", _schedule(name, "pause"), body, may_repeat=True)
        return parsed(answer, parsing.schedule_of)

    async def resume_schedule(self, name: str) -> Schedule:
        """Raises ScheduleNotFoundError, UnavailableError."""
        answer = await self._connection.call("POST", _schedule(name, "resume"), {}, may_repeat=True)
        return parsed(answer, parsing.schedule_of)

    async def run_schedule(self, name: str) -> Job:
        """A job of it now. Raises ScheduleNotFoundError, ScheduleBusyError, UnavailableError."""
        return parsed(await self._connection.call("POST", _schedule(name, "run"), {}), job_of)

    async def backfill_schedule(
        self, name: str, since: datetime, until: datetime, *, dry_run: bool = False
    ) -> Backfill:
        """A job for each due time from `since` on and before `until`, as one batch; or only tell the due times.

        Raises ScheduleNotFoundError, InvalidInputError, UnavailableError.
        """
        said = {"from": text_of(since), "until": text_of(until), "dry_run": dry_run}
        answer = await self._connection.call("POST", _schedule(name, "backfill"), said, may_repeat=dry_run)
        return parsed(answer, partial(parsing.read, Backfill))


class StatsCalls(Calls):
    """/stats."""

    async def stats(self) -> Stats:
        """How much waits, runs and ended in the last hour; at most a second old. Raises UnavailableError."""
        return parsed(await self._connection.call("GET", "/stats"), partial(parsing.read, Stats))


class AllCalls(JobCalls, BatchCalls, ScheduleCalls, StatsCalls):
    """Everything that the client can ask for."""


def _batch(batch_id: Id, call: str = "") -> str:
    """Raises ValueError for what is no id."""
    return f"/batches/{UUID(str(batch_id))}" + (f"/{call}" if call else "")


def _schedule(name: str, call: str = "") -> str:
    return f"/schedules/{quote(name, safe='')}" + (f"/{call}" if call else "")
