"""The one path from a typed call of a task to a stored job."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from jobtrail import errors, ranges, tracing
from jobtrail.embed.handle import BatchHandle, JobHandle
from jobtrail.embed.opened import Opened
from jobtrail.ids import Trace, new_job_id
from jobtrail.jobs.host_session import AnySession, JobRow, add
from jobtrail.jobs.services import require_accepting, require_rights
from jobtrail.jobs.submit import app_keyed, prepare, store
from jobtrail.ops.batches import NewBatch, store_batches
from jobtrail.records import NewJob
from jobtrail.task.arguments import name_of
from jobtrail.task.submission import JobOptions, submission_of
from jobtrail.task.task import Task

_NO_BATCH: Final = (
    f"a batch takes 1 to {ranges.MAX_BATCHED} jobs that were added in this request: each in one batch, not stored yet, "
    "without session=, idempotency_key= and unique_key=; on_done is another one of them"
)


class Options(JobOptions, total=False):
    """The options of a job besides its arguments. `after`: jobs that must succeed before it starts, by their handles or
    ids. `session`: the caller's own, which stores the job when it commits.
    """

    after: "Sequence[JobHandle[Any] | UUID | str]"
    session: AnySession


class InSession(NamedTuple):
    """A job that a session of the caller's stores, with the row that it inserts when it flushes."""

    job: NewJob
    row: JobRow


class AddedJobs:
    """Jobs that are added one by one, stored together, then launched. Those with a session are stored by that."""

    def __init__(self, opened: Opened) -> None:
        self.in_sessions: Final[list[InSession]] = []
        self._opened = opened
        self._waiting: list[tuple[NewJob, JobHandle[Any]]] = []
        self._stored: list[NewJob] = []
        self._batches: list[NewBatch] = []

    def add(
        self, options: Options, task: object, args: Sequence[object], kwargs: Mapping[str, object],
        *, by: str, trace: Trace | None = None,
    ) -> JobHandle[Any]:  # fmt: skip
        """Raises TypeError for anything but a task of this process, InvalidArgumentsError, and InvalidInputError for
        options out of range.
        """
        services, known = self._opened.services, self._known(task)
        fields: dict[str, Any] = {**options}
        session, key = fields.pop("session", None), fields.pop("idempotency_key", None)
        _check(session, key)
        if (parents := fields.get("after")) is not None:
            fields["after"] = _ids_of(parents, is_in_session=session is not None)
        args_json = known.signature.dump(*args, **kwargs)
        if session is not None and known.on_full != "wait":
            raise TypeError(
                f"on_full={known.on_full!r} of {known!r} and session= do not go together: every claim of its keys "
                "would wait for your transaction; submit it after your commit"
            )
        job = prepare(services, submission_of(known.name, args_json, fields), by=by, trace=tracing.current(trace))
        if key is not None:
            job = app_keyed(job, key)
        if session is not None and job.unique_key is not None:
            raise TypeError(
                f"the unique key {job.unique_key!r} and session= do not go together: others with the key would wait "
                "for your transaction, and one that is taken would have to undo it; submit it after your commit"
            )
        handle = JobHandle[Any](known, job, self._opened.still, is_in_session=session is not None)
        if session is None:
            self._waiting.append((job, handle))
        else:
            self.in_sessions.append(InSession(job, add(session, job, services.database.schema)))
        return handle

    def count(self, jobs: Sequence[JobHandle[Any]], on_done: JobHandle[Any] | None) -> BatchHandle:
        """Raises TypeError for jobs that do not wait here, or cannot be in a batch."""
        free = {handle: job for job, handle in self._waiting if job.key is None and job.batch_id is None}
        wanted = [*jobs] if on_done is None else [*jobs, on_done]
        if not 1 <= len(jobs) <= ranges.MAX_BATCHED or len({*wanted}) < len(wanted) or not free.keys() >= {*wanted}:
            raise TypeError(_NO_BATCH)
        last = None if on_done is None else free[on_done]
        new = NewBatch(new_job_id(), len(jobs), free[jobs[0]].created_by, last)
        members = {*jobs}
        self._waiting = [
            (replace(job, batch_id=new.id) if handle in members else job, handle)
            for job, handle in self._waiting
            if handle is not on_done
        ]
        self._batches.append(new)
        return BatchHandle(new.id, self._opened.still)

    async def store(self, *, unless_draining: bool = False) -> None:
        """Store what waits; committed when this returns. Raises as `submit`, and then nothing waits any more;
        UnavailableError too, `unless_draining`, where the process shuts down.
        """
        waiting, self._waiting = self._waiting, []
        batches, self._batches = self._batches, []
        if not waiting:
            return
        if unless_draining:
            require_accepting(self._opened.accepting)
        services = self._opened.services
        beside = partial(store_batches, services=services, new=batches) if batches else None
        with services.admission.admit(len(waiting)):
            await require_rights(services)
            stored = await store(services, [("", job) for job, _ in waiting], beside=beside)
        for job, handle in waiting:
            found = stored[job.id]
            handle.became(found if isinstance(found, UUID) else job.id)
            if not isinstance(found, UUID) and is_due(job):
                self._stored.append(job)

    def launch(self) -> None:
        """Hand what was stored to the node of this process; again, it does nothing."""
        while self._stored:
            job = self._stored.pop(0)
            self._opened.launch(job.id, job.task, job.queue)

    def _known(self, thing: object) -> Task[..., Any]:
        task = task_of(thing)
        try:
            known = self._opened.services.catalog[task.name]
        except errors.UnknownTaskError:
            raise TypeError(
                f"{task!r} was not known when Jobtrail started: import its module before, name the module in "
                "JOBTRAIL_TASKS, or name the task in Jobtrail(tasks=[…])"
            ) from None
        if known is not task and known.written != task.written:
            raise TypeError(f"{task!r} is another task than the one of that name that Jobtrail knows: {known!r}")
        return known


def is_due(job: NewJob) -> bool:
    """Whether it is worth a launch: the caller's own clock decides, and the poll finds what it misjudged."""
    return not job.after and (job.run_at is None or job.run_at <= datetime.now(UTC))


def task_of(thing: object) -> Task[..., Any]:
    """Raises TypeError for anything but a task."""
    if isinstance(thing, Task):
        return thing
    raise TypeError(f"{name_of(thing)} is not a task: write @task above it, with `from jobtrail import task`")


def _check(session: object, key: object) -> None:
    if session is not None and not isinstance(session, Session | AsyncSession | scoped_session | async_scoped_session):
        raise TypeError(f"session={session!r:.100}: it takes a Session or an AsyncSession of SQLAlchemy")
    if session is not None and key is not None:
        raise TypeError(
            "idempotency_key= and session= do not go together: a key that is there already would have to undo your "
            "transaction; make a row of your own unique instead"
        )
    if key is not None and not (isinstance(key, str) and 1 <= len(key) <= ranges.MAX_KEY and key.isprintable()):
        raise errors.InvalidInputError(
            [errors.FieldError("/idempotency_key", f"a key is a text of 1 to {ranges.MAX_KEY} printable characters")]
        )


def _ids_of(jobs: object, *, is_in_session: bool) -> list[object]:
    if is_in_session:
        raise TypeError(
            "after= and session= do not go together: whether the others are there is known once all are committed; "
            "add this job without session="
        )
    if isinstance(jobs, JobHandle | str) or not isinstance(jobs, Iterable):
        raise TypeError(f"after={jobs!r:.100}: it takes several jobs, as in after=[job]")
    return [each.id if isinstance(each, JobHandle) else each for each in jobs]
