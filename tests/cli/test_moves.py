"""Cancel and retry: one job, many by filters; and purge."""

import asyncio
import re
import signal

import asyncpg
import pytest

from jobtrail.status import Status
from support.command import Command, ended
from support.rows import born, in_status, passed
from support.until import until
from support.world import Place, node_at, services_at

ANN = {"USER": "ann", "LOGNAME": "ann"}


async def statuses(place: Place) -> dict[str, int]:
    rows = await place.rows("SELECT status, count(*) AS jobs FROM jobtrail.jobs GROUP BY 1")
    return {row["status"]: row["jobs"] for row in rows}


async def many_failed(place: Place, count: int) -> None:
    async with place.psql.transaction():
        await place.psql.execute("SET LOCAL session_replication_role = replica")
        await place.psql.execute(
            """INSERT INTO jobtrail.jobs (id, task, status, attempt, seq, error, node_id, started_at, finished_at,
                   expires_at, created_at)
               SELECT gen_random_uuid(), 'noop', 'failed', 1, 3, '{}', gen_random_uuid(), now(), now(),
                   now() + interval '30 days', now() - interval '1 h' + n * interval '1 ms'
                 FROM generate_series(1, $1::int) n""",
            count,
        )


async def test_one_job_is_cancelled_asked_to_stop_or_put_back(jobtrail: Command, place: Place) -> None:
    pending, running = await born(place), await in_status(place, Status.RUNNING)
    failed = await in_status(place, Status.FAILED)
    done = await jobtrail("cancel", str(pending), "--reason", "no need", **ANN)
    assert (done.code, done.out) == (0, f"{pending} cancelled\n")
    words, document = await jobtrail("cancel", str(running)), await jobtrail("cancel", str(running), "--json")
    assert words.out == f"{running} running; its node was asked to stop it\n"
    assert (document.json["status"], document.json["cancel_requested_at"] is None) == ("running", False)
    # --yes is for many, and no harm here
    again = await jobtrail("retry", str(failed), "--yes", **ANN)
    assert (again.code, again.out) == (0, f"{failed} pending; attempt 2 of 2 comes next\n")
    moves = await place.rows("SELECT to_status, reason FROM jobtrail.transitions WHERE actor = 'cli:ann' ORDER BY at")
    assert [tuple(move.values()) for move in moves] == [("cancelled", "no need"), ("pending", "retried by hand")]


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


async def test_many_are_counted_first_then_moved_up_to_the_limit(jobtrail: Command, place: Place) -> None:
    for _ in range(3):
        await in_status(place, Status.FAILED)
    await in_status(place, Status.FAILED, queue="mail")
    words = ("retry", "--status", "failed", "--queue", "default", "--since", "1h", "--until", "2999-01-31")
    dry, document = await jobtrail(*words, "--dry-run"), await jobtrail(*words, "--dry-run", "--json")
    assert (dry.code, dry.out) == (0, "3 jobs match\nnothing was changed\n")
    assert document.json == {"action": "retry", "dry_run": True, "matched": 3, "changed": 0, "remaining": 3}
    first, rest = await jobtrail(*words, "--limit", "2", **ANN), await jobtrail(*words, "--limit", "2", "--json")
    none = await jobtrail(*words)
    told = "3 jobs match\n2 jobs retried; 1 job remains: run it again for the rest\n"
    assert (first.code, first.out, first.err) == (0, told, "")
    assert rest.json == {"action": "retry", "dry_run": False, "matched": 1, "changed": 1, "remaining": 0}
    assert (none.code, none.out) == (0, "0 jobs match\nnothing was changed\n")
    assert await statuses(place) == {"pending": 3, "failed": 1}
    assert await place.value("SELECT count(*) FROM jobtrail.transitions WHERE actor = 'cli:ann'") == 2


async def test_a_copy_of_production_is_cancelled_before_any_node_starts(jobtrail: Command, place: Place) -> None:
    """As the guide says; what was running ends when the first node takes it over."""
    running = await in_status(place, Status.RUNNING)
    await born(place)
    reason = "a copy of production"
    done = await jobtrail("cancel", "--status", "pending", "--status", "running", "--reason", reason, "--yes")
    assert (done.code, done.out) == (0, "2 jobs match\n2 jobs cancelled, or asked to stop where they run\n")
    assert await statuses(place) == {"cancelled": 1, "running": 1}
    await place.psql.execute("UPDATE jobtrail.jobs SET lease_until = now() WHERE id = $1", running)
    async with node_at(services_at(place), place):
        await until(lambda: place.value("SELECT count(*) = 2 FROM jobtrail.jobs WHERE status = 'cancelled'"))
    assert await place.value("SELECT count(*) FROM jobtrail.transitions WHERE reason = 'a copy of production'") == 2


