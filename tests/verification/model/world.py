"""What all the rules share: the jobs as they should be, and the comparison with what is there."""

from typing import Final, NamedTuple
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant

from jobtrail.status import Status
from model import found
from model.driver import Driver
from model.expected import DAY, Expected

ids: Bundle[UUID] = Bundle("ids")
NODES: Final = [UUID(int=number) for number in (11, 12, 13)]
nodes = st.sampled_from(NODES)
callers = st.sampled_from(("ann", "bob"))
ttls = st.sampled_from((7.0 * DAY, None, 0.0))


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

    def is_ready(self, job: Expected) -> bool:
        return job.status is Status.PENDING and bool(job.since)

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
