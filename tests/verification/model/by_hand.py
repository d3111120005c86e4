"""What callers and operators do, what time does, and what somebody does in psql."""

from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import MultipleResults, multiple, precondition, rule

from jobtrail.errors import IdempotencyKeyReusedError, JobConflictError, JobFinishedError, JobNotFoundError
from jobtrail.jobs.amend import amend
from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.purge import purge
from jobtrail.jobs.retry import retry
from jobtrail.jobs.submit import submit
from jobtrail.status import Status, is_legal
from jobtrail.task.submission import Amendment, Submission
from model.expected import DAY, PAST, Expected
from model.world import LATER, World, callers, ids, ttls
from support.rows import moved, passed, typed

# What `support.rows.WHOLE` makes of a row.
_NOTHING_LEFT: Final = {"node": None, "result": None, "error": None, "cancel": None}
_WRITTEN: Final[dict[Status, dict[str, Any]]] = {
    Status.PENDING: _NOTHING_LEFT,
    Status.SUCCEEDED: {"result": 1, "error": None},
    Status.FAILED: {"result": None, "error": {"type": "E"}},
    Status.CANCELLED: {"result": None},
}

_HOPELESS: Final = {"failed", "cancelled", "unknown"}
"""What a parent has come to that will not succeed by itself."""

_REFUSED: Final = (
    "UPDATE jobtrail.jobs SET seq = seq + 2 WHERE id = $1",
    "UPDATE jobtrail.jobs SET attempt = attempt + 1, max_attempts = attempt + 1 WHERE id = $1",
    "UPDATE jobtrail.jobs SET id = gen_random_uuid() WHERE id = $1",
    "UPDATE jobtrail.transitions SET actor = 'nobody' WHERE job_id = $1",
    "DELETE FROM jobtrail.transitions WHERE job_id = $1",
    """INSERT INTO jobtrail.transitions (job_id, seq, attempt, to_status, actor, trace_id, task)
       VALUES ($1, 99, 0, 'succeeded', 'nobody', '', '')""",
)


