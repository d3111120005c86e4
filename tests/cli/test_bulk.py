"""Cancel and retry of many jobs by filters."""

import asyncio
import re
import signal

import asyncpg
import pytest

from jobtrail.status import Status
from support.command import Command, ended
from support.rows import born, in_status
from support.until import until
from support.world import Place, node_at, services_at


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


async def test_a_retry_counts_first_and_says_what_was_done(jobtrail: Command, place: Place) -> None:
    for _ in range(3):
        await in_status(place, Status.FAILED)
    await in_status(place, Status.FAILED, queue="mail")
    done = await jobtrail(
        "retry", "--status", "failed", "--queue", "default", "--since", "1h", USER="ann", LOGNAME="ann"
    )
    assert (done.code, done.out, done.err) == (0, "3 jobs match\n3 jobs retried\n", "")
    assert await statuses(place) == {"pending": 3, "failed": 1}
    moves = await place.rows("SELECT actor, reason FROM jobtrail.transitions WHERE seq = 4")
    assert moves == [{"actor": "cli:ann", "reason": "retried by hand"}] * 3


async def test_a_cancel_keeps_the_reason(jobtrail: Command, place: Place) -> None:
    await born(place)
    await in_status(place, Status.RUNNING)
    done = await jobtrail("cancel", "--task", "noop", "--reason", "no need")
    assert (done.code, done.out) == (0, "2 jobs match\n2 jobs cancelled, or asked to stop where they run\n")
    assert await statuses(place) == {"cancelled": 1, "running": 1}
    assert await place.rows("SELECT DISTINCT cancel_reason FROM jobtrail.jobs") == [{"cancel_reason": "no need"}]


async def test_a_limit_leaves_the_rest(jobtrail: Command, place: Place) -> None:
    for _ in range(3):
        await born(place)
    first = await jobtrail("cancel", "--status", "pending", "--limit", "2")
    second = await jobtrail("cancel", "--status", "pending", "--limit", "2")
    third = await jobtrail("cancel", "--status", "pending", "--limit", "2")
    told = "cancelled, or asked to stop where they run"
    assert first.out == f"3 jobs match\n2 jobs {told}; 1 job remains: run it again for the rest\n"
    assert second.out == f"1 job matches\n1 job {told}\n"
    assert (third.code, third.out) == (0, "0 jobs match\nnothing was changed\n")


async def test_a_dry_run_only_counts(jobtrail: Command, place: Place) -> None:
    for status in Status:
        await in_status(place, status)
    before = await statuses(place)
    words, document = [
        await jobtrail("retry", "--until", "2999-01-31", "--dry-run", *more) for more in ((), ("--json",))
    ]
    assert (words.code, words.out) == (0, "2 jobs match\nnothing was changed\n")
    assert document.json == {"action": "retry", "dry_run": True, "matched": 2, "changed": 0, "remaining": 2}
    assert await statuses(place) == before


async def test_one_document_for_programs(jobtrail: Command, place: Place) -> None:
    for _ in range(3):
        await in_status(place, Status.CANCELLED, tags=["a"])
    done = await jobtrail("retry", "--tag", "a", "--limit", "2", "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json == {"action": "retry", "dry_run": False, "matched": 3, "changed": 2, "remaining": 1}


@pytest.mark.parametrize(
    ("typed", "words", "said", "after"),
    [
        ("y\n", (), "2 jobs match\nRetry 2 jobs? [y/N]: 2 jobs retried\n", {"pending": 2}),
        ("n\n", ("--limit", "1"), "2 jobs match\nRetry 1 job? [y/N]: nothing was changed\n", {"failed": 2}),
        ("", ("--yes",), "2 jobs match\n2 jobs retried\n", {"pending": 2}),
    ],
)
async def test_a_terminal_is_asked(
    jobtrail: Command, place: Place, typed: str, words: tuple[str, ...], said: str, after: dict[str, int]
) -> None:
    for _ in range(2):
        await in_status(place, Status.FAILED)
    found = await jobtrail.in_terminal(100, "retry", "--status", "failed", *words, typed=typed)
    assert found == typed + said, "what is typed ahead stands first"
    assert await statuses(place) == after


async def test_no_answer_changes_nothing(jobtrail: Command, place: Place) -> None:
    await in_status(place, Status.FAILED)
    said = await jobtrail.in_terminal(100, "retry", "--status", "failed", typed="\x04")
    assert "retried" not in said
    assert "Traceback" not in said
    assert await statuses(place) == {"failed": 1}


async def test_progress_counts_up_in_a_terminal(jobtrail: Command, place: Place) -> None:
    await many_failed(place, 1200)
    sent = await jobtrail.in_terminal(100, "retry", "--status", "failed", "--yes")
    said = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sent)
    assert said.splitlines()[-1] == "1200 jobs retried"
    counts = [int(count) for count in re.findall(r"(\d+)/1200 jobs", said)]
    assert counts == sorted(counts)
    assert len(set(counts)) > 2
    assert counts[-1] == 1200


