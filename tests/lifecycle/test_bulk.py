"""Many jobs at once: what is counted, what is moved, what is left alone, and what the history says of each."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from jobtrail.job.errors import InvalidInputError, JobConflictError, UnavailableError
from jobtrail.job.status import Status
from jobtrail.lifecycle import bulk as module
from jobtrail.lifecycle.bulk import Action, Bulk, bulk
from jobtrail.lifecycle.cancel import cancel
from jobtrail.lifecycle.desk import Desk
from jobtrail.lifecycle.retry import retry
from jobtrail.store.jobs import Filter
from support import house
from support.database import Place
from support.rows import WHOLE, born, in_status, moved, trail
from support.until import until

NOOP = Filter(task=("noop",))
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def desk(place: Place) -> Desk:
    return house.desk_at(place)


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two jobs in a batch."""
    monkeypatch.setattr(module, "BATCH", 2)


def counts(done: Bulk) -> tuple[int, int, int]:
    return done.matched, done.changed, done.remaining


async def statuses(place: Place) -> dict[UUID, str]:
    return {row["id"]: row["status"] for row in await place.rows("SELECT id, status FROM jobtrail.jobs")}


async def failed(place: Place, count: int) -> list[UUID]:
    return [await in_status(place, Status.FAILED) for _ in range(count)]


def meanwhile(place: Place, *statements: str, job: UUID) -> None:
    """Done by somebody else, before this returns, between two awaits of the caller."""

    async def act() -> None:
        connection = await asyncpg.connect(place.url.libpq)
        for statement in statements:
            await connection.execute(f"UPDATE jobtrail.jobs SET {statement} WHERE id = $1", job)
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


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
async def test_a_bulk_retry_is_many_single_ones(desk: Desk, place: Place, status: Status) -> None:
    single, *many = [await in_status(place, status, tags=["a"]) for _ in range(3)]
    await retry(desk, single, by="ann")
    assert counts(await bulk(desk, Action.RETRY, NOOP, by="ann")) == (2, 2, 0)
    await assert_alike(place, single, many)
    assert (await trail(place, many[0]))[-1][1:] == (status, Status.PENDING)


@pytest.mark.parametrize("status", [Status.PENDING, Status.RUNNING])
@pytest.mark.parametrize("reason", ["wrong file", None])
async def test_a_bulk_cancel_is_many_single_ones(desk: Desk, place: Place, status: Status, reason: str | None) -> None:
    single, *many = [await in_status(place, status) for _ in range(3)]
    await cancel(desk, single, by="ann", reason=reason)
    assert counts(await bulk(desk, Action.CANCEL, NOOP, by="ann", reason=reason)) == (2, 2, 0)
    await assert_alike(place, single, many)
    last = await place.rows("SELECT actor, reason FROM jobtrail.transitions WHERE job_id = $1", many[0])
    if status is Status.PENDING:
        assert last[-1] == {"actor": "ann", "reason": reason or "cancelled"}


async def assert_alike(place: Place, single: UUID, many: Sequence[UUID]) -> None:
    """Rows and histories, but for ids; of times only whether there is one."""
    kept = """to_jsonb(x) - ARRAY['id', 'job_id', 'trace_id', 'xact', 'node_id']
        || (SELECT jsonb_object_agg(name, value IS NOT NULL) FROM jsonb_each_text(to_jsonb(x)) e(name, value)
             WHERE name LIKE '%\\_at' OR name IN ('at', 'lease_until'))"""
    row = f"SELECT {kept} AS found FROM jobtrail.jobs x WHERE id = $1"
    moves = f"SELECT {kept} AS found FROM jobtrail.transitions x WHERE job_id = $1 ORDER BY seq"
    for query in (row, moves):
        expected = await place.rows(query, single)
        assert expected
        assert [await place.rows(query, each) for each in many] == [expected] * len(many)