class ByHand(World):
    @precondition(lambda self: len(self.jobs) < 6)
    @rule(
        target=ids,
        by=callers,
        queue=st.sampled_from(("default", "other")),
        priority=st.sampled_from((5, 9)),
        attempts=st.integers(1, 3),
        later=st.sampled_from((False, False, True)),
        ttl=ttls,
    )
    def submit(self, by: str, queue: str, priority: int, attempts: int, later: bool, ttl: float | None) -> UUID:
        wanted: dict[str, Any] = {"queue": queue, "priority": priority, "max_attempts": attempts, "ttl": ttl}
        wanted |= {"run_at": LATER} if later else {}
        job, _ = self.run(submit(self.services, Submission(task="noop", **wanted), by=by))
        return self.born(job, ttl, later=later)

    @rule(target=ids, by=callers, key=st.sampled_from("ab"), body=st.integers(1, 2))
    def submit_keyed(self, by: str, key: str, body: int) -> UUID | MultipleResults[UUID]:
        holder, said = self.keys.get((by, key), (None, None))
        known = holder is not None and not self.jobs[holder].gone
        asked = submit(self.services, Submission(task="noop", args={"n": body}, ttl=0), by=by, key=key)
        if known and said != body:
            with pytest.raises(IdempotencyKeyReusedError):
                self.run(asked)
            return multiple()
        job, replayed = self.run(asked)
        assert (replayed, job.id == holder) == (known, known)
        if known:
            return multiple()
        self.keys[by, key] = job.id, body
        return self.born(job, DAY, key=key)

    @rule(target=ids, by=callers, key=st.sampled_from("ab"))
    def submit_unique(self, by: str, key: str) -> UUID | MultipleResults[UUID]:
        holder = self._holder(key)
        job, is_there = self.run(submit(self.services, Submission(task="noop", unique_key=key, ttl=0), by=by))
        assert (is_there, job.id == holder) == (holder is not None, holder is not None)
        return self.born(job, 0, unique=key) if holder is None else multiple()

    def _holder(self, unique: str | None) -> UUID | None:
        """The unfinished job that has this unique key."""
        held = (each for each in self.jobs.values() if not each.status.is_terminal and each.unique == unique)
        return None if unique is None else next((each.id for each in held), None)

    @rule(job_id=ids, by=callers, reason=st.sampled_from((None, "enough")), only_own=st.booleans())
    def cancel(self, job_id: UUID, by: str, reason: str | None, only_own: bool) -> None:
        job = self.jobs[job_id]
        asked = cancel(self.services, job_id, by=by, reason=reason, only_of=by if only_own else None)
        if job.gone or (only_own and job.created_by != by):
            self.refused(JobNotFoundError, asked)
        elif job.status in (Status.SUCCEEDED, Status.FAILED):
            self.refused(JobFinishedError, asked)
        else:
            if job.status is not Status.CANCELLED:
                job.ask_to_stop(by, reason)
            assert self.run(asked).status is job.status

    @rule(job_id=ids, by=callers)
    def retry(self, job_id: UUID, by: str) -> None:
        job, asked = self.jobs[job_id], retry(self.services, job_id, by=by)
        is_held = bool(self._holder(job.unique) or _HOPELESS & set(map(self.outcome_of, job.after)))
        if job.gone:
            self.refused(JobNotFoundError, asked)
        elif job.status not in (Status.FAILED, Status.CANCELLED) or is_held:
            self.refused(JobConflictError, asked)
        else:
            job.retry(by, self.now)
            self.follow(job)
            assert self.run(asked).status is Status.PENDING
            self.release(job.after)

    @rule(job_id=ids, name=st.sampled_from(("priority", "tags", "run_at", "ttl", "ttl")), ttl=ttls, by=callers)
    def amend(self, job_id: UUID, name: str, ttl: float | None, by: str) -> None:
        job, value = self.jobs[job_id], {"priority": 7, "tags": ["seen"], "run_at": None, "ttl": ttl}[name]
        asked = amend(self.services, job_id, Amendment(**{name: value}), by=by)
        if job.gone:
            self.refused(JobNotFoundError, asked)
        elif name in ("priority", "run_at") and job.status is not Status.PENDING:
            self.refused(JobConflictError, asked)
        else:
            self.run(asked)
            job.change(by)
            if name == "ttl":
                job.keep_for(ttl)
            else:
                setattr(job, *(("since", self.now) if name == "run_at" else (name, value)))

    @precondition(lambda self: any(job.expiry == PAST for job in self.jobs.values()))
    @rule(by=callers, forgets=st.sampled_from((False, False, True)))
    def purge(self, by: str, forgets: bool) -> None:
        over = [job for job in self.jobs.values() if job.expiry == PAST and not job.gone]
        purged = self.run(purge(self.database, by=by, history_ttl=None))
        if forgets:
            self.run(passed(self.place))
            self.run(purge(self.database, by=by, history_ttl=timedelta(0)))
        assert purged.jobs == len(over)
        assert all(job.status.is_terminal for job in over)
        for job in over:
            job.purge(by)
        for job in self.jobs.values():
            if forgets and job.gone:
                job.history.clear()
                job.ends.clear()

    @rule(job_id=ids)
    def wait(self, job_id: UUID) -> None:
        """The moment comes that the job waits for: its lease runs out, its TTL, or the time before it may run."""
        job = self.jobs[job_id]
        if job.gone:
            return
        if job.status is Status.PENDING:
            waited, job.since = "run_at = clock_timestamp()", self.now
        elif job.status is Status.RUNNING:
            waited, job.silent = "lease_until = now() - interval '1 s'", True
        elif job.expiry is None:
            return
        else:
            waited, job.expiry = "expires_at = now() - interval '1 s'", PAST
        self.run(self.place.psql.execute(f"UPDATE jobtrail.jobs SET {waited} WHERE id = $1", job_id))

    @rule(job_id=ids, to=st.sampled_from(Status), bare=st.booleans())
    def move_in_sql(self, job_id: UUID, to: Status, bare: bool) -> None:
        """Most such moves are refused; one that is legal is told of in the history as any other. `bare`: only the
        status is typed, and the database fills in the rest.
        """
        job, moving = self.jobs[job_id], (typed if bare else moved)(self.place, job_id, to)
        started = to is Status.RUNNING and job.status is Status.PENDING
        if job.gone or to is job.status or (started and not bare):
            moving.close()
        elif started or not is_legal(job.status, to):
            self.refused(asyncpg.CheckViolationError, moving)
        elif job.status.is_terminal and self._holder(job.unique):
            self.refused(asyncpg.UniqueViolationError, moving)
        else:
            self.run(moving)
            user = self._user()
            written = self._filled(job, to, user) if bare else _WRITTEN[to] | self._asked(job, to)
            if to is Status.PENDING:
                job.allow_one_more(self.now)
                if job.status.is_terminal:
                    self.follow(job)
            job.move_in_sql(to, user, written)

    @rule(job_id=ids, statement=st.sampled_from(_REFUSED))
    def tamper(self, job_id: UUID, statement: str) -> None:
        job = self.jobs[job_id]
        if not job.gone:
            self.refused(asyncpg.CheckViolationError, self.place.psql.execute(statement, job_id))
        if not job.gone and job.expiry != PAST:
            deleting = self.place.psql.execute("DELETE FROM jobtrail.jobs WHERE id = $1", job_id)
            self.refused(asyncpg.CheckViolationError, deleting)

    def _asked(self, job: Expected, to: Status) -> dict[str, Any]:
        """Whoever cancels in SQL puts himself in the place of who asked before."""
        return {"cancel": ("me", job.cancel and job.cancel[1])} if to is Status.CANCELLED else {}

    def _filled(self, job: Expected, to: Status, user: str) -> dict[str, Any]:
        """What the database makes of a status alone."""
        message = f"ended in SQL by {user}"
        by_hand = {"type": "by-hand", "traceback": None, "attempt": job.attempt, "message": message}
        filled: dict[Status, dict[str, Any]] = {
            Status.PENDING: _NOTHING_LEFT,
            Status.FAILED: {"error": by_hand},
            Status.CANCELLED: {"cancel": job.cancel or (user, None)},
        }
        return filled.get(to, {})

    def _user(self) -> str:
        user: str = self.run(self.place.value("SELECT session_user"))
        return user