@pytest.mark.parametrize(
    ("typed", "words", "said", "after"),
    [
        ("y\n", (), "2 jobs match\nRetry 2 jobs? [y/N]: 2 jobs retried\n", {"pending": 2}),
        ("n\n", ("--limit", "1"), "2 jobs match\nRetry 1 job? [y/N]: nothing was changed\n", {"failed": 2}),
        ("", ("--yes",), "2 jobs match\n2 jobs retried\n", {"pending": 2}),
        ("\x04", (), None, {"failed": 2}),
    ],
)
async def test_a_terminal_is_asked(
    jobtrail: Command, place: Place, typed: str, words: tuple[str, ...], said: str | None, after: dict[str, int]
) -> None:
    for _ in range(2):
        await in_status(place, Status.FAILED)
    found = await jobtrail.in_terminal(100, "retry", "--status", "failed", *words, typed=typed)
    assert said is None or found == typed + said, "what is typed ahead stands first"
    assert "Traceback" not in found
    assert await statuses(place) == after


async def test_progress_counts_up_in_a_terminal(jobtrail: Command, place: Place) -> None:
    await many_failed(place, 1200)
    sent = await jobtrail.in_terminal(100, "retry", "--status", "failed", "--yes")
    said = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sent)
    assert said.splitlines()[-1] == "1200 jobs retried"
    counts = [int(count) for count in re.findall(r"(\d+)/1200 jobs", said)]
    assert (counts, counts[-1]) == (sorted(counts), 1200)
    assert len(set(counts)) > 2


@pytest.mark.parametrize("words", [(), ("--json",)])
async def test_who_is_stopped_in_the_middle_says_what_was_done(
    jobtrail: Command, place: Place, words: tuple[str, ...]
) -> None:
    await many_failed(place, 1200)
    other = await asyncpg.connect(place.url.libpq)
    # of the 101st job, the first of the second batch: its next move waits until this connection is closed
    await other.execute("BEGIN; SET LOCAL session_replication_role = replica")
    await other.execute(
        """INSERT INTO jobtrail.transitions (job_id, seq, attempt, to_status, actor, trace_id, task)
           SELECT id, 4, 1, 'pending', 'x', 'x', 'x' FROM jobtrail.jobs ORDER BY created_at OFFSET 100 LIMIT 1"""
    )
    process = await jobtrail.start("retry", "--status", "failed", *words)
    stuck = """SELECT count(*) > 0 FROM pg_stat_activity
                WHERE wait_event_type = 'Lock' AND datname = current_database()"""
    await until(lambda: place.value(stuck))
    process.send_signal(signal.SIGINT)
    await asyncio.wait_for(other.close(), 60)
    done, found = await ended(process), await statuses(place)
    changed, remaining = found["pending"], found["failed"]
    assert (done.code, changed > 100, remaining > 0) == (130, True, True), "what was under way is done"
    if words:
        told = {"matched": 1200, "changed": changed, "remaining": remaining}
        assert done.json == {"action": "retry", "dry_run": False, **told}
    else:
        rest = f"{remaining} jobs remain: run it again for the rest"
        assert done.out == f"1200 jobs match\n{changed} jobs retried; {rest}\n"


async def test_purge_counts_what_went_and_forgets_old_history_as_the_setting_says(
    jobtrail: Command, place: Place
) -> None:
    await in_status(place, Status.SUCCEEDED, ttl=None)
    kept = await in_status(place, Status.SUCCEEDED)
    await place.psql.execute("UPDATE jobtrail.jobs SET ttl = '0', expires_at = now() WHERE ttl IS NULL")
    first, again = await jobtrail("purge", "--json"), await jobtrail("purge")
    assert first.json == {"jobs": 1, "transitions": 0}
    assert again.out == "purged 0 jobs, and 0 rows of the history of jobs purged long ago\n"
    assert await place.value("SELECT id FROM jobtrail.jobs") == kept
    assert await place.value("SELECT count(*) FROM jobtrail.transitions WHERE actor LIKE 'cli:%'") == 1
    async with place.psql.transaction():
        await place.psql.execute("SET LOCAL session_replication_role = replica")
        await place.psql.execute("UPDATE jobtrail.transitions SET at = at - interval '1 hour'")
    await passed(place)
    assert (await jobtrail("purge", "--json", JOBTRAIL_HISTORY_TTL="30m")).json == {"jobs": 0, "transitions": 4}
