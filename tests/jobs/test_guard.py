"""The table refuses every birth and move that the state machine does not know, from psql too, and half-filled rows."""

import itertools

import asyncpg
import pytest

from jobtrail.status import PURGED, Status, is_legal
from support.rows import PATHS, WHOLE, born, in_status, moved, trail, typed
from support.world import Place

PAIRS = [(before, after) for before, after in itertools.product(Status, Status) if before is not after]


@pytest.mark.parametrize(("before", "after"), PAIRS)
async def test_every_pair_of_statuses(place: Place, before: Status, after: Status) -> None:
    """Also that the history begins at birth and is complete."""
    job_id = await in_status(place, before)
    steps = [None, Status.PENDING, *PATHS[before]]
    known = [(seq, came, went) for seq, (came, went) in enumerate(itertools.pairwise(steps), 1)]
    assert await trail(place, job_id) == known
    if is_legal(before, after):
        await moved(place, job_id, after)
        assert await trail(place, job_id) == [*known, (len(known) + 1, before, after)]
    else:
        for move in (moved, typed):
            with pytest.raises(asyncpg.CheckViolationError, match=f"cannot move from {before} to {after}") as refused:
                await move(place, job_id, after)
            assert refused.value.hint
        assert await trail(place, job_id) == known


@pytest.mark.parametrize("status", Status)
async def test_a_move_to_the_same_status_is_none(place: Place, status: Status) -> None:
    job_id = await in_status(place, status)
    known = await trail(place, job_id)
    await place.psql.execute("UPDATE jobtrail.jobs SET tags = '{seen}' WHERE id = $1", job_id)
    assert await trail(place, job_id) == known
    counted = place.psql.execute("UPDATE jobtrail.jobs SET seq = seq + 1 WHERE id = $1", job_id)
    if status is Status.PENDING:  # a change of a pending job, as the service makes it
        await counted
        assert await trail(place, job_id) == [*known, (2, Status.PENDING, Status.PENDING)]
    else:
        with pytest.raises(asyncpg.CheckViolationError, match="cannot move"):
            await counted


PARKING = [("limit_keys", ["tenant:a"]), ("waits", True)]


@pytest.mark.parametrize(("column", "value"), PARKING)
async def test_a_job_that_waits_for_more_than_its_time_is_parked(place: Place, column: str, value: object) -> None:
    """Born so, set back in psql, given back and told to wait: no claim of any release takes it."""
    times = "SELECT run_at, due_at > now() - interval '1 minute' FROM jobtrail.jobs WHERE id = $1"
    job_id = await in_status(place, Status.FAILED, **{column: value})
    await typed(place, job_id, Status.PENDING)
    assert tuple((await place.rows(times, job_id))[0].values()) == (None, True)
    await place.psql.execute("UPDATE jobtrail.jobs SET run_at = now() - interval '1 day' WHERE id = $1", job_id)
    assert tuple((await place.rows(times, job_id))[0].values()) == (None, False)
    other = await born(place)
    await place.psql.execute(f"UPDATE jobtrail.jobs SET {column} = $2 WHERE id = $1", other, value)
    assert tuple((await place.rows(times, other))[0].values()) == (None, True)
    await place.psql.execute(f"UPDATE jobtrail.jobs SET {column} = DEFAULT WHERE id = $1", other)
    assert (await place.rows("SELECT run_at < now() AS due, due_at FROM jobtrail.jobs WHERE id = $1", other)) == [
        {"due": True, "due_at": None}
    ]
    free = await born(place)
    assert (await place.rows("SELECT due_at FROM jobtrail.jobs WHERE id = $1", free))[0]["due_at"] is None


async def test_a_move_made_in_sql_has_the_session_user(place: Place) -> None:
    await place.psql.execute("DROP ROLE IF EXISTS auditor_bob")
    await place.psql.execute("CREATE ROLE auditor_bob LOGIN")
    await place.psql.execute("GRANT USAGE ON SCHEMA jobtrail TO auditor_bob")
    await place.psql.execute("GRANT SELECT, UPDATE ON jobtrail.jobs TO auditor_bob")
    job_id = await born(place, created_by="ann", moved_by="ann")
    bob = await asyncpg.connect(place.url.libpq, user="auditor_bob")
    try:
        await bob.execute(f"UPDATE jobtrail.jobs SET {WHOLE[Status.CANCELLED]} WHERE id = $1", job_id)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await bob.execute("DELETE FROM jobtrail.transitions")
    finally:
        await bob.close()
        await place.psql.execute("DROP OWNED BY auditor_bob")
        await place.psql.execute("DROP ROLE auditor_bob")
    last = (await place.rows("SELECT actor, reason FROM jobtrail.transitions WHERE job_id = $1 AND seq = 2", job_id))[0]
    assert last == {"actor": "auditor_bob", "reason": "sql"}


@pytest.mark.parametrize(
    "birth",
    [
        "status, attempt, node_id, lease_until) VALUES (gen_random_uuid(), 'x', 'running', 1, gen_random_uuid(), now()",
        "status, finished_at, attempt, expires_at) VALUES (gen_random_uuid(), 'x', 'succeeded', now(), 1, now()",
        "attempt) VALUES (gen_random_uuid(), 'x', 1",
        "seq) VALUES (gen_random_uuid(), 'x', 7",
    ],
)
async def test_a_row_is_born_pending(place: Place, birth: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="born pending"):
        await place.psql.execute(f"INSERT INTO jobtrail.jobs (id, task, {birth})")


