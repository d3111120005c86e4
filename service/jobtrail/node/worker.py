"""What claims jobs, runs them and hands in their ends."""

import asyncio
import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from jobtrail.job.context import JobContext, SubmitFromJob
from jobtrail.job.record import Claimed
from jobtrail.job.task import Task
from jobtrail.lifecycle.desk import Desk
from jobtrail.lifecycle.finish import finish, released
from jobtrail.lifecycle.run import Run, recorded, run
from jobtrail.logs import bind
from jobtrail.node.execution import Execution
from jobtrail.node.loop import Loop
from jobtrail.node.slots import KINDS, Kind, Slots
from jobtrail.node.threads import Threads
from jobtrail.store.group import Group
from jobtrail.store.transitions.claim import claim_next, claim_these, held_by
from jobtrail.store.transitions.finish import Ending, Landing, finish_group, settle
from jobtrail.store.transitions.renew import Held, Running, running_of

log = logging.getLogger(__name__)

_FOREVER: Final = float("inf")

_LAST_WORDS: Final = 10.0
"""Seconds that a stopping node waits for its ends to be recorded, should the database be away."""


@dataclass(frozen=True, slots=True)
class Work:
    """Which jobs a node takes, how many at once, and the terms it runs them on. `queues` empty: all of them."""

    queues: Sequence[str] = ()
    slots: int = 32
    threads: int = 8
    lease: timedelta = timedelta(seconds=30)
    poll_every: timedelta = timedelta(seconds=1)
    max_result: int = 1024 * 1024


@dataclass(slots=True)
class _Holding:
    claimed: Claimed
    kind: Kind
    execution: Execution
    finishing: bool = field(default=False)


