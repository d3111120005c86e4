"""What expires, what is kept, and what the history says of it."""

import asyncio
from datetime import timedelta

import pytest

from jobtrail.errors import PurgeRefusedError
from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.purge import JOBS, purge
from jobtrail.jobs.services import Services
from jobtrail.status import Status
from support import world
from support.rows import in_status, passed, trail
from support.until import until
from support.world import Place

EXPIRED = "UPDATE jobtrail.jobs SET expires_at = now() - interval '1 s' WHERE expires_at IS NOT NULL"


async def test_how_long_a_row_is_kept_depends_on_its_end_unless_the_job_says_it(
    services: Services, place: Place
) -> None:
    async with world.node_at(services, place, queues=("default",)):
        jobs = [
            await world.submitted(services, "noop"),
            await world.submitted(services, "fail", how="error"),
            await world.submitted(services, "noop", queue="nobody"),
            await world.submitted(services, "fail", how="error", ttl=60),
            await world.submitted(services, "fail", how="error", ttl=None),
        ]
        await cancel(services, jobs[2].id, by="ann")
        ended = [await world.ended(services, job.id) for job in jobs]
    ttls = [timedelta(days=7), timedelta(days=30), timedelta(days=30), timedelta(seconds=60), None]
    assert [job.status for job in ended] == ["succeeded", "failed", "cancelled", "failed", "failed"]
    assert [job.ttl for job in ended] == ttls
    assert [job.expires_at for job in ended] == [
        job.finished_at + ttl if job.finished_at and ttl else None for job, ttl in zip(ended, ttls, strict=True)
    ]


async def test_a_purge_takes_what_has_expired_and_nothing_else(place: Place) -> None:
    gone = [await in_status(place, status) for status in Status if status.is_terminal]
    await place.psql.execute(EXPIRED)
    kept = [await in_status(place, status) for status in Status]
    for_ever = await in_status(place, Status.SUCCEEDED)
    await place.psql.execute("UPDATE jobtrail.jobs SET ttl = NULL, expires_at = NULL WHERE id = $1", for_ever)
    done = await purge(place.database, by="ann", history_ttl=None)
    assert done.jobs == len(gone)
    left = {row["id"] for row in await place.rows("SELECT id FROM jobtrail.jobs")}
    assert left == {*kept, for_ever}
    assert [(await trail(place, each))[-1][2] for each in gone] == ["purged"] * 3
    query = "SELECT DISTINCT actor, reason FROM jobtrail.transitions WHERE to_status = 'purged'"
    assert await place.rows(query) == [{"actor": "ann", "reason": "expired"}]


async def test_what_cannot_go_keeps_no_other(place: Place) -> None:
    jobs = [await in_status(place, Status.SUCCEEDED) for _ in range(5)]
    await place.psql.execute(EXPIRED)
    await place.psql.execute("CREATE TABLE orders (job_id uuid REFERENCES jobtrail.jobs)")
    try:
        await place.psql.execute("INSERT INTO orders VALUES ($1)", jobs[2])
        with pytest.raises(PurgeRefusedError, match=f"job {jobs[2]} cannot be purged: .*violates foreign key"):
            await purge(place.database, by="ann", history_ttl=None)
        assert [row["id"] for row in await place.rows("SELECT id FROM jobtrail.jobs")] == [jobs[2]]
    finally:
        await place.psql.execute("DROP TABLE orders")
    assert (await purge(place.database, by="ann", history_ttl=None)).jobs == 1


async def many(place: Place, count: int) -> None:
    """That many rows which have expired, and as many which have not."""
    await place.psql.execute(
        "INSERT INTO jobtrail.jobs (id, task) SELECT gen_random_uuid(), 'noop' FROM generate_series(1, $1)", count * 2
    )
    await place.psql.execute(
        """UPDATE jobtrail.jobs SET status = 'cancelled', finished_at = now(), expires_at = now() + interval '1 day',
           cancel_requested_at = now(), cancel_requested_by = 'x'"""
    )
    await place.psql.execute(
        """UPDATE jobtrail.jobs SET expires_at = now() - interval '1 s'
            WHERE id IN (SELECT id FROM jobtrail.jobs LIMIT $1)""",
        count,
    )


async def test_nodes_that_purge_at_once_share_the_work_until_a_batch_is_short(place: Place) -> None:
    await many(place, 3 * JOBS + 7)
    done = await asyncio.gather(*(purge(place.database, by=f"node {n}", history_ttl=None) for n in range(4)))
    assert sum(each.jobs for each in done) == 3 * JOBS + 7
    assert await place.value("SELECT count(*) FROM jobtrail.transitions WHERE to_status = 'purged'") == 3 * JOBS + 7
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 3 * JOBS + 7


async def test_history_goes_only_long_after_its_row(place: Place) -> None:
    old, fresh = [await in_status(place, Status.SUCCEEDED) for _ in range(2)]
    living = await in_status(place, Status.SUCCEEDED)
    await place.psql.execute(f"{EXPIRED} AND id <> $1", living)
    await purge(place.database, by="ann", history_ttl=None)
    async with place.psql.transaction():
        await place.psql.execute("SET LOCAL session_replication_role = replica")
        await place.psql.execute(
            "UPDATE jobtrail.transitions SET at = at - interval '91 days' WHERE job_id = ANY($1)", [old, living]
        )
    await passed(place)
    done = await purge(place.database, by="ann", history_ttl=timedelta(days=90))
    assert (done.jobs, done.transitions) == (0, 4)
    assert [len(await trail(place, each)) for each in (old, fresh, living)] == [0, 4, 3]


async def test_the_cleanup_loop_of_a_node_purges_by_itself(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="jobtrail")
    services = world.services_at(place)
    async with world.node_at(services, place):
        job = await world.submitted(services, "noop", ttl=0)

        async def is_purged() -> bool:
            return (await trail(place, job.id))[-1] == (4, "succeeded", "purged")

        await until(is_purged)
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 0
    assert "purged 1 expired jobs" in [record.getMessage() for record in caplog.records]


async def test_silent_nodes_leave_the_list_after_a_while(place: Place) -> None:
    await place.psql.execute(
        """INSERT INTO jobtrail.nodes (id, host, pid, version, queues, tasks, slots, heartbeat_at)
           SELECT gen_random_uuid(), 'h', n, 'v', '{}', '{}', '{}', now() - make_interval(mins => n)
             FROM unnest(ARRAY[1, 59, 61]) n"""
    )
    await purge(place.database, by="ann", history_ttl=None)
    assert [row["pid"] for row in await place.rows("SELECT pid FROM jobtrail.nodes ORDER BY 1")] == [1, 59]
