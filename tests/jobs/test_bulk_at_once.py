"""Many jobs at once while somebody else moves, locks or inserts the same rows, or the call itself ends halfway."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from jobtrail.errors import JobConflictError, UnavailableError
from jobtrail.jobs.bulk import Action, Bulk, bulk
from jobtrail.jobs.retry import retry
from jobtrail.jobs.services import Services
from jobtrail.status import Status
from support.bulk import NOOP, counts, failed, statuses
from support.rows import WHOLE, born, in_status, trail
from support.until import until
from support.world import Place


def meanwhile(place: Place, *statements: str) -> None:
    """Done by somebody else, before this returns, between two awaits of the caller."""

    async def act() -> None:
        connection = await asyncpg.connect(place.url.libpq)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, act()).result()


@asynccontextmanager
async def locked(place: Place, job_id: UUID) -> AsyncIterator[None]:
    connection = await asyncpg.connect(place.url.libpq)
    async with connection.transaction():
        await connection.execute("SELECT FROM jobtrail.jobs WHERE id = $1 FOR UPDATE", job_id)
        yield
    await connection.close()


@pytest.mark.usefixtures("pairs")
@pytest.mark.parametrize("place_of_lock", range(5))
async def test_a_locked_row_holds_nobody_up(services: Services, place: Place, place_of_lock: int) -> None:
    jobs = await failed(place, 5)
    async with locked(place, jobs[place_of_lock]):
        async with asyncio.timeout(60):
            assert counts(await bulk(services, Action.RETRY, NOOP, by="ann")) == (5, 4, 1)
        assert [job for job, status in (await statuses(place)).items() if status == "failed"] == [jobs[place_of_lock]]
    assert counts(await bulk(services, Action.RETRY, NOOP, by="ann")) == (1, 1, 0)


@pytest.mark.usefixtures("pairs")
async def test_a_job_that_fails_again_is_not_met_again(services: Services, place: Place) -> None:
    jobs = await failed(place, 5)

    def fail_again(done: int, _total: int) -> None:
        update = f"UPDATE jobtrail.jobs SET {{}} WHERE id = '{jobs[done - 1]}'"
        meanwhile(place, *(update.format(WHOLE[status]) for status in (Status.RUNNING, Status.FAILED)))

    assert counts(await bulk(services, Action.RETRY, NOOP, by="ann", on_batch=fail_again)) == (5, 5, 0)
    assert [len(await trail(place, job)) for job in jobs] == [4, 6, 4, 6, 6]
    assert counts(await bulk(services, Action.RETRY, NOOP, by="ann", dry_run=True)) == (3, 0, 3)


@pytest.mark.usefixtures("pairs")
async def test_what_moves_between_count_and_act_is_somebody_elses(services: Services, place: Place) -> None:
    jobs = await failed(place, 3)

    def go_back(done: int, _total: int) -> None:
        if done == 2:
            meanwhile(place, f"UPDATE jobtrail.jobs SET {WHOLE[Status.PENDING]} WHERE id = '{jobs[2]}'")

    assert counts(await bulk(services, Action.RETRY, NOOP, by="ann", on_batch=go_back)) == (3, 2, 0)
    actors = await place.rows("SELECT actor FROM jobtrail.transitions WHERE job_id = $1 AND seq = 4", jobs[2])
    assert [row["actor"] for row in actors] != ["ann"]


@pytest.mark.usefixtures("pairs")
async def test_what_comes_after_the_call_began_is_left_alone(services: Services, place: Place) -> None:
    for _ in range(3):
        await born(place)

    def submit(_done: int, _total: int) -> None:
        meanwhile(place, "INSERT INTO jobtrail.jobs (id, task) VALUES (gen_random_uuid(), 'noop')")

    assert counts(await bulk(services, Action.CANCEL, NOOP, by="ann", on_batch=submit)) == (3, 3, 0)
    assert sorted((await statuses(place)).values()) == ["cancelled"] * 3 + ["pending"] * 2


@pytest.mark.usefixtures("pairs")
@pytest.mark.parametrize(("action", "status"), [(Action.RETRY, Status.FAILED), (Action.CANCEL, Status.PENDING)])
async def test_calls_at_once_share_the_jobs(services: Services, place: Place, action: Action, status: Status) -> None:
    jobs = [await in_status(place, status) for _ in range(20)]
    done = await asyncio.gather(*(bulk(services, action, NOOP, by=f"caller {number}") for number in range(4)))
    # what all of them found locked by one another is left for another call
    done.append(await bulk(services, action, NOOP, by="the last"))
    assert (sum(each.changed for each in done), done[-1].remaining) == (20, 0)
    lengths = {len(await trail(place, job)) for job in jobs}
    assert lengths == {4 if action is Action.RETRY else 2}


@pytest.mark.usefixtures("pairs")
async def test_single_moves_at_the_same_time_move_each_job_once(services: Services, place: Place) -> None:
    jobs = await failed(place, 12)
    done, *singles = await asyncio.gather(
        bulk(services, Action.RETRY, NOOP, by="ann"),
        *(retry(services, job, by="bob") for job in jobs),
        return_exceptions=True,
    )
    assert isinstance(done, Bulk)
    moved_alone = [each for each in singles if not isinstance(each, BaseException)]
    assert {type(each) for each in singles if isinstance(each, BaseException)} <= {JobConflictError}
    assert done.changed + len(moved_alone) == 12
    assert {len(await trail(place, job)) for job in jobs} == {4}


@pytest.mark.usefixtures("pairs")
@pytest.mark.parametrize("how", ["stopped", "disconnected"])
async def test_what_was_told_is_what_was_committed(services: Services, place: Place, how: str) -> None:
    """Who is stopped in the middle waits for the batch in flight; one whose connection is lost is undone."""
    jobs = await failed(place, 6)
    told: list[int] = []
    async with stuck_history(place, jobs[3]) as let_go:
        calling = asyncio.create_task(
            bulk(services, Action.RETRY, NOOP, by="ann", on_batch=lambda done, _: told.append(done))
        )
        await until(lambda: somebody_waits(place))
        if how == "stopped":
            calling.cancel()
            await let_go()
        else:
            await place.psql.execute(f"SELECT pg_terminate_backend(pid) {WAITING}")
        with pytest.raises(asyncio.CancelledError if how == "stopped" else UnavailableError):
            await calling
    assert told == ([2, 4] if how == "stopped" else [2])
    assert list((await statuses(place)).values()).count("pending") == told[-1]


WAITING = "FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


@asynccontextmanager
async def stuck_history(place: Place, job_id: UUID) -> AsyncIterator[Any]:
    """The next move of this job waits, until what this gives back is awaited: somebody else is writing the same row."""
    connection = await asyncpg.connect(place.url.libpq)
    other = connection.transaction()
    await other.start()
    await connection.execute("SET LOCAL session_replication_role = replica")
    await connection.execute(
        """INSERT INTO jobtrail.transitions (job_id, seq, attempt, to_status, actor, trace_id, task)
           VALUES ($1, 4, 1, 'pending', 'x', 'x', 'x')""",
        job_id,
    )

    async def let_go() -> None:
        await connection.close()

    yield let_go
    await connection.close()


async def somebody_waits(place: Place) -> bool:
    return bool(await place.value(f"SELECT count(*) {WAITING}"))
