"""Jobs that come after others: for whom they wait, and what becomes of them once a parent has ended."""

from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import MultipleResults, multiple, precondition, rule

from jobtrail.errors import InvalidInputError
from jobtrail.jobs import after
from jobtrail.jobs.submit import submit
from jobtrail.task.submission import Submission
from model.world import LATER, World, callers, ids, ttls

some = st.lists(ids, min_size=1, max_size=3, unique=True)


class InOrder(World):
    @precondition(lambda self: len(self.jobs) < 9)
    @rule(
        target=ids,
        by=callers,
        parents=some,
        attempts=st.integers(1, 2),
        later=st.sampled_from((False, False, True)),
        ttl=ttls,
    )
    def submit_after(
        self, by: str, parents: list[UUID], attempts: int, later: bool, ttl: float | None
    ) -> UUID | MultipleResults[UUID]:
        """Whatever its parents have come to by now."""
        wanted: dict[str, Any] = {"after": parents, "max_attempts": attempts, "ttl": ttl}
        wanted |= {"run_at": LATER} if later else {}
        asked = submit(self.services, Submission(task="noop", **wanted), by=by)
        if "unknown" in map(self.outcome_of, parents):
            self.refused(InvalidInputError, asked)
            return multiple()
        job_id = self.born(self.run(asked)[0], ttl, later=later)
        self.jobs[job_id].after = parents
        self.follow(self.jobs[job_id])
        self.release(parents)
        return job_id

    @rule(parents=some)
    def hint(self, parents: list[UUID]) -> None:
        """As the node gives it that ended them; they may be on their way still."""
        assert self.run(after.release_of(self.database, parents)) == self.release(parents)

    @precondition(lambda self: any(job.edges for job in self.jobs.values()))
    @rule()
    def sweep(self) -> None:
        ended = {parent for job in self.jobs.values() for parent in job.edges if self.has_ended(parent)}
        assert self.run(after.sweep(self.services)) == self.release(sorted(ended))
        for job in self.jobs.values():
            if not self.waits(job):
                job.edges -= ended
