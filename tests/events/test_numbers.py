"""Numbers derived from the feed are what plain SQL says of the history, whoever wrote it and whoever dies."""

import asyncio
import sys
from contextlib import suppress
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from jobtrail.db.engine import Database, open_database
from jobtrail.db.errors import FAILURES
from jobtrail.errors import UnavailableError
from jobtrail.events import numbers
from jobtrail.ops.totals import all_totals, purge_minutes
from jobtrail.status import Status
from support import history
from support.counted import stats_of
from support.rows import PATHS, born, in_status, moved, typed
from support.until import until
from support.world import Place, services_at

# Written apart from the product's own, a row of the history at a time.
TOTALS = """
SELECT task, kind, count(*) AS n FROM (
    SELECT task, 'submitted' AS kind FROM jobtrail.transitions WHERE from_status IS NULL
    UNION ALL SELECT task, to_status FROM jobtrail.transitions
               WHERE to_status IN ('succeeded', 'failed', 'cancelled', 'purged')
    UNION ALL SELECT task, 'lost' FROM jobtrail.transitions WHERE from_status = 'running' AND error ->> 'type' = 'lost'
    UNION ALL SELECT task, 'rescued' FROM jobtrail.transitions
               WHERE from_status = 'running' AND reason = 'rescued') each
 GROUP BY task, kind ORDER BY task, kind
"""
ENDS = """
SELECT date_trunc('minute', at) AS minute, task, to_status AS status, count(*) AS n FROM jobtrail.transitions
 WHERE to_status IN ('succeeded', 'failed', 'cancelled') GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
MINUTES = "SELECT minute, task, status, n FROM jobtrail.ended_minutes ORDER BY 1, 2, 3"


async def told(place: Place) -> list[dict[str, Any]]:
    return [{"task": task, "kind": kind, "n": n} for task, kind, n in await all_totals(place.database)]


@pytest.fixture
async def past(place: Place) -> history.History:
    """Jobs of all fates, in the last two hours."""
    told = await history.begin(place)
    for node in "ab":
        await told.node(node, "mail report")
    for name, ago in (("ok", 90), ("late", 40), ("bad", 30), ("worse", 20), ("lost", 15), ("back", 14), ("no", 12)):
        more: dict[str, Any] = {"max_attempts": 2} if name in {"bad", "back"} else {}
        await told.submit(name, ago, "report" if name in {"bad", "lost"} else "mail", **more)
    for name, ago in (("ok", 89), ("late", 39)):
        await told.claim(name, ago, "a")
        await told.succeed(name, ago - 1, "a")
    await told.claim("bad", 29, "a")
    await told.again("bad", 28, "a", "ValueError", "no")
    await told.claim("bad", 27, "b")
    await told.fail("bad", 26, "b", "ValueError", "no")
    await told.claim("worse", 19, "b")
    await told.fail("worse", 18, "b", "KeyError", "no")
    await told.retry("worse", 17, "ann")
    await told.claim("worse", 16, "b")
    await told.succeed("worse", 15, "b")
    await told.claim("lost", 14, "a")
    await told.rescue("lost", 12, "b")
    await told.claim("back", 13, "a")
    await told.rescue("back", 11, "b")
    await told.cancel("no", 10, "ann", "not needed")
    for status in PATHS:  # by psql
        await in_status(place, status, queue="by-hand")
    await typed(place, await in_status(place, Status.RUNNING), Status.FAILED)
    return told


@pytest.mark.usefixtures("past")
async def test_they_are_what_the_history_says(place: Place) -> None:
    await numbers.catch_up(place.database)
    found = await told(place)
    assert found == await place.rows(TOTALS)
    assert await place.rows(MINUTES) == await place.rows(ENDS)
    assert {(each["task"], each["kind"]): each["n"] for each in found} == {
        ("mail", "submitted"): 5, ("mail", "succeeded"): 3, ("mail", "failed"): 1, ("mail", "cancelled"): 1,
        ("mail", "lost"): 1, ("mail", "rescued"): 1,
        ("report", "submitted"): 2, ("report", "failed"): 2, ("report", "lost"): 1, ("report", "rescued"): 1,
        ("noop", "submitted"): 6, ("noop", "succeeded"): 1, ("noop", "failed"): 2, ("noop", "cancelled"): 1,
    }  # fmt: skip


async def test_a_purge_counts_too(place: Place) -> None:
    job_id = await in_status(place, Status.SUCCEEDED)
    expired = "UPDATE jobtrail.jobs SET ttl = '0', expires_at = finished_at WHERE id = $1"
    await place.psql.execute(expired, job_id)
    await place.psql.execute("DELETE FROM jobtrail.jobs WHERE id = $1", job_id)
    await numbers.catch_up(place.database)
    assert {"task": "noop", "kind": "purged", "n": 1} in await told(place)
    assert await told(place) == await place.rows(TOTALS)


DERIVES = f"""
import asyncio, sys
sys.path[:0] = {sys.path!r}
from jobtrail.db.errors import FAILURES
from jobtrail.db.engine import open_database
from jobtrail.errors import UnavailableError
from jobtrail.events import numbers, feed
from jobtrail.jobs.services import Services
from jobtrail.task.catalog import Catalog

