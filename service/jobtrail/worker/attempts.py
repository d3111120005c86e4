"""The attempts that a node holds: each from its claim to its recorded end."""

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final
from uuid import UUID

from jobtrail.db.group_commit import recorded
from jobtrail.jobs.finish import OutcomeRecord, OutcomeRecorder, Recorded, record_of, released
from jobtrail.jobs.renew import AttemptRef, RunningAttempt
from jobtrail.jobs.services import Services
from jobtrail.logs import bind, collect
from jobtrail.records import Claimed
from jobtrail.task.outcome import Interrupted, judge, raised
from jobtrail.task.task import RunsIn
from jobtrail.worker.attempt import Attempt, Hook, Run, RunnerDeps, call, end_of, tell
from jobtrail.worker.reports import Reports

log = logging.getLogger(__name__)

_FOREVER: Final = float("inf")

_LAST_WORDS: Final = 5.0
"""Seconds that a stopping node waits for its ends to be recorded, should the database be away."""

_LOOK: Final = 0.1
"""Seconds between two looks of a stopping node: a second signal may have shortened the grace."""


class Attempts:
    """`freed` is called when a slot is free again; for a task that was left behind that is later than its outcome."""

    def __init__(
        self,
        services: Services,
        node_id: UUID,
        deps: RunnerDeps,
        reports: Reports,
        *,
        freed: Callable[[RunsIn], None],
        hook: Hook | None = None,
    ) -> None:
        self._services = services
        self._node_id = node_id
        self._deps = deps
        self._reports = reports
        self._freed = freed
        self._hook = hook
        self._endings = OutcomeRecorder(services.database, node_id)
        self._held: dict[UUID, Attempt] = {}
        self._running: set[Attempt] = set()
        self._context = contextvars.copy_context()
        self._runs: set[asyncio.Task[None]] = set()
        self._open: dict[AttemptRef, OutcomeRecord] = {}
        self._until = _FOREVER
        self._gave_up = False
        self.left_behind = 0
        self.stale_ends = 0

    def knows(self, held: AttemptRef) -> bool:
        """Whether it was begun or is given back here: a claim that is not known is one whose answer was lost."""
        return held.id in self._held or held in self._open

    def held(self) -> Sequence[AttemptRef]:
        """Callable from any thread."""
        return [each.held for each in list(self._held.values())]

    def task_of(self, job_id: UUID) -> str | None:
        """Callable from any thread."""
        attempt = self._held.get(job_id)
        return None if attempt is None else attempt.claimed.task

    def begin(self, claimed: Claimed) -> None:
        """Run it. Its slot is taken already."""
        if (older := self._held.get(claimed.id)) is not None:
            self.lose(older.held)  # its job was taken away, and came back here before a beat noticed
        held = AttemptRef(claimed.id, claimed.attempt)
        attempt = Attempt(claimed, self._services.catalog[claimed.task], self._reports.open(held), self._deps)
        self._held[claimed.id] = attempt
        self._running.add(attempt)
        self._open[held] = _lost(claimed)
        self.keep(self._run(attempt))

    def keep(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run it as a part of what `stop` waits for, without the context variables of whoever asks: a job that another
        node runs would not have them either.
        """
        task = asyncio.create_task(coroutine, context=self._context.copy())
        self._runs.add(task)
        task.add_done_callback(self._runs.discard)

    def obey(self, running: Sequence[RunningAttempt]) -> None:
        """Tell those to end whose cancel was requested."""
        for each in running:
            attempt = self._held.get(each.id)
            if each.cancel_requested and attempt is not None and attempt.claimed.attempt == each.attempt:
                attempt.execution.cancel()

    def lose(self, held: AttemptRef) -> None:
        """The database says that this attempt is no longer ours: it is stopped."""
        attempt = self._held.get(held.id)
        if attempt is None or attempt.held != held or attempt.finishing:
            return
        log.warning("job %s: attempt %d is no longer this node's; it is stopped, its end will not count", *held)
        attempt.finishing = True
        attempt.execution.interrupt()

    async def give_back(self, held: AttemptRef) -> None:
        """An attempt that never began here is given back unused."""
        await recorded(self._record(released(held)))

    def limit(self, grace: float) -> None:
        """Give what runs `grace` seconds from now, or an earlier limit. Callable from a signal handler."""
        self._until = min(self._until, time.monotonic() + grace)

    @property
    def unrecorded(self) -> int:
        """Attempts whose end is not recorded, or that are not given back yet."""
        return len(self._open)

    async def stop(self) -> bool:
        """Wait for what runs until its limit, then tell it to end, and wait until every end is recorded.

        Whether they are: a database that stays away keeps nobody from stopping.
        """
        patience = self._deps.grace.total_seconds() + _LAST_WORDS
        while self._runs and (now := time.monotonic()) < self._until + patience:
            if now >= self._until:
                for attempt in list(self._running):
                    attempt.execution.interrupt()
            await asyncio.wait(self._runs, timeout=min(_LOOK, self._until - now) if now < self._until else _LOOK)
        self._gave_up = bool(self._running)
        return not self._gave_up

    async def give_up(self, said: Sequence[RunningAttempt]) -> None:
        """Nothing runs here any more. What the database still says that this node runs is ended: as it was offered
        before, or unused if its claim was never answered.
        """
        left = [AttemptRef(each.id, each.attempt) for each in said]
        self._open = {each: ending for each, ending in self._open.items() if each in left}
        await asyncio.gather(*(self._record(self._open.get(each) or released(each)) for each in left))

    async def _run(self, attempt: Attempt) -> None:
        claimed = attempt.claimed
        run = Run(attempt, self._reports, self._services.database, self._node_id, self._record)
        try:
            ids = bind(job_id=str(claimed.id), task=claimed.task, attempt=claimed.attempt, trace_id=claimed.trace_id)
            with ids:
                with collect(attempt.words.line):
                    ran = await run.run()
                if ran.recorded is not Recorded.STALE:  # that was logged where it was found
                    tell(ran)
                    if self._hook is not None:
                        self.keep(call(self._hook, end_of(ran)))
            self.stale_ends += ran.recorded is Recorded.STALE
            self._open.pop(attempt.held, None)
        except asyncio.CancelledError:
            await self._cut_off(run, attempt)
            raise
        except Exception:
            # the lease is no longer renewed, so rescue will see to the row
            log.exception("attempt %d of job %s could not be recorded", claimed.attempt, claimed.id)
        finally:
            self._running.discard(attempt)
            if self._held.get(claimed.id) is attempt:
                del self._held[claimed.id]
            self._free(attempt)

    async def _cut_off(self, run: Run, attempt: Attempt) -> None:
        """A loop that is closed cancels all that is on it: a server that was told to hurry does so, without the end of
        its lifespan. What had been cancelled of this is made anew, and the closing loop waits for it.
        """
        if self._gave_up:
            return
        attempt.finishing = True
        try:
            async with asyncio.timeout(self._deps.grace.total_seconds() + _LAST_WORDS):
                had_begun = await attempt.execution.cut_off()
                await run.abandon()
                if (ending := self._open.get(attempt.held)) is not None:
                    await self._endings.finish_alone(ending if had_begun else released(attempt.held))
        except TimeoutError:
            log.warning(
                "the outcome of job %s could not be recorded; another node rescues it when its lease expires",
                attempt.held.id,
            )

    async def _record(self, ending: OutcomeRecord) -> Recorded:
        """Offer the end of an attempt until the database says whose it was."""
        held = AttemptRef(ending.id, ending.attempt)
        self._open[held] = ending
        landing = await self._endings.finish(ending)
        self._open.pop(held, None)
        return landing

    def _free(self, attempt: Attempt) -> None:
        if attempt.execution.left_behind:
            self.left_behind += 1
        attempt.execution.when_free(partial(self._give_back, attempt))

    def _give_back(self, attempt: Attempt) -> None:
        self.left_behind -= attempt.execution.left_behind
        self._freed(attempt.task.runs_in)


def _lost(claimed: Claimed) -> OutcomeRecord:
    """The outcome of an attempt whose own outcome is never known."""
    error = asyncio.CancelledError("the process ended")
    unheard = Interrupted(raised(error, claimed.attempt, None))
    return record_of(claimed, judge(unheard, claimed, None, cancel_requested=False))
