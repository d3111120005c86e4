"""All attempts of a node: starts them, tells them to end, and offers their outcomes until the database decides."""

import asyncio
import contextvars
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextvars import Context
from typing import Any, Final
from uuid import UUID

from jobtrail.db.group_commit import MOST_ROWS, recorded
from jobtrail.jobs.fence import AttemptRef
from jobtrail.jobs.finish import OutcomeRecord, Recorded, released
from jobtrail.jobs.renew import RunningAttempt
from jobtrail.jobs.services import Services
from jobtrail.records import AttemptEnd, Claimed, Failure
from jobtrail.status import Status
from jobtrail.task.context import TASK_LOGGER
from jobtrail.task.outcome import Cancelled, Failed, Outcome, Released, Retried, Succeeded, exception_of
from jobtrail.task.task import RunsIn
from jobtrail.worker.attempt import Attempt
from jobtrail.worker.followers import Followers
from jobtrail.worker.runtime import RunnerDeps

log = logging.getLogger(__name__)
of_tasks = logging.getLogger(TASK_LOGGER)

Hook = Callable[[AttemptEnd], Awaitable[object] | object]
"""A `def` is called on the event loop; what it returns is awaited if it can be."""

_FOREVER: Final = float("inf")

_BEHIND: Final = 2 * MOST_ROWS
"""Outcomes that wait: a group that is on its way, and the next. More of them only where the database refuses."""

_LAST_WORDS: Final = 5.0
"""Seconds that a stopping node waits for its outcomes to be recorded, should the database be away."""

_LOOK: Final = 0.1
"""Seconds between two looks of a stopping node: a second signal may have shortened the grace."""