@pytest.mark.usefixtures("pairs")
async def test_batches_are_told_and_are_commits_of_their_own(desk: Desk, place: Place) -> None:
    await failed(place, 5)
    told: list[tuple[int, int]] = []
    done = await bulk(desk, Action.RETRY, NOOP, by="ann", on_batch=lambda *each: told.append(each))
    moves = await place.rows("SELECT xact, count(*) AS jobs FROM jobtrail.transitions WHERE actor = 'ann' GROUP BY 1")
    assert (counts(done), told) == ((5, 5, 0), [(2, 5), (4, 5), (5, 5)])
    assert sorted(move["jobs"] for move in moves) == [1, 2, 2]


@pytest.mark.usefixtures("pairs")
async def test_the_most_are_the_oldest(desk: Desk, place: Place) -> None:
    jobs = await failed(place, 5)
    told: list[tuple[int, int]] = []
    done = await bulk(desk, Action.RETRY, NOOP, by="ann", most=3, on_batch=lambda *each: told.append(each))
    assert (counts(done), told) == ((5, 3, 2), [(2, 3), (3, 3)])
    found = await statuses(place)
    assert [found[job] for job in jobs] == ["pending"] * 3 + ["failed"] * 2
    assert counts(await bulk(desk, Action.RETRY, NOOP, by="ann", most=3)) == (2, 2, 0)


@pytest.mark.parametrize("action", Action)
async def test_a_dry_run_counts_and_changes_nothing(desk: Desk, place: Place, action: Action) -> None:
    for status in Status:
        await in_status(place, status)
    before = await place.rows("SELECT * FROM jobtrail.jobs ORDER BY id")
    done = await bulk(desk, action, NOOP, by="ann", dry_run=True)
    assert counts(done) == (2, 0, 2)
    assert await place.rows("SELECT * FROM jobtrail.jobs ORDER BY id") == before


@pytest.mark.parametrize(
    ("action", "before", "after"),
    [
        (Action.RETRY, Status.FAILED, "pending"),
        (Action.RETRY, Status.CANCELLED, "pending"),
        (Action.CANCEL, Status.PENDING, "cancelled"),
    ],
)
@pytest.mark.parametrize(
    "columns",
    [
        {"queue": "mail"},
        {"task": "other"},
        {"tags": ["a", "b"]},
        {"trace_id": TRACE},
        {"created_at": "then"},
    ],
    ids=lambda columns: next(iter(columns)),
)
async def test_a_filter_chooses_as_in_the_list(
    desk: Desk, place: Place, action: Action, before: Status, after: str, columns: dict[str, Any]
) -> None:
    then = datetime.fromisoformat("2020-01-31T12:00:00Z")
    values = {name: then if value == "then" else value for name, value in columns.items()}
    others = [await in_status(place, status) for status in Status]
    chosen = await in_status(place, before, **values)
    filters = {
        "queue": Filter(queue=("mail", "post")),
        "task": Filter(task=("other",), status=(before,)),
        "tags": Filter(tags=("b", "a")),
        "trace_id": Filter(trace_id=(TRACE,)),
        "created_at": Filter(created_after=then - timedelta(1), created_before=then + timedelta(1)),
    }
    untouched = {job: status for job, status in (await statuses(place)).items() if job in others}
    done = await bulk(desk, action, filters[next(iter(columns))], by="ann")
    assert counts(done) == (1, 1, 0)
    assert await statuses(place) == untouched | {chosen: after}


async def test_a_running_job_is_asked_once(desk: Desk, place: Place) -> None:
    asked, running = [await in_status(place, Status.RUNNING) for _ in range(2)]
    await cancel(desk, asked, by="bob", reason="first")
    assert counts(await bulk(desk, Action.CANCEL, NOOP, by="ann", reason="second")) == (1, 1, 0)
    assert counts(await bulk(desk, Action.CANCEL, NOOP, by="ann", reason="third")) == (0, 0, 0)
    rows = await place.rows("SELECT id, cancel_requested_by, cancel_reason FROM jobtrail.jobs")
    assert {row["id"]: (row["cancel_requested_by"], row["cancel_reason"]) for row in rows} == {
        asked: ("bob", "first"), running: ("ann", "second")
    }  # fmt: skip
    assert len(await trail(place, running)) == 2


