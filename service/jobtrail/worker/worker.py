"""Claims jobs for the slots that are free, and starts their attempts."""

import asyncio
import contextvars
import logging
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final
from uuid import UUID

from jobtrail.db.errors import FAILURES, reason
from jobtrail.db.group_commit import GroupCommit
from jobtrail.db.loop import Loop
from jobtrail.jobs.checkpoint import CheckpointRecorder
from jobtrail.jobs.claim import claim_next, claim_these, held_by, is_any_due
from jobtrail.jobs.fence import AttemptRef
from jobtrail.jobs.finish import OutcomeRecorder
from jobtrail.jobs.renew import RunningAttempt, running_of
from jobtrail.jobs.services import Services
from jobtrail.records import Claimed
from jobtrail.task.task import RunsIn
from jobtrail.tracing import AttemptSpans
from jobtrail.worker.attempts import Attempts, Hook
from jobtrail.worker.followers import Followers
from jobtrail.worker.limited import LimitedClaims
from jobtrail.worker.processes.pool import Processes
from jobtrail.worker.reports import Reports
from jobtrail.worker.runtime import RunnerDeps, Submit
from jobtrail.worker.slots import KINDS, Slots
from jobtrail.worker.threads import Threads

log = logging.getLogger(__name__)

_Claim = Callable[[RunsIn, Sequence[str], int], Awaitable[Sequence[Claimed]]]

_LAST_LOOK: Final = 3.0
"""Seconds that a stopping node takes to ask what the database says that it still runs."""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """The jobs that a node takes, how many at once on each executor, and the limits of their attempts.

    `queues` empty: all of them. `cancel_grace`: how long a task may go on that was told to end. `max_result` in bytes.
    """

    queues: Sequence[str] = ()
    slots: int = 100
    threads: int = 8
    processes: int = 2
    lease: timedelta = timedelta(seconds=30)
    poll_every: timedelta = timedelta(seconds=1)
    cancel_grace: timedelta = timedelta(seconds=5)
    max_result: int = 1024 * 1024
    trace_link_after: timedelta = timedelta(hours=1)
    on_attempt_end: Hook | None = None