class Attempts:
    """`free` is called when a slot is free again: when the task has ended, also one that was left behind; `caught_up`
    when it is no longer behind; `limited_ended` when the end of a job that has limits is recorded.
    """

    def __init__(
        self,
        services: Services,
        deps: RunnerDeps,
        *,
        free: Callable[[RunsIn], None],
        caught_up: Callable[[], None],
        limited_ended: Callable[[UUID], None],
        followers: Followers,
        hook: Hook | None = None,
    ) -> None:
        self._catalog = services.catalog
        self._meters = services.meters.tasks
        self._deps = deps
        self._free = free
        self._caught_up = caught_up
        self._limited_ended = limited_ended
        self._followers = followers
        self._hook = hook
        self._by_id: dict[UUID, Attempt] = {}
        self._all: set[Attempt] = set()
        self._ended: set[Attempt] = set()
        self._abandoned: set[Attempt] = set()
        self._open: dict[AttemptRef, OutcomeRecord] = {}
        self._kept: set[asyncio.Future[Any]] = set()
        self._idle = asyncio.Event()
        self._guard: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self._until = _FOREVER
        self.is_closing = False
        self.stale_ends = 0

    def start(self) -> None:
        self._guard = asyncio.create_task(self._end_with_the_loop(), name="jobtrail-guard")

    @property
    def left_behind(self) -> int:
        """Tasks that did not end when told to, and still take a slot."""
        return len(self._abandoned)

    @property
    def is_behind(self) -> bool:
        """Whether so many outcomes wait to be recorded that nothing more should be claimed."""
        return len(self._ended) >= _BEHIND

    @property
    def unfinished(self) -> int:
        """Attempts whose outcome is not recorded, or that are not given back yet."""
        return len(self._all) + len(self._open)

    def knows(self, ref: AttemptRef) -> bool:
        """Whether it was begun or is given back here: a claim that is not known is one whose answer was lost."""
        return ref.id in self._by_id or ref in self._open

    def held(self) -> Sequence[AttemptRef]:
        """Callable from any thread."""
        return [each.ref for each in list(self._by_id.values())]

    def task_of(self, job_id: UUID) -> str | None:
        """Callable from any thread."""
        attempt = self._by_id.get(job_id)
        return None if attempt is None else attempt.claimed.task

    def begin(self, claimed: Claimed) -> None:
        """Run it. Its slot is taken already."""
        older = self._by_id.get(claimed.id)
        attempt = Attempt(claimed, self._catalog[claimed.task], self._deps, self)
        self._meters[claimed.task].start(claimed.waited)
        self._by_id[claimed.id] = attempt
        self._all.add(attempt)
        self._idle.clear()
        attempt.start()
        if older is not None:
            older.lose()  # its job was taken away, and came back here before a beat noticed

    def keep(self, coroutine: Coroutine[Any, Any, None], context: Context | None = None) -> None:
        """Run it as a part of what `stop` waits for, without the context variables of whoever asks: a job that another
        node runs would not have them either.
        """
        self.wait_for(asyncio.create_task(coroutine, context=context or self._deps.context.copy()))

    def wait_for(self, future: "asyncio.Future[Any]") -> None:
        """Let `stop` wait for it too."""
        self._kept.add(future)
        self._idle.clear()
        future.add_done_callback(self._drop)

    def _drop(self, future: "asyncio.Future[Any]") -> None:
        self._kept.discard(future)
        self._look()

    def _look(self) -> None:
        if not (self._all or self._kept):
            self._idle.set()

    def obey(self, running: Sequence[RunningAttempt]) -> None:
        """Tell those to end whose cancel was requested."""
        for each in running:
            attempt = self._by_id.get(each.id) if each.cancel_requested else None
            if attempt is not None and attempt.claimed.attempt == each.attempt:
                attempt.cancel()

    def lose(self, ref: AttemptRef) -> None:
        """The database says that this attempt is no longer ours: it is stopped."""
        attempt = self._by_id.get(ref.id)
        if attempt is not None and attempt.ref == ref:
            attempt.lose()

    async def give_back(self, ref: AttemptRef) -> None:
        """An attempt that never began here is given back unused."""
        await recorded(self._record(released(ref)))

    async def _record(self, outcome: OutcomeRecord) -> None:
        ref = AttemptRef(outcome.id, outcome.attempt)
        self._open[ref] = outcome
        await self._deps.recorder.finish(outcome)
        self._open.pop(ref, None)

    # An attempt tells.

    def abandoned(self, attempt: Attempt) -> None:
        self._abandoned.add(attempt)

    def freed(self, attempt: Attempt) -> None:
        self._abandoned.discard(attempt)
        if attempt in self._all:
            self._ended.add(attempt)
        self._free(attempt.task.runs_in)

    def recorded(self, attempt: Attempt, found: Recorded, outcome: Outcome) -> None:
        is_stale = found is Recorded.STALE  # that was logged where it was found
        self.stale_ends += is_stale
        status = Status.CANCELLED if found is Recorded.CANCELLED else _STATUSES[type(outcome)]
        if not is_stale:
            self._meters[attempt.claimed.task].end(status, attempt.seconds)
        is_over = found is Recorded.CANCELLED or (not is_stale and not isinstance(outcome, Retried | Released))
        if is_over:
            self._followers.note(attempt.ref.id)
            if any(each.is_set() for each in self._followers.signs):
                self.keep(self._followers.release(attempt.ref.id))
        if self._hook is not None and not is_stale:
            self.keep(_call(self._hook, _end_of(attempt, status, outcome)), contextvars.copy_context())
        self.gone(attempt, is_recorded=True)
        if not is_stale:
            _tell(attempt, outcome)  # last: a host's own filters and handlers may raise

    def gone(self, attempt: Attempt, *, is_recorded: bool) -> None:
        if not is_recorded:
            self._open[attempt.ref] = attempt.record or attempt.lost()
        if attempt.span is not None:
            attempt.span.end(attempt.seconds)
        self._all.discard(attempt)
        was_behind = self.is_behind
        self._ended.discard(attempt)
        if was_behind and not self.is_behind:
            self._caught_up()
        if self._by_id.get(attempt.ref.id) is attempt:
            del self._by_id[attempt.ref.id]
        if attempt.claimed.is_limited:
            self._limited_ended(attempt.ref.id)
        self._look()

    # The end.

    def limit(self, grace: float) -> None:
        """Give what runs `grace` seconds from now, or an earlier limit. Callable from a signal handler."""
        self._until = min(self._until, time.monotonic() + grace)

    async def stop(self) -> bool:
        """Wait for what runs until its limit, then tell it to end, and wait until every outcome is recorded.

        Whether they are: a database that stays away keeps nobody from stopping.
        """
        patience = self._deps.grace + _LAST_WORDS
        while (self._all or self._kept) and (now := time.monotonic()) < self._until + patience:
            if now >= self._until:
                self._interrupt()
            await self._until_idle(min(_LOOK, self._until - now) if now < self._until else _LOOK)
        self._over.set()
        return not self._all

    async def give_up(self, said: Sequence[RunningAttempt]) -> None:
        """Nothing runs here any more. What the database still says that this node runs is ended: as it was offered
        before, or unused if its claim was never answered.
        """
        left = [AttemptRef(each.id, each.attempt) for each in said]
        self._open = {ref: record for ref, record in self._open.items() if ref in left}
        await asyncio.gather(*(self._record(self._open.get(each) or released(each)) for each in left))

    async def _end_with_the_loop(self) -> None:
        """A loop that is closed cancels all that is on it: a server that was told to hurry does so, without the end of
        its lifespan. It waits for this, which ends what runs as a node does that stops.
        """
        try:
            await self._over.wait()
        except asyncio.CancelledError:
            self.is_closing = True
            self._interrupt()
            await self._until_idle(self._deps.grace + _LAST_WORDS)
            for attempt in self._all:
                log.warning(
                    "the outcome of job %s could not be recorded; another node rescues it when its lease expires",
                    attempt.ref.id,
                )
            raise

    def _interrupt(self) -> None:
        for attempt in list(self._all):
            attempt.interrupt()

    async def _until_idle(self, seconds: float) -> None:
        self._look()
        if self._all or self._kept:
            self._idle.clear()
        waiting = asyncio.ensure_future(self._idle.wait())
        await asyncio.wait({waiting}, timeout=seconds)
        waiting.cancel()