@pytest.mark.usefixtures("pairs")
@pytest.mark.parametrize("place_of_lock", range(5))
async def test_a_locked_row_holds_nobody_up(desk: Desk, place: Place, place_of_lock: int) -> None:
    jobs = await failed(place, 5)
    async with locked(place, jobs[place_of_lock]):
        async with asyncio.timeout(2):
            assert counts(await bulk(desk, Action.RETRY, NOOP, by="ann")) == (5, 4, 1)
        assert [job for job, status in (await statuses(place)).items() if status == "failed"] == [jobs[place_of_lock]]
    assert counts(await bulk(desk, Action.RETRY, NOOP, by="ann")) == (1, 1, 0)


@pytest.mark.usefixtures("pairs")
async def test_a_job_that_fails_again_is_not_met_again(desk: Desk, place: Place) -> None:
    jobs = await failed(place, 5)

    def fail_again(done: int, _total: int) -> None:
        meanwhile(place, WHOLE[Status.RUNNING], WHOLE[Status.FAILED], job=jobs[done - 1])

    assert counts(await bulk(desk, Action.RETRY, NOOP, by="ann", on_batch=fail_again)) == (5, 5, 0)
    assert [len(await trail(place, job)) for job in jobs] == [4, 6, 4, 6, 6]
    assert counts(await bulk(desk, Action.RETRY, NOOP, by="ann", dry_run=True)) == (3, 0, 3)


@pytest.mark.usefixtures("pairs")
async def test_what_moves_between_count_and_act_is_somebody_elses(desk: Desk, place: Place) -> None:
    jobs = await failed(place, 3)

    def go_back(done: int, _total: int) -> None:
        if done == 2:
            meanwhile(place, WHOLE[Status.PENDING], job=jobs[2])

    assert counts(await bulk(desk, Action.RETRY, NOOP, by="ann", on_batch=go_back)) == (3, 2, 0)
    actors = await place.rows("SELECT actor FROM jobtrail.transitions WHERE job_id = $1 AND seq = 4", jobs[2])
    assert [row["actor"] for row in actors] != ["ann"]


@pytest.mark.usefixtures("pairs")
async def test_what_comes_after_the_call_began_is_left_alone(desk: Desk, place: Place) -> None:
    for _ in range(3):
        await born(place)

    def submit(_done: int, _total: int) -> None:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, insert(place)).result()

    assert counts(await bulk(desk, Action.CANCEL, NOOP, by="ann", on_batch=submit)) == (3, 3, 0)
    assert sorted((await statuses(place)).values()) == ["cancelled"] * 3 + ["pending"] * 2


async def insert(place: Place) -> None:
    connection = await asyncpg.connect(place.url.libpq)
    await connection.execute("INSERT INTO jobtrail.jobs (id, task) VALUES (gen_random_uuid(), 'noop')")
    await connection.close()


async def test_what_was_counted_is_what_is_moved(desk: Desk, place: Place) -> None:
    counted = await failed(place, 2)
    running = await in_status(place, Status.RUNNING)
    dry = await bulk(desk, Action.RETRY, NOOP, by="ann", dry_run=True)
    await failed(place, 1)
    await moved(place, running, Status.FAILED)
    assert counts(await bulk(desk, Action.RETRY, NOOP, by="ann", as_of=dry.as_of)) == (2, 2, 0)
    assert {job for job, status in (await statuses(place)).items() if status == "pending"} == set(counted)


