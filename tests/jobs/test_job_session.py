"""What a task writes through its job session commits together with its end, or not at all."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from jobtrail.errors import CommitFailedError, JobSessionError
from jobtrail.jobs.cancel import Cancellation, cancel_group
from jobtrail.jobs.finish import Recorded
from jobtrail.jobs.job_session import JobSession
from jobtrail.jobs.rescue import rescue_batch
from support.effects import Effect, Job, is_gone, write
from support.rows import trail
from support.until import until
from support.world import judge


async def test_effects_and_end_commit_together(job: Job) -> None:
    session = await job.open()
    await write(session, "by a statement")
    session.add(Effect(name="by an object, not flushed"))
    assert await job.found() == ("running", [])
    job.ending = replace(job.ending, progress='{"done": 2}')
    assert await job.complete(session) is Recorded.YES
    assert await job.found() == ("succeeded", ["by a statement", "by an object, not flushed"])
    assert await job.place.value("SELECT progress ->> 'done' FROM jobtrail.jobs") == "2"
    assert [to for *_, to in await trail(job.place, job.ending.id)] == ["pending", "running", "succeeded"]
    # the row itself has the id of a savepoint
    xids = "SELECT xmin::text FROM effects UNION SELECT xact::text FROM jobtrail.transitions WHERE seq = 3"
    assert [row["xmin"] for row in await job.place.rows(xids)] == [session.transaction]


async def begin(session: JobSession) -> None:
    async with session.begin():
        pass


ENDS: dict[str, Callable[[JobSession], Awaitable[object]]] = {
    "commit": lambda session: session.commit(),
    "rollback": lambda session: session.rollback(),
    "close": lambda session: session.close(),
    "reset": lambda session: session.reset(),
    "invalidate": lambda session: session.invalidate(),
    "begin": begin,
    "commit in run_sync": lambda session: session.run_sync(lambda inner: inner.commit()),
}


@pytest.mark.parametrize("verb", ENDS)
async def test_a_task_cannot_end_it(job: Job, verb: str) -> None:
    session = await job.open()
    async with session:
        await write(session, "before")
    with pytest.raises(JobSessionError, match=r"commits the job session .*begin_nested"):
        await ENDS[verb](session)
    await write(session, "after")
    assert await job.complete(session) is Recorded.YES
    assert await job.found() == ("succeeded", ["after", "before"])


async def test_a_part_of_it_may_be_undone(job: Job) -> None:
    session = await job.open()
    await write(session, "kept")
    with suppress(IntegrityError):
        async with session.begin_nested():
            await write(session, "undone")
            await write(session, "kept")
    await session.run_sync(lambda inner: inner.begin_nested().rollback())
    await session.begin_nested()  # and left open
    await write(session, "kept too")
    assert await job.complete(session) is Recorded.YES
    assert await job.found() == ("succeeded", ["kept", "kept too"])


@pytest.mark.parametrize("wrong", ["node", "attempt", "claimed again", "ended"])
async def test_nothing_remains_of_an_attempt_that_lost_its_job(
    job: Job, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    session = await job.open()
    await write(session, "late")
    match wrong:
        case "node":
            job.node = uuid4()
        case "attempt":
            job.ending = replace(job.ending, attempt=2)
        case "ended":
            assert await job.complete(await job.open()) is Recorded.YES
        case _:
            await job.place.psql.execute("UPDATE jobtrail.jobs SET lease_until = now()")
            await rescue_batch(job.place.database, node=await judge(job.place), actor="node x", most=1)
            await job.claim()
    before = await job.place.rows("SELECT * FROM jobtrail.jobs")
    with caplog.at_level(logging.WARNING):
        assert await job.complete(session) is Recorded.STALE
    assert "stale: attempt" in caplog.text
    assert await job.place.rows("SELECT * FROM jobtrail.jobs") == before
    assert await job.effects() == []


async def swallowed(session: JobSession) -> None:
    with pytest.raises(IntegrityError):
        await session.execute(text("INSERT INTO effects VALUES ('1'), ('1')"))


async def swallowed_flush(session: JobSession) -> None:
    session.add(Effect(name="written"))
    with pytest.raises(IntegrityError):
        await session.flush()


async def cancelled(session: JobSession) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(session.execute(text("SELECT pg_sleep(60)")), 0.05)


async def add_twice(session: JobSession) -> None:
    session.add(Effect(name="written"))


async def commit_beneath(session: JobSession) -> None:
    await (await session.connection()).commit()


async def roll_back_beneath(session: JobSession) -> None:
    await (await session.connection()).rollback()


async def close_beneath(session: JobSession) -> None:
    await (await session.connection()).close()


UNDONE: dict[str, tuple[Callable[[JobSession], Awaitable[object]], str]] = {
    "a flush that fails": (add_twice, 'the task wrote was not committed: duplicate key .* "effects_pkey"'),
    "a deferred check": (lambda session: write(session, "a", "b"), "not committed: .* violates foreign key constraint"),
    "a swallowed error": (swallowed, "task swallowed the error: duplicate key value .*; let the error out, or"),
    "a swallowed flush": (swallowed_flush, "task swallowed the error: duplicate key .*begin_nested"),
    "a cancelled statement": (cancelled, "a statement was cancelled under way, which ends the session"),
    "ROLLBACK": (lambda session: session.execute(text("ROLLBACK")), "the task ended the transaction"),
    "a rollback beneath": (roll_back_beneath, "the task ended the transaction"),
    "a close beneath": (close_beneath, "not committed: This Connection is closed"),
}


@pytest.mark.parametrize("how", UNDONE)
async def test_what_did_not_commit_leaves_nothing(job: Job, how: str) -> None:
    session = await job.open()
    await write(session, "written")
    act, said = UNDONE[how]
    await act(session)
    with pytest.raises(CommitFailedError, match=said):
        await job.complete(session)
    assert await job.found() == ("running", [])
    assert await job.complete(await job.open()) is Recorded.YES  # the row is free, and the attempt still its own


@pytest.mark.parametrize("how", [commit_beneath, lambda session: session.execute(text("COMMIT"))])
async def test_a_task_that_commits_behind_our_back_does_not_succeed(
    job: Job, how: Callable[[JobSession], Awaitable[object]]
) -> None:
    session = await job.open()
    await write(session, "kept")
    await how(session)
    session.add(Effect(name="not flushed any more"))
    with pytest.raises(
        CommitFailedError, match=r"ended the transaction .* may be committed; leave COMMIT and ROLLBACK"
    ):
        await job.complete(session)
    assert await job.found() == ("running", ["kept"])


@pytest.mark.parametrize("notices", ["the task", "the commit"])
async def test_idle_for_longer_than_the_lease(job: Job, notices: str) -> None:
    session = await job.open(timedelta(seconds=0.1))
    await write(session, "written")
    pid = await session.scalar(text("SELECT pg_backend_pid()"))
    await until(lambda: is_gone(job.place, pid))
    said = r"idle for 0\.\d+ s; .* lease of 0\.1 s; do the slow part first, and open the session after it"
    if notices == "the task":
        with pytest.raises(CommitFailedError, match=said):
            await write(session, "more")
    with pytest.raises(CommitFailedError, match=said):
        await job.complete(session)
    assert await job.found() == ("running", [])


async def test_a_statement_that_another_ends_is_told_as_it_is(job: Job) -> None:
    """Also when it took longer than the lease: a session that works is not idle."""
    session = await job.open(timedelta(seconds=0.05))
    with pytest.raises(DBAPIError, match="terminating connection due to administrator command"):
        await session.execute(text("SELECT pg_sleep(0.1), pg_terminate_backend(pg_backend_pid())"))
    with pytest.raises(CommitFailedError, match="terminating connection due to administrator command"):
        await job.complete(session)


async def test_a_locked_row_costs_no_effects(job: Job) -> None:
    session = await job.open()
    await write(session, "kept")
    await session.execute(text("SET LOCAL lock_timeout = '20ms'"))
    transaction = job.place.psql.transaction()
    await transaction.start()
    await job.place.psql.execute("UPDATE jobtrail.jobs SET tags = '{mine}'")
    completing = asyncio.create_task(job.complete(session))
    done, _ = await asyncio.wait({completing}, timeout=0.3)
    assert not done
    await transaction.commit()
    assert await completing is Recorded.YES
    assert await job.found() == ("succeeded", ["kept"])


async def test_success_outlives_a_cancel_request(job: Job) -> None:
    session = await job.open()
    await write(session, "done")
    await cancel_group(job.place.database, [Cancellation(job.ending.id, "ann", None)])
    assert await job.complete(session) is Recorded.YES
    assert await job.found() == ("succeeded", ["done"])
