"""What is paused is not claimed, neither by the poll nor by id; a row from psql counts as much as ours."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from jobtrail.jobs.claim import claim_next, claim_these
from jobtrail.ops import pauses
from support.rows import born
from support.world import Place

LEASE = timedelta(seconds=30)
TASKS = ("noop", "other")


async def taken(place: Place, *, queues: Sequence[str] = (), free: int = 10) -> set[UUID]:
    found = await claim_next(place.database, node=uuid4(), lease=LEASE, tasks=TASKS, queues=queues, free=free, salt="x")
    return {each.id for each in found}


async def taken_by_id(place: Place, *ids: UUID) -> set[UUID]:
    return {each.id for each in await claim_these(place.database, ids, node=uuid4(), lease=LEASE)}


async def paused(place: Place, kind: str, name: str) -> None:
    await place.psql.execute("INSERT INTO jobtrail.pauses (kind, name) VALUES ($1, $2)", kind, name)


# what is paused, and which of the four jobs are taken then
CASES = [
    ([], "ma mb na nb"),
    ([("queue", "m")], "na nb"),
    ([("task", "noop")], "mb nb"),
    ([("queue", "m"), ("task", "noop")], "nb"),
    ([("queue", "m"), ("queue", "n")], ""),
    ([("task", "noop"), ("task", "other")], ""),
    ([("task", "m"), ("queue", "noop")], "ma mb na nb"),
    ([("queue", "nobody's"), ("task", "nobody's")], "ma mb na nb"),
]


@pytest.mark.parametrize("way", ["poll", "poll of some queues", "by id"])
@pytest.mark.parametrize(("what", "expected"), CASES)
async def test_what_is_paused_waits(place: Place, way: str, what: list[tuple[str, str]], expected: str) -> None:
    jobs = {
        await born(place, task, queue=queue): queue + mark
        for queue in ("m", "n")
        for task, mark in (("noop", "a"), ("other", "b"))
    }
    for kind, name in what:
        await paused(place, kind, name)
    match way:
        case "poll":
            found = await taken(place)
        case "poll of some queues":
            found = await taken(place, queues=("m", "n"))
        case _:
            found = await taken_by_id(place, *jobs)
    assert sorted(jobs[each] for each in found) == expected.split()
    await place.psql.execute("DELETE FROM jobtrail.pauses")
    assert await taken(place) == jobs.keys() - found


async def test_a_paused_backlog_keeps_nobody_from_its_turn(place: Place) -> None:
    """Older and more urgent, and more of it than is free."""
    for _ in range(30):
        await born(place, "other", priority=9)
        await born(place, queue="m", priority=9)
    free = {await born(place, priority=priority) for priority in (0, 5)}
    await paused(place, "task", "other")
    await paused(place, "queue", "m")
    assert await taken(place, free=2) == free


async def test_a_pause_counts_when_it_is_committed(place: Place) -> None:
    jobs = [await born(place) for _ in range(2)]
    async with place.database.sessions() as session:
        await pauses.put(session, "task", "noop", actor="ann", reason=None)
        assert await taken_by_id(place, jobs[0]) == {jobs[0]}
        await session.commit()
    assert await taken_by_id(place, jobs[1]) == set()


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [("job", "x", None), ("queue", "", None), ("task", "x" * 201, None), ("task", "x", "x" * 1001)],
)
async def test_the_table_refuses_what_is_no_pause(place: Place, kind: str, name: str, reason: str | None) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await place.psql.execute(
            "INSERT INTO jobtrail.pauses (kind, name, reason) VALUES ($1, $2, $3)", kind, name, reason
        )
    assert await place.value("SELECT count(*) FROM jobtrail.pauses") == 0
