"""An empty database for one test, the jobs that were submitted to it, and a way to run them to their end."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Final, ParamSpec, overload

from jobtrail import errors
from jobtrail.db import scratch
from jobtrail.db.engine import open_single
from jobtrail.embed.handle import ended
from jobtrail.embed.opened import Opened, current
from jobtrail.embed.trail import Jobtrail
from jobtrail.jobs.query import Filter, Page, read_page
from jobtrail.jobs.services import Services
from jobtrail.records import Job
from jobtrail.status import Status
from jobtrail.task import storable
from jobtrail.task.task import Task
from jobtrail.testing.database import ScratchDatabase
from jobtrail.wiring import build_node

P = ParamSpec("P")

PATIENCE: Final = 10.0
"""Seconds that jobs have to end."""

_PAUSE: Final = 0.01
"""Seconds between two looks at what is left."""

_LAST_WORDS: Final = 1.0
"""Seconds in which a job that has ended in its row may still leave its thread or process."""

_AT_ONCE: Final = 200

_SETTINGS: Final = {
    "slots": 32,
    "threads": 8,
    "processes": 2,
    "queues": (),
    "poll_every": timedelta(milliseconds=50),
    "purge_every": timedelta(days=1),
}


class Workbench:
    """All but `run_async` may be called in a `def` test and in an `async def` one, while the app runs or after it.

    `tasks`: those known where no Jobtrail runs; None: all that are imported.
    """

    def __init__(self, database: ScratchDatabase, *, tasks: Iterable[Task[..., Any]] | None = None) -> None:
        self.database: Final = database
        self._tasks = None if tasks is None else tuple(tasks)

    def submitted(self, task: Task[..., Any] | None = None) -> list[Job]:
        """The jobs of the task, or all, oldest first, in any status; those that jobs submitted too."""
        wanted = Filter() if task is None else Filter(task=[task.name])
        return self.database.ask(partial(_jobs, wanted=wanted))

    @overload
    def assert_submitted(self, task: Task[..., Any], /) -> Job: ...
    @overload
    def assert_submitted(self, task: Task[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Job: ...
    def assert_submitted(self, task: Task[..., Any], /, *args: Any, **kwargs: Any) -> Job:
        """The newest job of the task with these arguments; without any, the newest one of the task.

        They are compared as JSON, and with the task's defaults for what is left out.
        Raises AssertionError, which lists what was submitted, and InvalidArgumentsError.
        """
        __tracebackhide__ = True
        there = self.submitted()
        found = [job for job in there if job.task == task.name]
        if args or kwargs:
            wanted = _with_defaults(task, task.signature.dump(*args, **kwargs))
            found = [job for job in found if _with_defaults(task, job.args) == wanted]
        if not found:
            call = [*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]
            raise AssertionError(f"no job {task.name}({', '.join(call) or '…'}) was submitted; {_listed(there)}")
        return found[-1]

    def assert_nothing_submitted(self, task: Task[..., Any] | None = None) -> None:
        """No job of the task, or none at all. Raises AssertionError, which lists what was submitted."""
        __tracebackhide__ = True
        if there := self.submitted(task):
            raise AssertionError(_listed(there))

    def run(self, *, within: float = PATIENCE, later: bool = False) -> list[Job]:
        """Run the jobs that are due, and those that they submit, to the end; the jobs that ended, oldest first.

        They run in the loop of the app's Jobtrail, if one is running; else in one of the kit's. Further attempts come
        at once, whatever `Retry` says. Jobs that are due later wait, unless `later`: then all that wait now run too.
        Paused ones stay. A job that fails raises nothing: look at its status, or take `result_of`.
        Raises TimeoutError after `within` seconds, which lists the jobs that have not ended, UnknownTaskError for a job
        that this process cannot run, and SettingsError for an app on another database.
        """
        opened, here = self._opened(), _running_loop()
        if here is not None and (opened is None or opened.loop is here):
            raise RuntimeError("in an async test write `await jobtrail.run_async()`: run() would wait for its own loop")
        if opened is None:
            return self.database.ask(lambda _: self.run_async(within=within, later=later))
        if not opened.loop.is_running():
            raise RuntimeError("the app runs in an event loop that stands still in a `def` test: write an async one")
        work = _run(opened, self.database, within=within, later=later)
        running = asyncio.run_coroutine_threadsafe(work, opened.loop)
        try:
            return running.result(within + PATIENCE)
        except TimeoutError as error:
            if running.done():
                raise
            raise TimeoutError(f"the app's event loop is blocked: no answer within {within + PATIENCE:g} s") from error

    async def run_async(self, *, within: float = PATIENCE, later: bool = False) -> list[Job]:
        """As `run`, for an `async def` test."""
        opened = self._opened()
        if opened is None:
            async with Jobtrail(self.database.settings(), tasks=self._tasks):
                return await _run(current(), self.database, within=within, later=later)
        work = _run(opened, self.database, within=within, later=later)
        if opened.loop is asyncio.get_running_loop():
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, opened.loop))

    def result_of(self, job: Job) -> Any:
        """The result of the task, as JSON.

        Raises JobFailedError, with the traceback of the task as a note, and JobCancelledError.
        """
        __tracebackhide__ = True
        try:
            return self.database.ask(partial(ended, job_id=job.id, seconds=0))
        except errors.JobFailedError as error:
            error.add_note(error.traceback or "")
            raise

    def _opened(self) -> Opened | None:
        """Raises SettingsError for one that is on another database, or runs jobs by itself."""
        opened = _running_app(self.database)
        if opened is not None and opened.node is not None and opened.node.tasks:
            raise errors.SettingsError(
                "this app runs jobs by itself, behind the test's back: leave JOBTRAIL_SLOTS to the fixture, or make "
                "its Jobtrail with `jobtrail.database.settings()`"
            )
        return opened


@contextmanager
def workbench(database: ScratchDatabase, *, tasks: Iterable[Task[..., Any]] | None = None) -> Iterator[Workbench]:
    """For one test: the database is empty at its start, and a `Jobtrail()` that is started meanwhile is on it.

    Raises SettingsError when an app is running already on another database.
    """
    _running_app(database)
    database.empty()
    with database.environment():
        yield Workbench(database, tasks=tasks)


def _running_app(database: ScratchDatabase) -> Opened | None:
    """The Jobtrail that runs in this process, if any. Raises SettingsError when it is on another database."""
    try:
        opened = current()
    except errors.NotRunningError:
        return None
    if not database.is_of(opened):
        raise errors.SettingsError(
            f"the Jobtrail that is running is not on {database.name}: start the app after the fixture (name `jobtrail` "
            "before the fixture that starts it), and let its Jobtrail read the environment, or make it with "
            "`jobtrail.database.settings()`, and an engine from `jobtrail.database.sqlalchemy_url`"
        )
    return opened


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def _run(opened: Opened, database: ScratchDatabase, *, within: float, later: bool) -> list[Job]:
    """As `Workbench.run`, in the loop of `opened`, where the host's engine is at home."""
    services, terminal = opened.services, Filter(status=[status for status in Status if status.is_terminal])
    before = {(job.id, job.seq) for job in await _jobs(services, terminal)}
    async with services.transaction() as session:
        await scratch.hasten(session, await scratch.waiting(session) if later else ())
    if await _unsettled(services):
        await _settle(opened, database, within)
    return [job for job in await _jobs(services, terminal) if (job.id, job.seq) not in before]