async def main():
    database = open_database(sys.argv[1])
    while True:
        try:
            await feed.mark(database)
            await numbers.advance(Services(database, Catalog()))
        except (*FAILURES, UnavailableError):  # its backend was killed, as those of the others are
            continue
        print("once", flush=True)

asyncio.run(main())
"""


async def derive_for_ever(database: Database) -> None:
    while True:
        with suppress(*FAILURES, UnavailableError):
            await numbers.catch_up(database)
        await asyncio.sleep(0)


async def kill_processes(place: Place, times: int) -> None:
    """In the midst of it, each after it has done it a few times."""
    for number in range(times):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", DERIVES, place.url.sqlalchemy, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        for _ in range(number + 1):
            assert await process.stdout.readline() == b"once\n"
        process.kill()
        await process.wait()


async def kill_backends(place: Place, times: int) -> None:
    """Those that are counting."""
    counting = """
        SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()
           AND (query LIKE '%INSERT INTO jobtrail.totals%' OR query LIKE '%UPDATE jobtrail.feed_cursors%')
           AND state <> 'idle'
    """
    for _ in range(times):
        await until(lambda: place.value(counting))


async def move_jobs(place: Place, tasks: int) -> None:
    """By psql, as a host's own transactions do: each is open for a while."""
    for number in range(tasks):
        async with place.psql.transaction():
            job_id = await born(place, f"task{number % 7}")
            for step in PATHS[list(PATHS)[number % 5]]:
                await moved(place, job_id, step)


@pytest.mark.timeout(300)
async def test_each_transition_counts_once_whoever_dies(place: Place) -> None:
    others = [open_database(place.url.sqlalchemy) for _ in range(3)]
    deriving = [asyncio.create_task(derive_for_ever(each)) for each in others]
    killer = open_database(place.url.sqlalchemy)
    hand = await asyncpg.connect(place.url.libpq)
    try:
        killing = Place(place.url, killer, hand, place.scratch)
        dying = asyncio.gather(kill_backends(killing, 20), kill_processes(place, 4))
        count = 0
        while not dying.done() or count < 400:
            await move_jobs(place, 20)
            count += 20
        await dying
    finally:
        await hand.close()
        for each in deriving:
            each.cancel()
        await asyncio.gather(*deriving, return_exceptions=True)
        await numbers.stop()
        for database in (*others, killer):
            await database.dispose()
    await numbers.catch_up(place.database)
    assert await place.value("SELECT count(*) FROM jobtrail.transitions WHERE from_status IS NULL") == count
    assert await told(place) == await place.rows(TOTALS)
    assert await place.rows(MINUTES) == await place.rows(ENDS)


