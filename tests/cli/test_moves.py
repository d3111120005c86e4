import pytest

from jobtrail.status import Status
from support.command import Command
from support.rows import born, in_status, trail
from support.world import Place


async def test_a_pending_job_is_cancelled_with_a_reason(jobtrail: Command, place: Place) -> None:
    job_id = await born(place)
    done = await jobtrail("cancel", str(job_id), "--reason", "no need", USER="ann", LOGNAME="ann")
    (last,) = await place.rows("SELECT actor, reason FROM jobtrail.transitions WHERE to_status = 'cancelled'")
    assert (done.code, done.out) == (0, f"{job_id} cancelled\n")
    assert last == {"actor": "cli:ann", "reason": "no need"}


async def test_a_running_job_is_asked(jobtrail: Command, place: Place) -> None:
    job_id = await in_status(place, Status.RUNNING)
    words, document = await jobtrail("cancel", str(job_id)), await jobtrail("cancel", str(job_id), "--json")
    assert words.out == f"{job_id} running; its node was asked to stop it\n"
    assert document.json["status"] == "running"
    assert document.json["cancel_requested_at"] is not None


async def test_a_failed_job_goes_back(jobtrail: Command, place: Place) -> None:
    job_id = await in_status(place, Status.FAILED)
    done = await jobtrail("retry", str(job_id))
    assert (done.code, done.out) == (0, f"{job_id} pending; attempt 2 of 2 comes next\n")
    assert (await trail(place, job_id))[-1] == (4, "failed", "pending")


@pytest.mark.parametrize(
    ("verb", "status", "kind", "detail"),
    [
        ("cancel", Status.SUCCEEDED, "job-finished", "is succeeded and cannot be cancelled"),
        ("retry", Status.PENDING, "job-conflict", "is pending and cannot be retried"),
    ],
)
async def test_what_the_status_does_not_allow_fails(
    jobtrail: Command, place: Place, verb: str, status: Status, kind: str, detail: str
) -> None:
    job_id = str(await in_status(place, status))
    words, document = await jobtrail(verb, job_id), await jobtrail(verb, job_id, "--json")
    assert (words.code, words.out, words.err) == (1, "", f"jobtrail: job {job_id} {detail}\n")
    assert (document.code, document.out) == (1, "")
    assert document.err == f'{{"error": {{"type": "{kind}", "detail": "job {job_id} {detail}"}}}}\n'


async def test_unknown_jobs_and_long_reasons(jobtrail: Command) -> None:
    unknown = "01a20160-1b50-76b5-a6dd-a1981d5099fa"
    for verb in ("cancel", "retry"):
        done = await jobtrail(verb, unknown)
        assert (done.code, done.err) == (1, f"jobtrail: no job has the id {unknown}\n")
    done = await jobtrail("cancel", unknown, "--reason", "x" * 1001)
    assert (done.code, done.err.startswith("jobtrail: --reason: at most 1000 characters")) == (2, True)


async def test_purge_counts_what_went(jobtrail: Command, place: Place) -> None:
    for _ in range(3):
        await in_status(place, Status.SUCCEEDED, ttl=None)
    kept = await in_status(place, Status.SUCCEEDED)
    await place.psql.execute("UPDATE jobtrail.jobs SET ttl = '0', expires_at = now() WHERE ttl IS NULL")
    first, again = await jobtrail("purge", "--json"), await jobtrail("purge")
    assert first.json == {"jobs": 3, "transitions": 0}
    assert again.out == "purged 0 jobs, and 0 rows of the history of jobs purged long ago\n"
    assert await place.value("SELECT id FROM jobtrail.jobs") == kept
    assert await place.value("SELECT count(*) FROM jobtrail.transitions WHERE actor LIKE 'cli:%'") == 3


async def test_purge_forgets_old_history_as_the_setting_says(jobtrail: Command, place: Place) -> None:
    await in_status(place, Status.SUCCEEDED, ttl=None)
    await place.psql.execute("UPDATE jobtrail.jobs SET ttl = '0', expires_at = now()")
    assert (await jobtrail("purge", "--json")).json == {"jobs": 1, "transitions": 0}
    async with place.psql.transaction():
        await place.psql.execute("SET LOCAL session_replication_role = replica")
        await place.psql.execute("UPDATE jobtrail.transitions SET at = at - interval '1 hour'")
    assert (await jobtrail("purge", "--json", JOBTRAIL_HISTORY_TTL="30m")).json == {"jobs": 0, "transitions": 4}
