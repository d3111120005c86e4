"""What somebody types in psql in an emergency just works: the status alone, and the database fills in the rest."""

import json

import asyncpg
import pytest

from jobtrail.status import Status
from support.rows import born, in_status, moved, trail, typed
from support.world import Place

DAY = 86_400
ENDS = [
    (Status.PENDING, Status.CANCELLED, 30 * DAY),
    (Status.RUNNING, Status.CANCELLED, 30 * DAY),
    (Status.RUNNING, Status.FAILED, 30 * DAY),
    (Status.RUNNING, Status.SUCCEEDED, 7 * DAY),
]


@pytest.mark.parametrize(("before", "after", "kept"), ENDS)
async def test_an_end_that_is_typed(place: Place, before: Status, after: Status, kept: int) -> None:
    """In a zone whose days are not all alike, a day is 86,400 s all the same."""
    job_id = await in_status(place, before, created_by="ann", moved_by="ann")
    other = await in_status(place, before)
    await place.psql.execute("SET timezone = 'Europe/Berlin'")
    try:
        await typed(place, job_id, after, ", finished_at = '2026-10-20 12:00+02'")
        await typed(place, other, after)
    finally:
        await place.psql.execute("RESET timezone")
    query = """SELECT *, extract(epoch FROM expires_at - finished_at)::int AS kept,
                      finished_at > now() - interval '1 min' AS is_now FROM jobtrail.jobs WHERE id = $1"""
    ((row,), (untold,)) = [await place.rows(query, each) for each in (job_id, other)]
    assert (row["kept"], untold["kept"], untold["is_now"]) == (kept, kept, True)
    user = await place.value("SELECT session_user")
    assert (row["cancel_requested_by"] == user) == (after is Status.CANCELLED)
    assert ("by-hand" in (row["error"] or "")) == (after is Status.FAILED)
    query = "SELECT * FROM jobtrail.transitions WHERE job_id = $1 ORDER BY seq DESC LIMIT 1"
    (last,) = await place.rows(query, job_id)
    said = {"from_status": before, "to_status": after, "actor": user, "reason": "sql", "error": row["error"]}
    assert {name: last[name] for name in said} == said


@pytest.mark.parametrize("before", [Status.RUNNING, Status.FAILED, Status.CANCELLED])
async def test_a_job_that_is_set_back_can_run(place: Place, before: Status) -> None:
    job_id = await in_status(place, before)
    await place.psql.execute(
        "UPDATE jobtrail.jobs SET progress = '1', run_at = now() - interval '1 h' WHERE id = $1", job_id
    )
    if before is Status.RUNNING:  # and somebody had asked it to stop
        asked = "cancel_requested_at = now(), cancel_requested_by = 'ann', cancel_reason = 'enough'"
        await place.psql.execute(f"UPDATE jobtrail.jobs SET {asked} WHERE id = $1", job_id)
    await typed(place, job_id, "pending")
    (row,) = await place.rows(
        "SELECT *, run_at > now() - interval '1 min' AS is_due_since_now, attempt < max_attempts AS may_run "
        "FROM jobtrail.jobs WHERE id = $1",
        job_id,
    )
    empty = ("node_id", "lease_until", "started_at", "finished_at", "expires_at", "result", "error", "progress")
    asked_for = ("cancel_requested_at", "cancel_requested_by", "cancel_reason")
    assert {name: row[name] for name in (*empty, *asked_for)} == dict.fromkeys((*empty, *asked_for))
    assert (row["is_due_since_now"], row["may_run"]) == (True, True)
    await moved(place, job_id, Status.RUNNING)


async def test_what_was_typed_stays(place: Place) -> None:
    job_id = await in_status(place, Status.RUNNING)
    ended = ", finished_at = '2026-01-02Z', expires_at = '2999-01-02Z'"
    await typed(place, job_id, "cancelled", f"{ended}, cancel_requested_by = 'bob', cancel_reason = 'twice'")
    (row,) = await place.rows("SELECT *, finished_at::text, expires_at::text FROM jobtrail.jobs WHERE id = $1", job_id)
    assert (row["finished_at"][:10], row["expires_at"][:10]) == ("2026-01-02", "2999-01-02")
    assert (row["cancel_requested_by"], row["cancel_reason"]) == ("bob", "twice")
    await typed(place, job_id, "pending", ", run_at = '2999-01-01Z', max_attempts = 7, progress = '2'")
    (row,) = await place.rows("SELECT *, run_at::text FROM jobtrail.jobs WHERE id = $1", job_id)
    assert (row["run_at"][:4], row["max_attempts"], row["progress"]) == ("2999", 7, "2")
    failed = await in_status(place, Status.RUNNING)
    await typed(place, failed, "failed", """, error = '{"type": "mine"}'""")
    assert "mine" in await place.value("SELECT error::text FROM jobtrail.jobs WHERE id = $1", failed)
    contradiction = await in_status(place, Status.RUNNING)
    with pytest.raises(asyncpg.CheckViolationError, match="ck_jobs_running"):
        await typed(place, contradiction, "cancelled", ", lease_until = now()")


@pytest.mark.parametrize(
    ("typed_in", "message"),
    [
        ('"disk full"', "disk full"),
        ("5", "5"),
        ("[1]", "[1]"),
        ("null", "ended in SQL by"),
        ("{}", "ended in SQL by"),
        ('{"message": "disk full"}', "disk full"),
    ],
)
async def test_an_error_that_was_typed_can_be_read(place: Place, typed_in: str, message: str) -> None:
    job_id = await in_status(place, Status.RUNNING)
    await typed(place, job_id, "failed", f", error = '{typed_in}'")
    for told in (
        await place.value("SELECT error::text FROM jobtrail.jobs WHERE id = $1", job_id),
        await place.value("SELECT error::text FROM jobtrail.transitions WHERE job_id = $1 AND seq = 3", job_id),
    ):
        error = json.loads(told)
        assert error.pop("message").startswith(message)
        assert error == {"type": "by-hand", "traceback": None, "attempt": 1}
    await place.psql.execute("UPDATE jobtrail.jobs SET error = '7' WHERE id = $1", job_id)
    assert await place.value("SELECT error ->> 'message' FROM jobtrail.jobs WHERE id = $1", job_id) == "7"


async def test_a_row_that_is_kept_for_good_has_no_expiry(place: Place) -> None:
    job_id = await born(place)
    await place.psql.execute("UPDATE jobtrail.jobs SET ttl_failed = NULL WHERE id = $1", job_id)
    await typed(place, job_id, "cancelled")
    assert await place.value("SELECT expires_at FROM jobtrail.jobs WHERE id = $1", job_id) is None


@pytest.mark.parametrize(
    ("before", "after", "hint"),
    [
        (Status.PENDING, "running", "Only a node starts a job"),
        (Status.PENDING, "failed", "SET status = 'cancelled'"),
        (Status.FAILED, "running", "SET status = 'pending'"),
        (Status.SUCCEEDED, "pending", "submit a new job"),
        (Status.RUNNING, "paused", "to stop it SET status = 'cancelled', to run it anew 'pending'"),
    ],
)
async def test_what_cannot_be_meant_says_what_to_do(place: Place, before: Status, after: str, hint: str) -> None:
    job_id = await in_status(place, before)
    known = await trail(place, job_id)
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await typed(place, job_id, after)
    assert hint in refused.value.hint
    assert await trail(place, job_id) == known