async def test_stats_are_what_plain_sql_says(place: Place, past: history.History) -> None:
    await past.submit("due", 8, "mail", queue="slow")
    await past.submit("later", 7, "report", queue="slow", due=-60)
    await past.submit("now", 6, "mail")
    await past.claim("now", 5, "a")
    found = await stats_of(place)
    ended = "SELECT task, to_status FROM jobtrail.transitions WHERE at >= $1 AND to_status = ANY($2)"
    ends = await place.rows(ended, found.since, ["succeeded", "failed", "cancelled"])
    assert found.ended == len(ends)
    assert found.failed == sum(each["to_status"] == "failed" for each in ends)
    assert found.ended > 0
    rows = await place.rows("SELECT queue, task, status, run_at, started_at, now() FROM jobtrail.jobs")
    for status, number in (("pending", found.pending), ("running", found.running)):
        assert number == sum(each["status"] == status for each in rows)
    due = [each for each in rows if each["status"] == "pending" and each["run_at"] <= each["now"]]
    assert found.oldest_pending_at == min(each["run_at"] for each in due)
    assert found.oldest_running_at == min(each["started_at"] for each in rows if each["status"] == "running")
    for queue in found.queues:
        ours = [each["status"] for each in rows if each["queue"] == queue.queue]
        assert (queue.pending, queue.running) == (ours.count("pending"), ours.count("running"))
        oldest = [each["run_at"] for each in due if each["queue"] == queue.queue]
        assert queue.oldest_pending_at == min(oldest, default=None)
    for task in found.tasks:
        ours = [each["status"] for each in rows if each["task"] == task.task]
        assert (task.pending, task.running) == (ours.count("pending"), ours.count("running"))
        gone = [each["to_status"] for each in ends if each["task"] == task.task]
        assert (task.ended, task.failed) == (len(gone), gone.count("failed"))
    assert {each.queue for each in found.queues} == {"default", "by-hand", "slow"}
    assert (found.nodes, found.slots, found.more) == (2, {"loop": 2}, False)


async def test_numbers_that_are_counted_are_not_behind(place: Place) -> None:
    await born(place)
    assert (await stats_of(place)).numbers_lag == 0
    await born(place)
    async with place.psql.transaction():
        await place.psql.execute("SELECT FROM jobtrail.feed_cursors WHERE name = 'minutes' FOR UPDATE")
        assert (await stats_of(place)).numbers_lag > 0
    assert (await stats_of(place)).numbers_lag == 0


async def test_what_another_counts_is_waited_for_and_then_told_as_of_before(place: Place) -> None:
    before = await numbers.catch_up(place.database)
    await in_status(place, Status.SUCCEEDED)
    async with place.psql.transaction():
        await place.psql.execute("SELECT FROM jobtrail.feed_cursors WHERE name = 'minutes' FOR UPDATE")
        as_of = await numbers.catch_up(place.database)
        assert as_of <= await place.value("SELECT at FROM jobtrail.feed_marks ORDER BY no DESC OFFSET 1 LIMIT 1")
        assert await told(place) == []
    assert await numbers.catch_up(place.database) > before
    assert await told(place) == await place.rows(TOTALS)


async def test_minutes_are_kept_for_a_day_and_totals_for_ever(place: Place) -> None:
    insert = (
        "INSERT INTO jobtrail.ended_minutes VALUES (date_trunc('minute', now() - $1::interval), 'noop', 'failed', 1)"
    )
    for age in (timedelta(hours=24), timedelta(hours=26)):
        await place.psql.execute(insert, age)
    await place.psql.execute("INSERT INTO jobtrail.totals VALUES ('noop', 'failed', 2)")
    await purge_minutes(place.database)
    assert await place.value("SELECT count(*) FROM jobtrail.ended_minutes") == 1
    assert len(await told(place)) == 1


async def test_those_who_ask_at_once_share_one_question() -> None:
    asked, failing, go = 0, False, asyncio.Event()

    async def ask() -> int:
        nonlocal asked
        asked += 1
        await go.wait()
        if failing:
            raise UnavailableError("away")
        return asked

    shared = numbers.Shared(ask)
    first, gone, *others = [asyncio.create_task(shared()) for _ in range(10)]
    await asyncio.sleep(0)
    gone.cancel()  # takes nothing from the others
    go.set()
    assert await asyncio.gather(first, *others) == [1] * 9
    assert await shared() == 1
    failing = True
    again = numbers.Shared(ask)
    for _ in range(2):  # an error is no answer
        with pytest.raises(UnavailableError):
            await again()
    assert asked == 3


async def test_stats_of_a_process_are_shared(place: Place) -> None:
    services = services_at(place)
    found = await asyncio.gather(*(numbers.stats(services) for _ in range(20)))
    assert all(each is found[0] for each in found)