class Worker:
    """Claims only what has a free slot, a known task and a served queue; `launch` may be called from anywhere on the
    loop, the rest belongs to the node.
    """

    def __init__(self, desk: Desk, node_id: UUID, work: Work, submitter: SubmitFromJob) -> None:
        self.claim_loop: Final = Loop("claim", self._claim, every=work.poll_every.total_seconds())
        self.watch_loop: Final = Loop("watch", self._watch, every=1.0)
        self._desk = desk
        self._node_id = node_id
        self._work = work
        self._submitter = submitter
        self._threads = Threads()
        self._slots = Slots({"loop": work.slots, "thread": work.threads})
        self._tasks = {kind: [task.name for task in desk.catalog if task.runs_in == kind] for kind in KINDS}
        self._claims = Group(self._claim_group, patience=0)
        self._endings = Group(partial(finish_group, desk.database, node=node_id), weigh=_weigh, patience=_FOREVER)
        self._held: dict[UUID, _Holding] = {}
        self._runs: set[asyncio.Task[None]] = set()
        self._nothing_waits = dict.fromkeys(KINDS, False)
        self._passed_by = 0
        self._claiming = 0
        self._unclaimed: frozenset[Held] = frozenset()
        self.draining = False

    @property
    def slots(self) -> dict[str, int]:
        return {str(kind): count for kind, count in self._slots.total.items()}

    def start(self) -> None:
        self.claim_loop.start()
        self.watch_loop.start()

    def launch(self, job_id: UUID, task: str, queue: str) -> None:
        """Start a job that was just committed, unless older or more urgent work waits for the same place.

        It hands over and returns; whatever it leaves, the claim loop of this or any node takes.
        """
        if self.draining or task not in self._desk.catalog or (self._work.queues and queue not in self._work.queues):
            return
        kind = self._desk.catalog[task].runs_in
        if self._slots.free(kind) > 0 and self._nothing_waits[kind]:
            self._slots.take(kind)
            self._keep(self._claim_and_run(job_id, kind))
        else:
            self._passed_by += 1
            self._nothing_waits[kind] = False
            self.claim_loop.wake()

    def held(self) -> Sequence[Held]:
        """What this process runs right now; callable from any thread."""
        return [Held(each.claimed.id, each.claimed.attempt) for each in list(self._held.values())]

    def reconcile(self, held: Sequence[Held], running: Sequence[Running]) -> None:
        """Compare what this node held with what the database said a moment later."""
        said = {Held(each.id, each.attempt) for each in running}
        for each in held:
            holding = self._held.get(each.id)
            if each not in said and holding is not None and holding.claimed.attempt == each.attempt:
                self._lose(holding)
        self._obey(running)
        # A claim whose answer is under way looks the same as one whose answer was lost: wait for the next beat.
        unclaimed = frozenset(each for each in said.difference(held) if each.id not in self._held)
        orphans = unclaimed & self._unclaimed if not self._claiming else frozenset()
        self._unclaimed = unclaimed
        if orphans:
            self._keep(self._adopt(sorted(orphans)))

    async def stop(self, grace: float) -> None:
        """Claim no more, give what runs `grace` seconds, then end it, and wait until every end is recorded.

        A database that stays away keeps nobody from stopping: after a while it is told in the log.
        """
        self.draining = True
        await self.claim_loop.stop()
        if self._runs:
            await asyncio.wait(self._runs, timeout=grace)
        give_up = time.monotonic() + _LAST_WORDS
        while self._runs and time.monotonic() < give_up:
            for holding in list(self._held.values()):
                holding.execution.interrupt()
            await asyncio.wait(self._runs, timeout=0.1)
        if self._runs:
            log.error("%d ends could not be recorded; their leases will tell the other nodes", len(self._runs))
        await self.watch_loop.stop()
        self._threads.close()

    async def _claim(self) -> bool:
        """One tick of the claim loop: as many due jobs of each kind as have a place; again if one came in between."""
        again = False
        for kind in self._slots.free_kinds():
            if self._tasks[kind] and not self.draining:
                again |= await self._claim_kind(kind)
        return again

    async def _claim_kind(self, kind: Kind) -> bool:
        free, passed_by = self._slots.free(kind), self._passed_by
        claimed: Sequence[Claimed] = ()
        self._slots.take(kind, free)
        self._claiming += 1
        try:
            claimed = await claim_next(
                self._desk.database,
                node=self._node_id,
                lease=self._work.lease,
                tasks=self._tasks[kind],
                queues=self._work.queues,
                free=free,
                salt=secrets.token_hex(4),
            )
        finally:
            self._claiming -= 1
            self._slots.give_back(kind, free - len(claimed))
        for each in claimed:
            self._begin(each, kind)
        self._nothing_waits[kind] = len(claimed) < free and passed_by == self._passed_by
        return passed_by != self._passed_by and self._slots.free(kind) > 0

    async def _claim_group(self, ids: Sequence[UUID]) -> Sequence[Claimed | None]:
        self._claiming += 1
        try:
            found = await claim_these(self._desk.database, ids, node=self._node_id, lease=self._work.lease)
        finally:
            self._claiming -= 1
        by_id = {each.id: each for each in found}
        return [by_id.get(each) for each in ids]

    async def _claim_and_run(self, job_id: UUID, kind: Kind) -> None:
        claimed: Claimed | None = None
        try:
            claimed = await self._claims.put(job_id)
        except Exception as error:  # noqa: BLE001 - the row is committed: the claim loop will find it
            log.warning("launch of %s: %s", job_id, error)
        if claimed is None:
            self._free(kind)
            return
        await self._run(self._hold(claimed, kind))

    def _begin(self, claimed: Claimed, kind: Kind) -> None:
        """The slot is taken already."""
        self._keep(self._run(self._hold(claimed, kind)))

    def _hold(self, claimed: Claimed, kind: Kind) -> _Holding:
        task: Task[..., Any] = self._desk.catalog[claimed.task]
        context = JobContext(
            job_id=claimed.id,
            attempt=claimed.attempt,
            trace_id=claimed.trace_id,
            task=claimed.task,
            log=logging.getLogger(f"jobtrail.task.{claimed.task}"),
            submitter=self._submitter,
        )
        holding = _Holding(claimed, kind, Execution(claimed, task, context, self._threads))
        self._held[claimed.id] = holding
        return holding

    async def _run(self, holding: _Holding) -> None:
        claimed, execution = holding.claimed, holding.execution

        async def hand_in(ending: Ending) -> Landing:
            holding.finishing = True
            return await finish(self._endings, self._settle, ending)

        attempt = Run(
            claimed,
            self._desk.catalog[claimed.task],
            execution.perform,
            hand_in,
            lambda: execution.cancel_delivered,
            self._work.max_result,
        )
        try:
            with bind(job_id=str(claimed.id), task=claimed.task, attempt=claimed.attempt, trace_id=claimed.trace_id):
                await run(attempt)
        except Exception:
            # the lease is no longer renewed, so rescue will see to the row
            log.exception("attempt %d of job %s could not be recorded", claimed.attempt, claimed.id)
        finally:
            if self._held.get(claimed.id) is holding:
                del self._held[claimed.id]
            if not execution.when_free(partial(self._free, holding.kind)):
                log.warning("a thread goes on with %s after its job ended; its slot stays taken", claimed.task)

    def _free(self, kind: Kind) -> None:
        self._slots.give_back(kind)
        if not self._nothing_waits[kind]:
            self.claim_loop.wake()

    def _settle(self, ending: Ending) -> Any:
        return settle(self._desk.database, ending, node=self._node_id)

    async def _watch(self) -> None:
        """Cancel requests reach a running job within about a second, whoever made them."""
        if self._held:
            async with self._desk.database.autocommit() as connection:
                self._obey(await running_of(connection, self._node_id))

    def _obey(self, running: Sequence[Running]) -> None:
        for each in running:
            holding = self._held.get(each.id)
            if each.cancel_requested and holding is not None and holding.claimed.attempt == each.attempt:
                holding.execution.cancel()

    def _lose(self, holding: _Holding) -> None:
        if not holding.finishing:
            holding.finishing = True
            log.warning(
                "job %s: attempt %d is no longer this node's; it is stopped, its end will not count",
                holding.claimed.id,
                holding.claimed.attempt,
            )
            holding.execution.interrupt()

    async def _adopt(self, orphans: Sequence[Held]) -> None:
        """Claims whose answer never came: start them where there is room, else hand them back unused."""
        for claimed in await held_by(self._desk.database, orphans, node=self._node_id):
            if claimed.id in self._held:  # an earlier beat saw to it while this one asked
                continue
            kind = self._desk.catalog[claimed.task].runs_in
            if self.draining or self._slots.free(kind) <= 0:
                await recorded(finish(self._endings, self._settle, released(claimed)))
            else:
                self._slots.take(kind)
                self._begin(claimed, kind)

    def _keep(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine)
        self._runs.add(task)
        task.add_done_callback(self._runs.discard)


def _weigh(ending: Ending) -> int:
    return len(ending.result or "") + len(ending.error or "")
