"""Every verb in any order over the real database; after each the rows and their histories are what the model says."""

import itertools
from uuid import UUID

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import MultipleResults, initialize, multiple, precondition, rule, run_state_machine_as_test

from model.by_hand import ByHand
from model.by_node import WAYS, ByNode
from model.driver import Driver
from model.in_order import InOrder
from model.world import NODES, ids, ttls

pasts = st.tuples(st.integers(1, 3), ttls, st.lists(st.sampled_from((*WAYS, "lost")), max_size=4))
families = st.sets(st.integers(0, 5), min_size=1, max_size=3)


class Machine(ByHand, ByNode, InOrder):
    @initialize(target=ids, jobs=st.lists(pasts, min_size=1, max_size=4), children=st.lists(families, max_size=2))
    def begin(self, jobs: list[tuple[int, float | None, list[str]]], children: list[set[int]]) -> MultipleResults[UUID]:
        """Jobs that have a past already, and some that come after them, so that there is much to go wrong from the
        first step on.
        """
        made = [self._with_a_past(*job) for job in jobs]
        for numbers in children:
            parents = list(dict.fromkeys(made[number % len(made)] for number in numbers))
            made.append(self.submit_after("ann", parents, 2, later=False, ttl=None))
            self.the_database_is_as_it_should_be()
        return multiple(*made)

    def _with_a_past(self, attempts: int, ttl: float | None, past: list[str]) -> UUID:
        job_id = self.submit("ann", "default", 5, attempts, later=False, ttl=ttl)
        for node, how in zip(itertools.cycle(NODES), past, strict=False):
            self.the_database_is_as_it_should_be()
            self.claim_these(node, [job_id])
            self.the_database_is_as_it_should_be()
            if how == "lost":
                self.wait(job_id)
                self.rescue()
            else:
                self.finish(job_id, "", how)
        return job_id

    @precondition(lambda self: any(self.waits(job) for job in self.jobs.values()))
    @rule(data=st.data(), node=st.sampled_from(NODES), how=st.sampled_from(WAYS), hinted=st.booleans())
    def end_a_parent(self, data: st.DataObject, node: UUID, how: str, hinted: bool) -> None:
        """End a parent of a job that waits, with all that follows."""
        parents = {parent for job in self.jobs.values() if self.waits(job) for parent in job.edges}
        parent = data.draw(st.sampled_from(sorted(parents)))
        if self.is_ready(self.jobs[parent]):
            self.claim_these(node, [parent])
            self.the_database_is_as_it_should_be()
        if self.jobs[parent].silent is not None:
            self.finish(parent, "", how)
        if hinted:
            self.hint([parent])


def run(driver: Driver, *, examples: int, steps: int, number: int | None = None) -> int:
    """The same examples each time; or others for each `number`, and then what fails is made short, for minutes.

    How many steps were compared with the model.
    """
    compared = 0
    wanted = settings(
        derandomize=number is None,
        max_examples=examples,
        stateful_step_count=steps,
        phases=(Phase.generate,) if number is None else (Phase.generate, Phase.shrink),
        deadline=None,
        database=None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )

    class Counted(Machine):
        def teardown(self) -> None:
            nonlocal compared
            compared += self.now
            super().teardown()

    def machine() -> Machine:
        return Counted(driver)

    run_state_machine_as_test(machine if number is None else seed(number)(machine), settings=wanted)
    return compared