class Worker:
    """Claims what has a free slot, a known task and a served queue. Only `launch` is for others than the node."""

    def __init__(self, services: Services, node_id: UUID, work: WorkerConfig, submit: Submit) -> None:
        self.claim_loop: Final = Loop("claim", self._claim, every=work.poll_every.total_seconds())
        self.watch_loop: Final = Loop("watch", self._watch, every=1.0)
        self.draining = False
        self._services = services
        self._node_id = node_id
        self._work = work
        self._slots = Slots({"loop": work.slots, "thread": work.threads, "process": work.processes})
        self.slots: Final = {str(kind): count for kind, count in self._slots.total.items()}
        self._tasks = {kind: [task.name for task in services.catalog.of_kind(kind)] for kind in KINDS}
        self._threads = Threads()
        self._processes = Processes(services.catalog.modules)
        self._reports = Reports(services.database, node_id)
        self._context = contextvars.copy_context()
        deps = RunnerDeps(
            node_id=node_id,
            database=services.database,
            recorder=OutcomeRecorder(services.database, node_id),
            checkpoints=CheckpointRecorder(services.database, node_id),
            reports=self._reports,
            spans=AttemptSpans(work.trace_link_after),
            submit=submit,
            threads=self._threads,
            processes=self._processes,
            lease=work.lease,
            grace=work.cancel_grace.total_seconds(),
            max_result=work.max_result,
            context=self._context,
            is_draining=lambda: self.draining,
        )
        self._limited = LimitedClaims(
            services, node_id, work.lease, work.queues, every=work.poll_every.total_seconds(), wake=self.claim_loop.wake
        )
        self._attempts = Attempts(
            services, deps, free=self._free, caught_up=self.claim_loop.wake, hook=work.on_attempt_end,
            limited_ended=self._limited.note, followers=Followers(services, wake=self.claim_loop.wake),
        )  # fmt: skip
        self._claims = GroupCommit(self._claim_group, patience=0)
        self._limited_first = False
        self._nothing_waits = dict.fromkeys(KINDS, False)
        self._passed_by = 0
        self._claiming: list[float] = []  # when each that is under way began
        self._unclaimed: dict[AttemptRef, float] = {}  # since when the database says that it runs here

    @property
    def busy(self) -> dict[str, int]:
        return {str(kind): count - self._slots.free(kind) for kind, count in self._slots.total.items()}

    @property
    def left_behind(self) -> int:
        """Tasks that did not end when told to and still take a slot."""
        return self._attempts.left_behind

    @property
    def stale_ends(self) -> int:
        """Ends that were refused since the attempt was no longer this node's."""
        return self._attempts.stale_ends

    def start(self) -> None:
        self.claim_loop.start()
        self.watch_loop.start()
        self._reports.loop.start()
        self._attempts.start()

    def launch(self, job_id: UUID, task: str, queue: str) -> bool:
        """Start a job that was just committed, unless older or more urgent work waits for the same slot.

        It hands over and returns; whatever it leaves, the claim loop of this or any node takes. False where this node
        does not run such jobs, or has no slot for one now.
        """
        is_served = not self._work.queues or queue in self._work.queues
        if self.draining or not is_served or task not in self._services.catalog:
            return False
        kind = self._services.catalog[task].runs_in
        if not self._slots.total[kind]:
            return False
        has_room = self._slots.free(kind) > 0 and not self._attempts.is_behind
        if self._services.catalog[task].is_limited:
            self._limited.note(job_id, kind)
            return has_room
        if has_room and self._nothing_waits[kind]:
            self._slots.take(kind)
            claim = self._claims.offer(job_id)
            claim.add_done_callback(partial(self._claimed, job_id, kind), context=self._context)
            self._attempts.wait_for(claim)
        else:
            self._passed_by += 1
            self._nothing_waits[kind] = False
            self.claim_loop.wake()
        return has_room

    def look(self, queues: frozenset[str]) -> None:
        """Claim now: another process stored jobs in one of these queues; in any, if none is named."""
        if queues and self._work.queues and queues.isdisjoint(self._work.queues):
            return
        for kind in KINDS:
            if self._slots.free(kind) <= 0:  # then the next slot that is free claims
                self._nothing_waits[kind] = False
        self._limited.look()

    def held(self) -> Sequence[AttemptRef]:
        """The attempts that this process runs now; callable from any thread."""
        return self._attempts.held()

    def task_of(self, job_id: UUID) -> str | None:
        """The task of a job that this process runs right now; callable from any thread."""
        return self._attempts.task_of(job_id)

    def reconcile(self, held: Sequence[AttemptRef], running: Sequence[RunningAttempt]) -> None:
        """Compare what this node held with what the database said a moment later."""
        said = {AttemptRef(each.id, each.attempt) for each in running}
        for each in held:
            if each not in said:
                self._attempts.lose(each)
        self._attempts.obey(running)
        # A claim whose answer is under way looks the same as one whose answer was lost: wait for those that were under
        # way when it was seen first.
        now, oldest = time.monotonic(), min(self._claiming, default=math.inf)
        unclaimed = [each for each in said.difference(held) if not self._attempts.knows(each)]
        self._unclaimed = {each: self._unclaimed.get(each, now) for each in unclaimed}
        orphans = [each for each, seen in self._unclaimed.items() if seen < min(now, oldest)]
        if orphans:
            self._attempts.keep(self._adopt(sorted(orphans)))

    def drain(self, grace: float) -> None:
        """Claim no more, and give what runs `grace` seconds from now, or as little as was said before."""
        self.draining = True
        self._attempts.limit(grace)

    async def stop(self) -> int:
        """Wait for what runs until its grace is over, then end it. Returns how many outcomes are not recorded."""
        self._attempts.keep(self.claim_loop.stop())  # a claim under way is no reason for others to go on longer
        if await self._attempts.stop():
            await self._look_back()
        if unrecorded := self._attempts.unfinished:
            words = "%d outcomes could not be recorded; other nodes rescue these jobs when their leases expire"
            log.error(words, unrecorded)
        await asyncio.gather(self._reports.loop.stop(), self.watch_loop.stop())
        self._threads.close()
        await self._processes.close()
        return unrecorded

    async def _look_back(self) -> None:
        """A claim whose answer never came would else be this node's until its lease is over."""
        try:
            async with asyncio.timeout(_LAST_LOOK):
                async with self._services.database.autocommit() as connection:
                    said = await running_of(connection, self._node_id)
                await self._attempts.give_up(said)
        except Exception as error:  # noqa: BLE001 - whatever it is, other nodes rescue the jobs when their leases expire
            log.warning("jobtrail: the jobs that this node still holds could not be read: %s", reason(error))

    async def _claim(self) -> bool:
        """One tick of the claim loop: due jobs of each kind, for as long as they wait and there are slots. Whether
        limited ones may be left; these and the others take turns in going first.
        """
        self._limited_first = not self._limited_first
        more = self._limited_first and await self._claim_limited()
        kinds = [kind for kind in self._slots.free_kinds() if self._tasks[kind]]
        if not await self._is_idle(kinds):
            while kinds and not self.draining and not self._attempts.is_behind:
                kinds = [kind for kind in kinds if await self._claim_kind(kind)]
        return more or (not self._limited_first and await self._claim_limited())

    async def _claim_limited(self) -> bool:
        """Claim jobs that have limits. Whether it took some and there is room for more."""
        more = False
        for kind in self._slots.free_kinds():
            if self.draining or self._attempts.is_behind:
                continue
            if await self._limited.is_due(kind) and (asked := self._most(kind)) > 0:
                more |= await self._fill(kind, asked, self._limited.claim) == asked and self._slots.free(kind) > 0
        return more

    async def _is_idle(self, kinds: Sequence[RunsIn]) -> bool:
        """Whether nothing has come in: where nothing waited, one look for all kinds does for a claim of each."""
        if len(kinds) <= 1 or not all(self._nothing_waits[kind] for kind in kinds):
            return False
        tasks = [task for kind in kinds for task in self._tasks[kind]]
        return not await is_any_due(
            self._services.database, lease=self._work.lease, tasks=tasks, queues=self._work.queues
        )

    async def _claim_kind(self, kind: RunsIn) -> bool:
        """Claim plain jobs. Whether more may wait, and there is room for it."""
        asked, passed_by = self._most(kind), self._passed_by
        found = await self._fill(kind, asked, self._claim_next)
        self._nothing_waits[kind] = found < asked and passed_by == self._passed_by
        return not self._nothing_waits[kind] and self._slots.free(kind) > 0

    def _most(self, kind: RunsIn) -> int:
        """Half of the slots at most, so that the next claim is on its way while these run."""
        return min(self._slots.free(kind), -(-self._slots.total[kind] // 2))

    async def _fill(self, kind: RunsIn, asked: int, claim: _Claim) -> int:
        """Start what a claim finds for so many slots; how many there were."""
        claimed: Sequence[Claimed] = ()
        self._slots.take(kind, asked)
        try:
            with self._a_claim():
                claimed = await claim(kind, self._tasks[kind], asked)
        finally:
            self._slots.give_back(kind, asked - len(claimed))
        for each in claimed:
            self._start(each)
        return len(claimed)

    async def _claim_next(self, _kind: RunsIn, tasks: Sequence[str], free: int) -> Sequence[Claimed]:
        return await claim_next(
            self._services.database, node=self._node_id, lease=self._work.lease, tasks=tasks, queues=self._work.queues,
            free=free, salt=secrets.token_hex(4),
        )  # fmt: skip

    async def _claim_group(self, ids: Sequence[UUID]) -> Sequence[Claimed | None]:
        with self._a_claim():
            found = await claim_these(self._services.database, ids, node=self._node_id, lease=self._work.lease)
        by_id = {each.id: each for each in found}
        return [by_id.get(each) for each in ids]

    @contextmanager
    def _a_claim(self) -> Iterator[None]:
        began = time.monotonic()
        self._claiming.append(began)
        try:
            yield
        finally:
            self._claiming.remove(began)

    def _claimed(self, job_id: UUID, kind: RunsIn, claim: "asyncio.Future[Claimed | None]") -> None:
        error = None if claim.cancelled() else claim.exception()
        found = None if claim.cancelled() or error is not None else claim.result()
        if found is None:
            self._free(kind)
            self._limited.look()
        else:
            self._start(found)
        if error is not None:  # the row is committed: the claim loop will find it
            log.warning("jobtrail: launch of job %s: %s; it is claimed later", job_id, reason(error))
            log.debug("jobtrail: launch failed", exc_info=error)

    def _start(self, claimed: Claimed) -> None:
        """Run it; or give it back if the node began to stop meanwhile, as it would not have the whole grace."""
        if self.draining or self._attempts.is_closing:
            self._attempts.keep(self._give_back(claimed))
        else:
            self._attempts.begin(claimed)

    async def _give_back(self, claimed: Claimed) -> None:
        try:
            await self._attempts.give_back(AttemptRef(claimed.id, claimed.attempt))
        finally:
            self._free(self._services.catalog[claimed.task].runs_in)

    def _free(self, kind: RunsIn) -> None:
        self._slots.give_back(kind)
        if not self._nothing_waits[kind] or self._limited.is_waiting(kind):
            self.claim_loop.wake()

    async def _watch(self) -> None:
        """Cancel requests reach a running job within about a second, whoever made them."""
        if self._attempts.held():
            async with self._services.database.autocommit() as connection:
                self._attempts.obey(await running_of(connection, self._node_id))

    async def _adopt(self, orphans: Sequence[AttemptRef]) -> None:
        """Claims whose answer never came: start them where there is room, else hand them back unused."""
        try:
            ours = await held_by(self._services.database, orphans, node=self._node_id, lease=self._work.lease)
        except FAILURES as error:
            words = "jobtrail: %d claims without an answer could not be checked: %s; trying again"
            log.warning(words, len(orphans), reason(error))
            return
        for claimed in ours:
            # an earlier beat saw to it while this one asked
            if self._attempts.knows(AttemptRef(claimed.id, claimed.attempt)):
                continue
            kind = self._services.catalog[claimed.task].runs_in
            self._slots.take(kind)
            if self._slots.free(kind) < 0:
                await self._give_back(claimed)
            else:
                self._start(claimed)
