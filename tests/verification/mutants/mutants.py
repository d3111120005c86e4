"""Each breaks one thing that the promise stands on: a function, or a statement on its way to PostgreSQL."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from jobtrail.db import engine
from jobtrail.db.errors import PASSING, Fault, NotConnectedError, fault_of
from jobtrail.db.group_commit import GroupCommit
from jobtrail.errors import UnavailableError
from jobtrail.jobs import job_session, submit
from jobtrail.jobs.checkpoint import CheckpointRecorder
from jobtrail.jobs.finish import OutcomeRecord, OutcomeRecorder, Recorded, settle
from jobtrail.jobs.insert import Inserted
from jobtrail.ops import batches
from jobtrail.records import NewJob
from jobtrail.worker.attempt import Attempt
from jobtrail.worker.leases import Leases
from jobtrail.worker.maintenance import Maintenance
from jobtrail.worker.worker import Worker
from mutants.events import OF_EVENTS
from mutants.mutant import Mutant, Patch


class EachOfItsOwn:
    """A limit key that no two jobs share."""

    def format(self, key: str) -> str:
        return f"unique:{key}:{uuid4()}"


def let_runs_overlap(patch: Patch) -> None:
    patch.setattr(submit, "LIMIT_KEY", EachOfItsOwn())


def commit_after_the_answer(patch: Patch) -> None:
    offer = GroupCommit.offer

    def answer_first(group: GroupCommit[Any, Any], row: Any) -> asyncio.Future[Any]:
        if not isinstance(row, NewJob):
            return offer(group, row)
        loop = asyncio.get_running_loop()
        loop.call_later(0.05, offer, group, row)
        answer = loop.create_future()
        answer.set_result(Inserted(datetime.now(UTC), datetime.now(UTC)))
        return answer

    patch.setattr(GroupCommit, "offer", answer_first)


def renew_on_the_main_loop(patch: Patch) -> None:
    def start(leases: Any) -> None:
        leases._main, leases._thread = asyncio.get_running_loop(), threading.main_thread()
        leases._task = asyncio.create_task(leases._run())

    async def stop(leases: Any) -> None:
        leases._stopping.set()
        await asyncio.wait({leases._task}, timeout=5)

    patch.setattr(Leases, "start", start)
    patch.setattr(Leases, "stop", stop)


def give_up_at_a_lost_connection(patch: Patch) -> None:
    patch.setattr(GroupCommit, "_again", lambda _group, fault, _began: fault is Fault.COLLISION)


def leave_orphans(patch: Patch) -> None:
    async def nothing(_worker: Worker, _orphans: object) -> None:
        pass

    patch.setattr(Worker, "_adopt", nothing)


def commit_effects_first(patch: Patch) -> None:
    finish = job_session.finish_within

    async def finish_alone(connection: Any, ending: OutcomeRecord, **more: Any) -> Recorded:
        await connection.commit()
        await connection.begin()
        return await finish(connection, ending, **more)

    patch.setattr(job_session, "finish_within", finish_alone)


def offer_only_while_unavailable(patch: Patch) -> None:
    async def offer(endings: Any, ending: OutcomeRecord) -> Recorded:
        while True:
            try:
                landing = await settle(endings._database, ending, node=endings._node)
                if landing is not Recorded.UNKNOWN:
                    return landing
            except UnavailableError:
                pass
            await asyncio.sleep(0.05)

    patch.setattr(OutcomeRecorder, "finish_alone", offer)


def hand_back_without_a_checkpoint(patch: Patch) -> None:
    begin = Attempt.begin

    def consenting(attempt: Attempt) -> None:
        attempt.resumes = True
        begin(attempt)

    patch.setattr(Attempt, "begin", consenting)


def checkpoint_later(patch: Patch) -> None:
    store = CheckpointRecorder.store

    async def at_once(recorder: CheckpointRecorder, *given: Any) -> bool:
        asyncio.get_running_loop().call_later(0.05, lambda: asyncio.ensure_future(store(recorder, *given)))
        await asyncio.sleep(0)  # a task that stores one after another would else never let go of the loop
        return True

    patch.setattr(CheckpointRecorder, "store", at_once)


def trust_in_hints_alone(patch: Patch) -> None:
    async def release(maintenance: Any) -> None:
        await batches.look(maintenance._services)
        await batches.finish_all(maintenance._services)

    patch.setattr(Maintenance, "_release", release)


def tell_refusals_as_mistakes(patch: Patch) -> None:
    limit = engine._limited

    @asynccontextmanager
    async def told(*given: Any) -> AsyncIterator[Any]:
        try:
            async with limit(*given) as lent:
                yield lent
        except NotConnectedError as error:
            if error.__cause__ is None or fault_of(error.__cause__) in PASSING:
                raise
            raise error.__cause__ from None

    patch.setattr(engine, "_limited", told)


MUTANTS: Final = (
    Mutant(
        "the fence's predicate removed",
        "tests/worker/test_leases.py",
        statements=[((r"\bid = (ANY\(ARRAY\[u\.id\]\)) AND (\w+\.)?attempt = u\.attempt"
                      r" AND (\w+\.)?node_id = (\$\d+\S*)"),
                     r"id = \1 AND CAST(\4 AS uuid) IS NOT NULL")],
    ),
    Mutant(
        "a rescue that does not look again under the lock",
        "tests/worker/test_judging.py",
        statements=[(r" FOR UPDATE SKIP LOCKED\) r\n", ") r\n"),
                    (r" AND j\.status \|\| '' = 'running'\n\s+AND j\.lease_until < statement_timestamp\(\)", "")],
    ),
    Mutant(
        "the guard trigger dropped",
        "tests/jobs/test_guard.py",
        statements=[(r"WHEN \(\(OLD\.id, OLD\.status", "WHEN (false AND (OLD.id, OLD.status")],
    ),
    Mutant("the commit moved after the answer", "tests/jobs/test_submit.py", commit_after_the_answer),
    Mutant("renewal on the main loop", "tests/worker/test_renewal.py", renew_on_the_main_loop),
    Mutant(
        "a plain read instead of FOR UPDATE after an unknown commit",
        "tests/worker/test_leases.py",
        statements=[(r"(SELECT status, node_id, attempt FROM jobtrail\.jobs WHERE id = \S+) FOR UPDATE", r"\1")],
    ),
    Mutant(
        "rescue without a judge",
        "tests/worker/test_judging.py",
        statements=[(r"AND EXISTS \((\s+SELECT FROM jobtrail\.nodes judge)", r"AND (true OR EXISTS (\1"),
                    (r"\.node_id\), judge\.lease\)\)", ".node_id), judge.lease)))")],
    ),
    Mutant(
        "a group that is not repeated after a lost connection",
        "tests/db/test_group.py",
        give_up_at_a_lost_connection,
    ),
    Mutant("a claim whose answer was lost is not adopted", "tests/worker/test_leases.py", leave_orphans),
    Mutant(
        "the effects of a job session committed before its end",
        "tests/jobs/test_job_session.py",
        commit_effects_first,
    ),
    Mutant(
        "a purge that does not look at the expiry",
        "tests/jobs/test_purge.py",
        statements=[(r"WHERE expires_at <= (statement_timestamp\(\) AND id <>)", r"WHERE finished_at <= \1"),
                    (r"WHEN \(OLD\.expires_at IS NULL OR OLD\.expires_at > clock", "WHEN (OLD.finished_at > clock")],
    ),
    Mutant(
        "a due time that another node was quicker with is taken again",
        "tests/ops/test_due.py",
        statements=[(r" AND s\.next_at = coalesce\(t\.was, '-infinity'\)", "")],
    ),
    Mutant(
        "a schedule that was made anew is taken for the one that was read",
        "tests/ops/test_due.py",
        statements=[(r"s\.edition = t\.edition AND ", "")],
    ),
    Mutant(
        "a job of a schedule that excludes no other",
        "tests/ops/test_due.py",
        statements=[(r"(u\.schedule, u\.scheduled_for), u\.exclusive\b", r"\1, NULL::boolean")],
    ),
    Mutant(
        "an end dropped at an SQLSTATE that is on no list",
        "tests/embed/test_kept_ends.py",
        offer_only_while_unavailable,
    ),
    Mutant(
        "a checkpoint without the fence",
        "tests/worker/test_checkpoints.py",
        statements=[((r"(SET cursor = u\.cursor\s+FROM [^;]+?WHERE j\.id = ANY\(ARRAY\[u\.id\]\))"
                      r" AND j\.attempt = u\.attempt AND j\.node_id = (\$\d+\S*)\s+AND j\.status \|\| '' = 'running'"),
                     r"\1 AND CAST(\2 AS uuid) IS NOT NULL")],
    ),
    Mutant("a checkpoint that is stored later", "tests/worker/test_checkpoints.py", checkpoint_later),
    Mutant(
        "a drain that hands back what made no checkpoint",
        "tests/worker/test_checkpoints.py",
        hand_back_without_a_checkpoint,
    ),
    Mutant(
        "a refused password told as a mistake of the service",
        "tests/embed/test_refused.py",
        tell_refusals_as_mistakes,
    ),
    Mutant(
        "a child released by the first parent that succeeds",
        "tests/jobs/test_after.py",
        statements=[(r" AND NOT EXISTS \(SELECT FROM jobtrail\.edges e WHERE e\.child = u\.child\)", "")],
    ),
    Mutant(
        "a parent that was purged taken for one that still runs",
        "tests/jobs/test_after.py",
        statements=[(r"ORDER BY seq DESC LIMIT 1\),\s+'unknown'\)", "ORDER BY seq DESC LIMIT 0), 'running')")],
    ),
    Mutant(
        "children released by two at once",
        "tests/jobs/test_after.py",
        statements=[(r"(WHERE j\.waits AND [^;]+? ORDER BY j\.id) FOR NO KEY UPDATE OF j", r"\1")],
    ),
    Mutant(
        "a child released by a parent that failed",
        "tests/jobs/test_after.py",
        statements=[(r"\(SELECT status FROM jobtrail\.jobs WHERE id = job\)",
                     "(SELECT replace(status, 'failed', 'succeeded') FROM jobtrail.jobs WHERE id = job)")],
    ),
    Mutant("a node that looks for no child whose hint was lost", "tests/jobs/test_after.py", trust_in_hints_alone),
    Mutant(
        "a batch that is done while one of its jobs still runs",
        "tests/ops/test_batches.py",
        statements=[(r"(ARRAY\[o\.id\]\) AND j\.status IN \('pending'), 'running'\)", r"\1)")],
    ),
    Mutant(
        "limits counted without holding their keys",
        "tests/ops/test_limits.py",
        statements=[(r"(WHERE key = ANY\(wanted\) ORDER BY key) FOR NO KEY UPDATE(?: SKIP LOCKED)?", r"\1")],
    ),
    Mutant(
        "a cost given back now, not when it was taken",
        "tests/ops/test_rates.py",
        statements=[(r"CASE WHEN u\.more < 0 THEN j\.started_at ELSE clock_timestamp\(\) END", "clock_timestamp()")],
    ),
    Mutant(
        "a started job that counts for the first of its keys only",
        "tests/ops/test_limits.py",
        statements=[(r"each\.key, (coalesce\(\(running ->> )each\.key(\)::bigint, 0\) \+ 1)",
                     r"candidate.keys[1], \1candidate.keys[1]\2")],
    ),
    Mutant(
        "a replacement that keeps the arguments of before",
        "tests/jobs/test_unique.py",
        statements=[(r"('replaced', created_by = \S+\s+)args = CAST\(CAST\(\S+ AS text\) AS jsonb\)",
                     r"\1args = args")],
    ),
    Mutant("a debounced key whose runs overlap", "tests/jobs/test_unique.py", let_runs_overlap),
    Mutant(
        "a follow-up that begins before the attempt that failed is repeated",
        "tests/jobs/test_unique.py",
        statements=[(r"AND b\.replaceable AND b\.status \|\| '' = 'pending' AND b\.attempt > 0", "AND false")],
    ),
    *OF_EVENTS,
)  # fmt: skip
