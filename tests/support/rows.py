"""Rows in any status, made by legal moves in plain SQL, as an intruder with psql would make them."""

from datetime import timedelta
from typing import Final
from uuid import UUID

from jobtrail.events import feed
from jobtrail.ids import new_job_id
from jobtrail.status import Status
from support.world import Place

_NOTHING_LEFT: Final = """node_id = NULL, lease_until = NULL, started_at = NULL, finished_at = NULL, expires_at = NULL,
    result = NULL, error = NULL, cancel_requested_at = NULL, cancel_requested_by = NULL, cancel_reason = NULL"""

_ENDED: Final = "lease_until = NULL, finished_at = now(), started_at = coalesce(started_at, now())"

# attempt: what a move to running must count, the others must leave alone
WHOLE: Final = {
    Status.PENDING: f"status = 'pending', {_NOTHING_LEFT}",
    Status.RUNNING: """status = 'running', attempt = attempt + 1, max_attempts = greatest(max_attempts, attempt + 1),
        node_id = coalesce(node_id, gen_random_uuid()), lease_until = now() + interval '30 s', started_at = now(),
        finished_at = NULL, expires_at = NULL, result = NULL, error = NULL, cancel_requested_at = NULL,
        cancel_requested_by = NULL, cancel_reason = NULL""",
    Status.SUCCEEDED: f"status = 'succeeded', {_ENDED}, result = '1', error = NULL, expires_at = now() + ttl",
    Status.FAILED: f"""status = 'failed', {_ENDED}, error = '{{"type": "E"}}', result = NULL,
        expires_at = now() + ttl_failed""",
    Status.CANCELLED: f"""status = 'cancelled', {_ENDED}, result = NULL, expires_at = now() + ttl_failed,
        cancel_requested_at = now(), cancel_requested_by = 'me'""",
}

PATHS: Final = {
    Status.PENDING: (),
    Status.RUNNING: (Status.RUNNING,),
    Status.SUCCEEDED: (Status.RUNNING, Status.SUCCEEDED),
    Status.FAILED: (Status.RUNNING, Status.FAILED),
    Status.CANCELLED: (Status.CANCELLED,),
}


async def born(place: Place, task: str = "noop", **columns: object) -> UUID:
    job_id = new_job_id()
    names = "".join(f", {name}" for name in columns)
    marks = "".join(f", ${number}" for number in range(3, 3 + len(columns)))
    query = f"INSERT INTO jobtrail.jobs (id, task{names}) VALUES ($1, $2{marks})"
    await place.psql.execute(query, job_id, task, *columns.values())
    return job_id


async def moved(place: Place, job_id: UUID, to: Status) -> None:
    await place.psql.execute(f"UPDATE jobtrail.jobs SET {WHOLE[to]} WHERE id = $1", job_id)


async def typed(place: Place, job_id: UUID, to: str, more: str = "") -> None:
    """The move as somebody types it in an emergency: the status alone, or with what he adds."""
    await place.psql.execute(f"UPDATE jobtrail.jobs SET status = '{to}'{more} WHERE id = $1", job_id)


async def in_status(place: Place, status: Status, **columns: object) -> UUID:
    job_id = await born(place, **columns)
    for step in PATHS[status]:
        await moved(place, job_id, step)
    return job_id


async def trail(place: Place, job_id: UUID) -> list[tuple[int, str | None, str]]:
    """(seq, from, to) of the whole history."""
    query = "SELECT seq, from_status, to_status FROM jobtrail.transitions WHERE job_id = $1 ORDER BY seq"
    return [(row["seq"], row["from_status"], row["to_status"]) for row in await place.rows(query, job_id)]


async def passed(place: Place) -> None:
    """As long after: the feed has been derived to its end, and its older marks are forgotten."""
    newest = await feed.mark(place.database)
    await place.psql.execute("UPDATE jobtrail.feed_cursors SET no = $1", newest.no)
    await feed.forget(place.database, age=timedelta(0))


async def leases_ran_out(place: Place) -> None:
    """End the leases of all that runs. A claim with one of nothing would have next to no time to be answered."""
    await place.psql.execute("UPDATE jobtrail.jobs SET lease_until = now() WHERE status = 'running'")


async def taken_away(place: Place, job_id: UUID) -> None:
    """End a running job in SQL, under the hands of the node that runs it."""
    await typed(place, job_id, Status.FAILED)