@pytest.mark.usefixtures("pairs")
@pytest.mark.parametrize(("action", "status"), [(Action.RETRY, Status.FAILED), (Action.CANCEL, Status.PENDING)])
async def test_calls_at_once_share_the_jobs(desk: Desk, place: Place, action: Action, status: Status) -> None:
    jobs = [await in_status(place, status) for _ in range(20)]
    done = await asyncio.gather(*(bulk(desk, action, NOOP, by=f"caller {number}") for number in range(4)))
    # what all of them found locked by one another is left for another call
    done.append(await bulk(desk, action, NOOP, by="the last"))
    assert (sum(each.changed for each in done), done[-1].remaining) == (20, 0)
    lengths = {len(await trail(place, job)) for job in jobs}
    assert lengths == {4 if action is Action.RETRY else 2}


@pytest.mark.usefixtures("pairs")
async def test_single_moves_at_the_same_time_move_each_job_once(desk: Desk, place: Place) -> None:
    jobs = await failed(place, 12)
    done, *singles = await asyncio.gather(
        bulk(desk, Action.RETRY, NOOP, by="ann"),
        *(retry(desk, job, by="bob") for job in jobs),
        return_exceptions=True,
    )
    assert isinstance(done, Bulk)
    moved_alone = [each for each in singles if not isinstance(each, BaseException)]
    assert {type(each) for each in singles if isinstance(each, BaseException)} <= {JobConflictError}
    assert done.changed + len(moved_alone) == 12
    assert {len(await trail(place, job)) for job in jobs} == {4}


@pytest.mark.usefixtures("pairs")
async def test_who_is_stopped_in_the_middle_waits_for_the_batch_in_flight(desk: Desk, place: Place) -> None:
    jobs = await failed(place, 6)
    told: list[int] = []
    async with stuck_history(place, jobs[3]) as let_go:
        calling = asyncio.create_task(
            bulk(desk, Action.RETRY, NOOP, by="ann", on_batch=lambda done, _: told.append(done))
        )
        await until(lambda: somebody_waits(place))
        calling.cancel()
        await let_go()
        with pytest.raises(asyncio.CancelledError):
            await calling
    assert told == [2, 4]
    assert list((await statuses(place)).values()).count("pending") == 4


@pytest.mark.usefixtures("pairs")
async def test_a_lost_connection_leaves_what_was_committed(desk: Desk, place: Place) -> None:
    jobs = await failed(place, 6)
    told: list[int] = []
    async with stuck_history(place, jobs[3]):
        calling = asyncio.create_task(
            bulk(desk, Action.RETRY, NOOP, by="ann", on_batch=lambda done, _: told.append(done))
        )
        await until(lambda: somebody_waits(place))
        await place.psql.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted")
        with pytest.raises(UnavailableError):
            await calling
    assert told == [2]
    assert list((await statuses(place)).values()).count("pending") == 2


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
    return bool(await place.value("SELECT count(*) FROM pg_locks WHERE NOT granted"))


@pytest.mark.parametrize("action", Action)
async def test_a_filter_that_names_nothing_is_refused(desk: Desk, place: Place, action: Action) -> None:
    for status in Status:
        await in_status(place, status)
    before = await statuses(place)
    for empty in (Filter(), Filter([], [], [], [], [])):
        with pytest.raises(InvalidInputError, match="an empty filter would mean every job"):
            await bulk(desk, action, empty, by="ann")
    assert await statuses(place) == before


@pytest.mark.parametrize(
    ("action", "wrong", "fitting"),
    [
        (Action.RETRY, (Status.PENDING, Status.RUNNING, Status.SUCCEEDED), "failed or cancelled"),
        (Action.CANCEL, (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED), "pending or running"),
    ],
)
async def test_a_status_that_the_action_never_fits_is_refused(
    desk: Desk, action: Action, wrong: Sequence[Status], fitting: str
) -> None:
    assert {*wrong, *action.statuses} == set(Status)
    for status in wrong:
        with pytest.raises(InvalidInputError) as error:
            await bulk(desk, action, Filter(status=(*action.statuses, status)), by="ann")
        (flaw,) = error.value.flaws
        assert flaw.pointer == "/status/2"
        assert flaw.detail == f"a {action} never fits a job that is {status}, only one that is {fitting}"
