"""What nodes do, with whatever fence they have in hand."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from sqlalchemy import text

from jobtrail.jobs.claim import claim_next, claim_these
from jobtrail.jobs.fence import AttemptRef
from jobtrail.jobs.finish import OutcomeRecord, OutcomeRecorder, Recorded, record_of
from jobtrail.jobs.job_session import abandon, complete, open_job_session
from jobtrail.jobs.progress import NewProgress, report
from jobtrail.jobs.renew import renew, running_of
from jobtrail.jobs.rescue import rescue
from jobtrail.records import Claimed, Failure
from jobtrail.status import Status
from jobtrail.task.outcome import Cancelled, Failed, Outcome, Released, Retried, Succeeded
from model.expected import Expected
from model.world import Fence, World, ids, nodes, slips
from support.world import JUDGE

LEASE: Final = timedelta(hours=1)
WAYS: Final = ("succeeded", "failed", "again", "cancelled", "released")

_EFFECT: Final = text("INSERT INTO effects VALUES (:id, :attempt)")


def outcome(how: str, attempt: int) -> Outcome:
    failure = Failure("ValueError", "as asked", None, attempt)
    match how:
        case "succeeded":
            return Succeeded(f'"attempt {attempt}"')
        case "failed":
            return Failed(failure)
        case "again":
            return Retried(failure, timedelta(0))
        case "cancelled":
            return Cancelled(failure)
        case _:
            return Released()


class ByNode(World):
    @rule(node=nodes, free=st.integers(1, 3), queues=st.sampled_from(((), ("default",), ("other",))))
    def claim_next(self, node: UUID, free: int, queues: tuple[str, ...]) -> None:
        wanted = {"lease": LEASE, "tasks": ["noop", "nothing"], "queues": queues, "free": free, "salt": "salt"}
        claimed = self.run(claim_next(self.database, node=node, **wanted))
        ready = [job for job in self.jobs.values() if self.is_ready(job) and (not queues or job.queue in queues)]
        got = [self.jobs[each.id] for each in claimed]
        assert len(got) == min(free, len(ready))
        for job in got:
            assert job in ready
            assert not any(_is_before(other, job) for other in ready if other not in got)
        self._claimed(claimed, node)

    @rule(node=nodes, some=st.lists(ids, min_size=1, max_size=3))
    def claim_these(self, node: UUID, some: list[UUID]) -> None:
        claimed = self.run(claim_these(self.database, some, node=node, lease=LEASE))
        assert {each.id for each in claimed} == {each for each in some if self.is_ready(self.jobs[each])}
        self._claimed(claimed, node)

    def _claimed(self, claimed: Sequence[Claimed], node: UUID) -> None:
        for each in claimed:
            self.jobs[each.id].claim(node)
            assert (each.attempt, each.max_attempts) == (self.jobs[each.id].attempt, self.jobs[each.id].max_attempts)

    @rule(job_id=ids, slip=slips, progress=st.integers(1, 3))
    def go_on(self, job_id: UUID, slip: str, progress: int) -> None:
        """The lease is renewed, and the progress told."""
        job, fence = self.jobs[job_id], self.fence(job_id, slip)
        running, heard = self.run(self._go_on(fence, progress))
        assert running == heard == self.holds(fence)
        if running:
            job.silent, job.progress = False, progress

    async def _go_on(self, fence: Fence, progress: int) -> tuple[bool, bool]:
        held = AttemptRef(fence.id, fence.attempt)
        async with self.database.autocommit() as connection:
            await renew(connection, [held], node=fence.node, lease=LEASE)
            running = {AttemptRef(each.id, each.attempt) for each in await running_of(connection, fence.node)}
            return held in running, bool(await report(connection, [NewProgress(*held, str(progress))], node=fence.node))

    @rule(job_id=ids, slip=slips, how=st.sampled_from(WAYS))
    def finish(self, job_id: UUID, slip: str, how: str) -> None:
        job, fence = self.jobs[job_id], self.fence(job_id, slip)
        ending = self._ending(fence, how)
        if how == "cancelled" and self.holds(fence) and job.cancel is None:
            return  # no node ends like this what nobody asked to stop
        known = job.was_ended_by(fence.node, fence.attempt, ending.status, json.loads(ending.error or "null"))
        landing = self.run(OutcomeRecorder(self.database, fence.node).finish(ending))
        assert (landing is not Recorded.STALE) == (self.holds(fence) or known)
        if self.holds(fence):
            self._end(job, how)

    @rule(job_id=ids, slip=slips, gives_up=st.sampled_from((False, False, True)))
    def end_with_a_session(self, job_id: UUID, slip: str, gives_up: bool) -> None:
        fence = self.fence(job_id, slip)
        landing = self.run(self._in_session(fence, gives_up=gives_up))
        if gives_up:
            return
        assert (landing is not Recorded.STALE) == self.holds(fence)
        if self.holds(fence):
            self.effects.append((job_id, fence.attempt))
            self._end(self.jobs[job_id], "succeeded")

    async def _in_session(self, fence: Fence, *, gives_up: bool) -> Recorded | None:
        session = await open_job_session(self.database, lease=LEASE)
        await session.execute(_EFFECT, {"id": fence.id, "attempt": fence.attempt})
        if gives_up:
            await abandon(session)
            return None
        return await complete(self.database, session, self._ending(fence, "succeeded"), node=fence.node)

    def _ending(self, fence: Fence, how: str) -> OutcomeRecord:
        claimed = Claimed(fence.id, fence.attempt, "noop", {}, "", 1, None, "")
        return record_of(claimed, outcome(how, fence.attempt))

    def _end(self, job: Expected, how: str) -> None:
        error = {"type": "ValueError", "message": "as asked", "traceback": None, "attempt": job.attempt}
        match how:
            case "succeeded":
                job.finish(Status.SUCCEEDED, "succeeded", result=f"attempt {job.attempt}")
            case "failed":
                job.finish(Status.FAILED, "ValueError", error=error)
            case "again":
                job.finish(Status.PENDING, "ValueError", error=error)
            case "cancelled":
                job.finish(Status.CANCELLED, "cancelled", error=error)
            case _:
                job.finish(Status.PENDING, "released", more=1)
        job.since = self.now if job.status is Status.PENDING else job.since

    @rule(job_id=ids, node=nodes, how=st.sampled_from(WAYS))
    def proceed(self, job_id: UUID, node: UUID, how: str) -> None:
        """What comes next in the life of a job, as long as all is well."""
        if self.jobs[job_id].silent is None:
            self.claim_these(node, [job_id])
        else:
            self.finish(job_id, "", how)

    @precondition(lambda self: any(job.silent for job in self.jobs.values()))
    @rule()
    def rescue(self) -> None:
        lost = [job for job in self.jobs.values() if job.silent]
        rescued = self.run(rescue(self.database, by="node x", node=JUDGE))
        for job in lost:
            job.rescue("node x")
            job.since = self.now if job.status is Status.PENDING else job.since
        assert sorted((each.id, each.attempt, each.status) for each in rescued) == sorted(
            (job.id, job.attempt, job.status) for job in lost
        )


def _is_before(job: Expected, other: Expected) -> bool:
    """Whether it must be claimed first. Among queues of one priority there is no order."""
    if job.priority != other.priority:
        return job.priority > other.priority
    return job.queue == other.queue and job.since < other.since