@pytest.mark.parametrize("words", [(), ("--json",)])
async def test_who_is_stopped_in_the_middle_says_what_was_done(
    jobtrail: Command, place: Place, words: tuple[str, ...]
) -> None:
    await many_failed(place, 1200)
    other = await asyncpg.connect(place.url.libpq)
    await hold_the_history(other)
    process = await jobtrail.start("retry", "--status", "failed", *words)

    async def stuck() -> bool:
        return bool(
            await place.value(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
        )

    await until(stuck)
    process.send_signal(signal.SIGINT)
    await asyncio.wait_for(other.close(), 60)
    done = await ended(process)
    assert done.code == 130
    found = await statuses(place)
    changed, remaining = found["pending"], found["failed"]
    assert changed > 100  # what was under way is done
    assert remaining > 0
    if words:
        told = {"matched": 1200, "changed": changed, "remaining": remaining}
        assert done.json == {"action": "retry", "dry_run": False, **told}
    else:
        assert done.out == (
            f"1200 jobs match\n{changed} jobs retried; {remaining} jobs remain: run it again for the rest\n"
        )


async def hold_the_history(connection: asyncpg.Connection) -> None:
    """Of the 101st job, the first of the second batch: its next move waits until the connection is closed."""
    await connection.execute("BEGIN; SET LOCAL session_replication_role = replica")
    await connection.execute(
        """INSERT INTO jobtrail.transitions (job_id, seq, attempt, to_status, actor, trace_id, task)
           SELECT id, 4, 1, 'pending', 'x', 'x', 'x' FROM jobtrail.jobs ORDER BY created_at OFFSET 100 LIMIT 1"""
    )


ID = "01a20160-1b50-76b5-a6dd-a1981d5099fa"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("cancel", "name one job by its ID, or many by filters, such as --status, --task and --since 1h"),
        ("retry", "name one job by its ID, or many by filters, such as --status, --task and --since 1h"),
        ("retry --dry-run", "name one job by its ID, or many by filters"),
        ("cancel --limit 5 --yes", "name one job by its ID, or many by filters"),
        (f"cancel {ID} --status failed", "an ID stands alone: filters, --limit and --dry-run are for many jobs"),
        (f"retry {ID} --until 1h", "an ID stands alone"),
        (f"retry {ID} --dry-run", "an ID stands alone"),
        (f"cancel {ID} --limit 1", "an ID stands alone"),
        (
            "retry --status failed --status succeeded",
            "--status: a retry never fits a job that is succeeded, only one that is failed or cancelled",
        ),
        ("cancel --status failed", "--status: a cancel never fits a job that is failed, only one that is pending or r"),
        (f"cancel --task a --reason {'x' * 1001}", "--reason: at most 1000 characters"),
    ],
)
async def test_wrong_words(jobtrail: Command, place: Place, words: str, complaint: str) -> None:
    for status in Status:
        await in_status(place, status)
    before = await statuses(place)
    done = await jobtrail(*words.split())
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"jobtrail: {complaint}")
    assert done.err.count("\n") == 1
    assert await statuses(place) == before


async def test_an_id_with_yes_is_still_one_job(jobtrail: Command, place: Place) -> None:
    job_id = await in_status(place, Status.FAILED)
    done = await jobtrail("retry", str(job_id), "--yes")
    assert (done.code, done.out) == (0, f"{job_id} pending; attempt 2 of 2 comes next\n")


async def test_a_copy_of_production_is_cancelled_before_any_node_starts(jobtrail: Command, place: Place) -> None:
    """As the guide says; what was running ends when the first node takes it over."""
    running = await in_status(place, Status.RUNNING)
    await born(place)
    copied = ("--status", "pending", "--status", "running", "--reason", "a copy of production", "--yes")
    assert (await jobtrail("cancel", *copied)).code == 0
    assert await statuses(place) == {"cancelled": 1, "running": 1}
    await place.psql.execute("UPDATE jobtrail.jobs SET lease_until = now() WHERE id = $1", running)
    async with node_at(services_at(place), place):
        await until(lambda: place.value("SELECT count(*) = 2 FROM jobtrail.jobs WHERE status = 'cancelled'"))
    assert await place.value("SELECT count(*) FROM jobtrail.transitions WHERE reason = 'a copy of production'") == 2
