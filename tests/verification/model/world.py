"""What all the rules share: the jobs as they should be, and the comparison with what is there."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant

from jobtrail.records import Job
from jobtrail.status import Status
from model import found
from model.driver import Driver
from model.expected import DAY, Expected

ids: Bundle[UUID] = Bundle("ids")
NODES: Final = [UUID(int=number) for number in (11, 12, 13)]
nodes = st.sampled_from(NODES)
callers = st.sampled_from(("ann", "bob"))
ttls = st.sampled_from((7.0 * DAY, None, 0.0))
LATER: Final = datetime(2999, 1, 1, tzinfo=UTC).isoformat()


slips = st.sampled_from(("", "", "", "", "last", "first", "node", "later"))
"""With which fence a node writes: its own, one of an attempt that is over, or one that nobody was given."""


class Fence(NamedTuple):
    id: UUID
    node: UUID
    attempt: int


class World(RuleBasedStateMachine):
    """`now` counts the steps. A key is somebody's, and holds a job and what was asked for."""

    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self.run: Final = driver
        self.place, self.services, self.database = driver.place, driver.services, driver.place.database
        self.jobs: dict[UUID, Expected] = {}
        self.keys: dict[tuple[str, str], tuple[UUID, int]] = {}
        self.effects: list[tuple[UUID, int]] = []
        self.now = 1

    def teardown(self) -> None:
        self.run.clear()

    @invariant()
    def the_database_is_as_it_should_be(self) -> None:
        self.now += 1
        self.run(self._compare())

    async def _compare(self) -> None:
        rows = await found.rows(self.place)
        assert rows == {job.id: found.said_of(job) for job in self.jobs.values() if not job.gone}
        histories = await found.histories(self.place)
        assert histories == {job.id: job.history for job in self.jobs.values() if job.history}
        assert all(found.is_lawful(history) for history in histories.values())
        for job_id, row in rows.items():
            assert histories[job_id][-1].after == row["status"]
        effects = await self.place.rows("SELECT job, attempt FROM effects")
        assert sorted(tuple(each.values()) for each in effects) == sorted(self.effects)

    def born(
        self, job: Job, ttl: float | None, *, later: bool = False, key: str | None = None, unique: str | None = None
    ) -> UUID:
        """Expect a job that was submitted just now."""
        since = 0 if later else self.now
        asked = Expected(job.id, job.created_by, job.queue, job.priority, job.max_attempts, ttl, since, key, unique)
        self.jobs[job.id] = asked
        return job.id

    def refused(self, error: type[Exception], asked: Any) -> None:
        with pytest.raises(error):
            self.run(asked)

    def is_ready(self, job: Expected) -> bool:
        return job.status is Status.PENDING and not job.parked and bool(job.since)

    def outcome_of(self, job_id: UUID) -> str:
        """The status of a job, or of one that was purged until then; `unknown` without a history."""
        job = self.jobs[job_id]
        if job.gone:
            return job.history[-1].before or "" if job.history else "unknown"
        return job.status.value

    def has_ended(self, job_id: UUID) -> bool:
        return self.outcome_of(job_id) not in (Status.PENDING, Status.RUNNING)

    def waits(self, job: Expected) -> bool:
        return job.status is Status.PENDING and job.parked and not job.gone

    def follow(self, job: Expected) -> None:
        """A job that is pending anew waits for each of its parents that has not succeeded."""
        job.edges |= {parent for parent in job.after if self.outcome_of(parent) != Status.SUCCEEDED}
        job.parked = bool(job.edges)

    def release(self, parents: Collection[UUID]) -> bool:
        """What waits for these parents goes on, or is cancelled and those with it that wait for it in turn; whether
        any goes on.
        """
        is_any, cancelled = False, []
        for job in self.jobs.values():
            ended = {parent: self.outcome_of(parent) for parent in job.edges.intersection(parents)}
            ended = {parent: ended[parent] for parent in sorted(ended) if self.has_ended(parent)}
            bad = [parent for parent, outcome in ended.items() if outcome != Status.SUCCEEDED]
            if not ended or not self.waits(job):
                continue
            if bad:
                what = {"failed": "failed", "cancelled": "was cancelled", "unknown": "is unknown"}[ended[bad[0]]]
                job.ask_to_stop(f"job {bad[0]}", f"after: {bad[0]} {what}")
                job.edges.clear()
                cancelled.append(job.id)
            else:
                job.edges -= ended.keys()
                if not job.edges:
                    job.release(f"job {min(ended)}", self.now)
                    is_any = True
        return (self.release(cancelled) if cancelled else False) or is_any

    def fence(self, job_id: UUID, slip: str) -> Fence:
        given = self.jobs[job_id].given or [(NODES[0], 0)]
        node, attempt = given[{"last": -2, "first": 0}.get(slip, -1) if len(given) > 1 else 0]
        match slip:
            case "node":
                node = next(each for each in NODES if each != node)
            case "later":
                attempt += 1
        return Fence(job_id, node, attempt)

    def holds(self, fence: Fence) -> bool:
        return self.jobs[fence.id].holds(fence.node, fence.attempt)