async def _jobs(services: Services, wanted: Filter) -> list[Job]:
    """All of them, oldest first."""
    page = await read_page(services, Page(_AT_ONCE, heavy=True, filter=wanted))
    found = list(page.jobs)
    while page.following is not None:
        page = await read_page(services, Page(_AT_ONCE, page.following, heavy=True, filter=wanted))
        found += page.jobs
    return found[::-1]


async def _settle(opened: Opened, database: ScratchDatabase, within: float) -> None:
    """Run a node for as long as there is work: due jobs, those that they submit, and further attempts."""
    services, settings = opened.services, opened.settings.model_copy(update=_SETTINGS)
    connect = partial(open_single, database.sqlalchemy_url, settings.schema)
    node = build_node(settings, services, connect, with_schedules=False)
    node.start()
    grace = 0.0
    try:
        async with asyncio.timeout(within):
            while await _unsettled(services):
                async with services.transaction() as session:
                    if await scratch.hasten(session):
                        node.worker.claim_loop.wake()
                await asyncio.sleep(_PAUSE)
        grace = _LAST_WORDS
    except TimeoutError:
        left = "\n".join(map(_line, await _unsettled(services)))
        raise TimeoutError(f"not everything has ended within {within:g} s:\n{left}") from None
    finally:
        await node.stop(grace)


async def _unsettled(services: Services) -> Sequence[scratch.Unsettled]:
    """Raises UnknownTaskError for a job that this process could not run."""
    async with services.session() as session:
        left = await scratch.unsettled(session)
    for each in left:
        try:
            _ = services.catalog[each.task]
        except errors.UnknownTaskError as error:
            error.add_note(f"job {each.id} is of that task: import its module, or name it in Jobtrail(tasks=[…])")
            raise
    return left


def _line(job: scratch.Unsettled) -> str:
    where = f"attempt {job.attempt}" if job.status == Status.RUNNING else f"queue {job.queue!r}"
    return f"  job {job.id} of {job.task!r} has been {job.status} for {job.age.total_seconds():.1f} s, in {where}"


def _with_defaults(task: Task[..., Any], args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with the default for each one that was left out: the task cannot tell the one from the other."""
    left_out = [each for each in task.signature.parameters.values() if not each.required and each.name not in args]
    return {**args, **{each.name: each.store(each.default) for each in left_out}}


def _listed(jobs: Iterable[Job]) -> str:
    lines = [f"  {job.task} {storable.dump(job.args)}" for job in jobs]
    return "\n".join(["what was submitted:", *lines]) if lines else "nothing was submitted"