def _tell(attempt: Attempt, outcome: Outcome) -> None:
    """Log a recorded outcome. In a host the line may be shown without any field, so it says by itself what it is about.

    A failure goes with its exception to the logger of tasks, as ERROR when it is final and WARNING when another attempt
    follows: error trackers that listen to logging have it from there. Successes are DEBUG: the history has them all.
    """
    of = attempt.claimed.task, attempt.ref.attempt, attempt.ref.id
    facts: dict[str, object] = {"seconds": round(attempt.seconds, 3)}
    match outcome:
        case Succeeded():
            if log.isEnabledFor(logging.DEBUG):
                log.debug("%s: attempt %d of job %s succeeded", *of, extra=facts)
        case Released(why):
            log.info("%s: attempt %d of job %s %s", *of, why, extra=facts)
        case Cancelled(failure):
            told = failure.type, failure.message
            log.warning("%s: attempt %d of job %s was cancelled: %s: %s", *of, *told, extra=facts)
        case Failed(failure):
            _tell_failure(logging.ERROR, "%s: attempt %d of job %s failed: %s: %s", of, failure, facts)
        case Retried(failure):
            _tell_failure(logging.WARNING, _ANOTHER, of, failure, facts)


def _tell_failure(
    level: int, words: str, of: tuple[object, ...], failure: Failure, facts: Mapping[str, object]
) -> None:
    """An exception is shown by its own `__str__`, which may do anything, SystemExit included."""
    told = failure.type, failure.message
    try:
        of_tasks.log(level, words, *of, *told, extra=facts, exc_info=exception_of(failure))
    except BaseException:  # noqa: BLE001 - nothing is awaited here: it is the exception's own doing, or a handler's
        of_tasks.log(level, words, *of, *told, extra=facts)


_ANOTHER: Final = "%s: attempt %d of job %s failed, another one follows: %s: %s"


def _end_of(attempt: Attempt, status: Status, outcome: Outcome) -> AttemptEnd:
    claimed = attempt.claimed
    failure = None if isinstance(outcome, Succeeded | Released) else outcome.failure
    return AttemptEnd(
        job_id=claimed.id,
        task=claimed.task,
        attempt=claimed.attempt,
        trace_id=claimed.trace_id,
        status=status,
        error=None if failure is None else failure.as_json(),
        exception=None if failure is None else exception_of(failure),
        seconds=attempt.seconds,
    )


_STATUSES: Final[Mapping[type[Outcome], Status]] = {
    Succeeded: Status.SUCCEEDED,
    Failed: Status.FAILED,
    Cancelled: Status.CANCELLED,
    Retried: Status.PENDING,
    Released: Status.PENDING,
}


async def _call(hook: Hook, end: AttemptEnd) -> None:
    """In the context of the job. Whatever it raises is logged: the end of the attempt stands."""
    try:
        result = hook(end)
        if inspect.isawaitable(result):
            await result
    except (Exception, SystemExit):
        log.exception("on_attempt_end raised after attempt %d of job %s", end.attempt, end.job_id)