@pytest.mark.parametrize(
    ("status", "change", "constraint"),
    [
        (Status.RUNNING, "lease_until = NULL", "ck_jobs_running"),
        (Status.RUNNING, "node_id = NULL", "ck_jobs_running"),
        (Status.RUNNING, "started_at = NULL", "ck_jobs_running"),
        (Status.RUNNING, "error = '{}'", "ck_jobs_error"),
        (Status.RUNNING, "result = '1'", "ck_jobs_result"),
        (Status.RUNNING, "expires_at = now()", "ck_jobs_expiry"),
        (Status.PENDING, "node_id = gen_random_uuid()", "ck_jobs_pending"),
        (Status.PENDING, "lease_until = now()", "ck_jobs_running"),
        (Status.PENDING, "finished_at = now()", "ck_jobs_finished"),
        (Status.PENDING, "cancel_requested_at = now(), cancel_requested_by = 'x'", "ck_jobs_pending"),
        (Status.PENDING, "priority = 10", "ck_jobs_priority"),
        (Status.PENDING, "args = '[]'", "ck_jobs_args"),
        (Status.PENDING, "tags = ARRAY[NULL]", "ck_jobs_tags"),
        (Status.PENDING, "task = ''", "ck_jobs_texts"),
        (Status.PENDING, "queue = repeat('q', 101)", "ck_jobs_texts"),
        (Status.PENDING, "idempotency_key = 'k'", "ck_jobs_key"),
        (Status.PENDING, "ttl = interval '-1 s'", "ck_jobs_durations"),
        (Status.PENDING, "timeout = interval '31 days'", "ck_jobs_durations"),
        (Status.PENDING, "ttl = interval '11 years'", "ck_jobs_durations"),
        (Status.PENDING, "run_at = '4713-01-01 BC'", "ck_jobs_times"),
        (Status.PENDING, "run_at = '294276-01-01'", "ck_jobs_times"),
        (Status.PENDING, "run_at = 'infinity'", "ck_jobs_times"),
        (Status.PENDING, "max_attempts = 0", "ck_jobs_attempts"),
        (Status.SUCCEEDED, "error = '{}'", "ck_jobs_error"),
        (Status.SUCCEEDED, "expires_at = NULL", "ck_jobs_expiry"),
        (Status.SUCCEEDED, "finished_at = NULL", "ck_jobs_finished"),
        (Status.FAILED, "error = NULL", "ck_jobs_error"),
        (Status.FAILED, "result = '1'", "ck_jobs_result"),
        (Status.CANCELLED, "cancel_requested_at = NULL, cancel_requested_by = NULL", "ck_jobs_cancel"),
        (Status.CANCELLED, "cancel_requested_by = NULL", "ck_jobs_cancel"),
        (Status.PENDING, "status = 'paused'", "cannot move"),
        (Status.PENDING, "attempt = 1", "cannot move"),
        (Status.RUNNING, "status = 'failed', attempt = 2, max_attempts = 2", "rises by one with each start"),
        (Status.PENDING, "id = gen_random_uuid()", "cannot change"),
    ],
)
async def test_no_half_filled_row(place: Place, status: Status, change: str, constraint: str) -> None:
    job_id = await in_status(place, status)
    with pytest.raises(asyncpg.CheckViolationError, match=constraint):
        await place.psql.execute(f"UPDATE jobtrail.jobs SET {change} WHERE id = $1", job_id)


@pytest.mark.parametrize("status", Status)
async def test_only_an_expired_row_may_go(place: Place, status: Status) -> None:
    job_id = await in_status(place, status)
    with pytest.raises(asyncpg.CheckViolationError, match=r"DELETE on jobtrail\.jobs is refused"):
        await place.psql.execute("DELETE FROM jobtrail.jobs WHERE id = $1", job_id)
    if status.is_terminal:
        await place.psql.execute("UPDATE jobtrail.jobs SET expires_at = now() - interval '1 s' WHERE id = $1", job_id)
        known = await trail(place, job_id)
        await place.psql.execute("DELETE FROM jobtrail.jobs WHERE id = $1", job_id)
        assert await trail(place, job_id) == [*known, (len(known) + 1, status, PURGED)]


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("TRUNCATE jobtrail.jobs", "TRUNCATE on jobtrail.jobs is refused"),
        ("TRUNCATE jobtrail.transitions", "TRUNCATE on jobtrail.transitions is refused"),
        ("UPDATE jobtrail.transitions SET actor = 'nobody'", "append-only"),
        ("DELETE FROM jobtrail.transitions", "stays as long as its row"),
        (
            "INSERT INTO jobtrail.transitions SELECT gen_random_uuid(), 1, 0, '', '', now(), '', id FROM jobtrail.jobs",
            "writes the history itself",
        ),
    ],
)
async def test_the_history_cannot_be_edited(place: Place, statement: str, why: str) -> None:
    job_id = await in_status(place, Status.FAILED)
    known = await trail(place, job_id)
    with pytest.raises(asyncpg.CheckViolationError, match=why):
        await place.psql.execute(statement)
    assert await trail(place, job_id) == known


async def test_an_update_of_many_rows_writes_the_history_of_each(place: Place) -> None:
    ids = [await born(place) for _ in range(50)]
    await place.psql.execute(f"UPDATE jobtrail.jobs SET {WHOLE[Status.CANCELLED]}")
    assert [await trail(place, job_id) for job_id in ids] == [
        [(1, None, "pending"), (2, "pending", "cancelled")] for _ in ids
    ]
