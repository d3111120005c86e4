"""Stats count what waits so far and no further, and ring for what is the app's."""

from datetime import timedelta
from typing import Any

from jobtrail.ops.stats import EXACT
from jobtrail.status import Status
from support.counted import stats_of
from support.rows import born, in_status
from support.world import Place

MANY = """
INSERT INTO jobtrail.jobs (id, task, queue, priority)
SELECT gen_random_uuid(), 'noop', $1, $2 FROM generate_series(1, $3)
"""


async def test_pending_jobs_are_counted_so_far_and_no_further(place: Place) -> None:
    for queue, priority, count in (("a", 5, EXACT), ("b", 5, EXACT + 500), ("b", 1, 10)):
        await place.psql.execute(MANY, queue, priority, count)
    found = await stats_of(place)
    assert (found.pending, found.more) == (EXACT + EXACT + 1 + 10, True)
    assert [(each.queue, each.pending, each.more) for each in found.queues] == [
        ("a", EXACT, False),
        ("b", EXACT + 11, True),
    ]
    further = await stats_of(place, pending=EXACT + 500)
    assert (further.pending, further.more) == (2 * EXACT + 510, False)


async def test_a_queue_is_told_however_many_others_are_full(place: Place) -> None:
    """And each of them exactly, where the alarm's limit lets so many be counted."""
    full = [f"q{number:02}" for number in range(22)]
    for queue in full:
        await place.psql.execute(MANY, queue, 5, EXACT + 2)
    await born(place, queue="zz-last")
    found = await stats_of(place)
    assert (found.pending, found.more) == (22 * (EXACT + 1) + 1, True)
    assert [(each.queue, each.pending, each.more) for each in found.queues] == [
        *((queue, EXACT + 1, True) for queue in full),
        ("zz-last", 1, False),
    ]
    partly = await stats_of(place, pending=EXACT + 10)
    assert (partly.pending, partly.more) == (22 * (EXACT + 1) + 10 + 1, True)
    assert [each.more for each in partly.queues] == [True] * 22 + [False]
    exact = await stats_of(place, pending=100_000)
    assert (exact.pending, exact.more) == (22 * (EXACT + 2) + 1, False)
    assert [each.pending for each in exact.queues] == [EXACT + 2] * 22 + [1]


async def test_what_is_paused_does_not_grow_old(place: Place) -> None:
    for queue, task, age in (("a", "mail", 3), ("a", "report", 2), ("b", "mail", 1)):
        await born(
            place, task, queue=queue, run_at=await place.value("SELECT now() - $1::interval", timedelta(hours=age))
        )

    async def oldest(kind: str, name: str) -> list[float | None]:
        """Hours, of all queues, a and b."""
        await place.psql.execute("INSERT INTO jobtrail.pauses (kind, name) VALUES ($1, $2)", kind, name)
        found = await stats_of(place)
        assert (found.pending, len(found.queues)) == (3, 2)
        await place.psql.execute("DELETE FROM jobtrail.pauses")
        ages = [found.oldest_pending_at, *(each.oldest_pending_at for each in found.queues)]
        return [None if since is None else (found.read_at - since) // timedelta(hours=1) for since in ages]

    assert await oldest("queue", "elsewhere") == [3, 3, 1]
    assert await oldest("queue", "a") == [1, None, 1]
    assert await oldest("task", "mail") == [2, 2, None]
    assert await oldest("task", "a") == [3, 3, 1]


async def test_alarms_leave_deliveries_out(place: Place) -> None:
    """A receiver that is away is no backlog of the app."""
    own: dict[str, Any] = {"task": "jobtrail.webhook", "queue": "jobtrail.webhooks"}
    for status in (Status.PENDING, Status.RUNNING, Status.FAILED):
        await in_status(place, status, **own)
    await in_status(place, Status.SUCCEEDED)
    found = await stats_of(place, pending=0, running=timedelta(0), failures=0)
    assert (found.pending, found.running, found.ended, found.failed) == (1, 1, 2, 1)
    assert [(each.value, each.rings) for each in found.alarms] == [(0, False)] * 3


async def test_deliveries_take_no_count_from_the_queues_of_the_app(place: Place) -> None:
    for queue in ("jobtrail.webhooks", "later"):
        await place.psql.execute(MANY, queue, 5, EXACT + 500)
    found = await stats_of(place, pending=EXACT + 500)
    assert [(each.queue, each.pending, each.more) for each in found.queues] == [
        ("jobtrail.webhooks", EXACT + 1, True),
        ("later", EXACT + 500, False),
    ]


async def test_an_alarm_rings_beyond_its_limit(place: Place) -> None:
    for status in (Status.PENDING, Status.RUNNING, Status.SUCCEEDED, Status.FAILED):
        await in_status(place, status)
    await place.psql.execute("SELECT pg_sleep(0.01)")
    quiet = await stats_of(place, pending=1, running=timedelta(days=1), failures=0.5)
    assert [(each.name, each.limit, each.rings) for each in quiet.alarms] == [
        ("pending", 1, False),
        ("running", 86400, False),
        ("failures", 0.5, False),
    ]
    assert [each.value for each in quiet.alarms][::2] == [1, 0.5]
    loud = await stats_of(place, pending=0, running=timedelta(0), failures=0.49)
    assert loud.ringing == loud.alarms
