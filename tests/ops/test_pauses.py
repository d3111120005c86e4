"""Pausing, resuming, and which names are known; what is paused is not claimed, neither by the poll nor by id."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from jobtrail.errors import UnknownQueueError, UnknownTaskError
from jobtrail.jobs.claim import claim_next, claim_these
from jobtrail.jobs.services import Services
from jobtrail.ops import pauses
from jobtrail.ops.pauses import PauseKind, pause, read_pauses, resume
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from support.rows import born, in_status
from support.world import Place

NODE = """INSERT INTO jobtrail.nodes (id, host, pid, version, queues, tasks, slots)
          VALUES (gen_random_uuid(), 'there', 1, '0', '{mail,bulk}', '{send_mail}', '{}')"""


@pytest.mark.parametrize(("kind", "name"), [("queue", "default"), ("task", "noop")])
async def test_a_pause_says_who_when_and_why_until_it_is_over(
    place: Place, services: Services, kind: PauseKind, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = await place.value("SELECT clock_timestamp()")
    with caplog.at_level(logging.INFO, "jobtrail"):
        first = await pause(services, kind, name, by="ann", reason="the provider is down")
        assert (first.kind, first.name, first.paused_by, first.reason) == (kind, name, "ann", "the provider is down")
        assert before <= first.paused_at <= await place.value("SELECT clock_timestamp()")
        assert await read_pauses(services) == [first]
        assert await resume(services, kind, name, by="bob") is True
        assert await read_pauses(services) == []
        assert await resume(services, kind, name, by="bob") is False
    told = [(each.getMessage(), each.__dict__[kind], each.__dict__["by"]) for each in caplog.records]
    assert told == [("paused", name, "ann"), ("resumed", name, "bob")]


async def test_of_many_at_once_the_first_one_stands(services: Services) -> None:
    first = await pause(services, "queue", "default", by="ann", reason="first")
    found = await asyncio.gather(*(pause(services, "queue", "default", by=f"caller {number}") for number in range(20)))
    assert found == [first] * 20
    assert await read_pauses(services) == [first]
    gone = await asyncio.gather(*(resume(services, "queue", "default", by="ann") for _ in range(20)))
    assert sorted(gone) == [False] * 19 + [True]
    again = await asyncio.gather(*(pause(services, "queue", "default", by=f"caller {number}") for number in range(20)))
    assert len(set(again)) == 1


async def test_a_pause_from_psql_is_one_of_ours(place: Place, services: Services) -> None:
    await paused(place, "queue", "of another time")
    (found,) = await read_pauses(services)
    assert (found.paused_by, found.reason) == (await place.value("SELECT session_user"), None)
    assert await pause(services, "queue", "of another time", by="ann") == found
    assert await resume(services, "queue", "of another time", by="ann") is True


async def at_node(place: Place) -> None:
    await place.psql.execute(NODE)


async def running(place: Place, **columns: Any) -> None:
    await in_status(place, Status.RUNNING, **columns)


async def buried(place: Place, **columns: Any) -> None:
    """Pending, and neither among the newest jobs nor the first of its queue."""
    await born(place)
    await born(place, **columns)
    await place.psql.execute("UPDATE jobtrail.jobs SET created_at = now() - interval '1 day'")
    for _ in range(3):
        await born(place)


@pytest.mark.parametrize(
    ("kind", "name", "source", "told"),
    [
        ("queue", "mail", at_node, {}),
        ("queue", "bulk", at_node, {}),
        ("queue", "mail", born, {"queue": "mail"}),
        ("queue", "mail", buried, {"queue": "mail"}),
        ("queue", "mail", running, {"queue": "mail"}),
        ("queue", "mail", lambda place: in_status(place, Status.FAILED, queue="mail"), {}),
        ("task", "send_mail", at_node, {}),
        ("task", "send_mail", born, {"task": "send_mail"}),
        ("task", "send_mail", buried, {"task": "send_mail"}),
        ("task", "send_mail", running, {"task": "send_mail"}),
        ("task", "send_mail", lambda place: in_status(place, Status.FAILED, task="send_mail"), {}),
    ],
)
async def test_what_is_known(
    place: Place, monkeypatch: pytest.MonkeyPatch, kind: PauseKind, name: str, source: Any, told: dict[str, str]
) -> None:
    """By a process without tasks of its own."""
    monkeypatch.setattr(pauses, "NEWEST", 3)
    services = Services(place.database, Catalog())
    with pytest.raises((UnknownQueueError, UnknownTaskError)):
        await pause(services, kind, name, by="ann")
    await source(place, **told)
    assert await resume(services, kind, name, by="ann") is False
    assert (await pause(services, kind, name, by="ann")).name == name


@pytest.mark.parametrize("verb", [pause, resume])
@pytest.mark.parametrize(
    ("kind", "name", "near"),
    [
        ("queue", "defualt", ("default",)),
        ("queue", "mial", ("mail",)),
        ("task", "nop", ("noop",)),
        ("task", "send_mial", ("send_mail",)),
        *((kind, name, ()) for kind in ("queue", "task") for name in ("xyz", "", "\0", "\ud800", "x" * 10_000)),
        ("queue", "noop", ()),
        ("task", "default", ()),
    ],
)
async def test_an_unknown_name_is_told_the_near_ones(
    place: Place, services: Services, verb: Any, kind: PauseKind, name: str, near: tuple[str, ...]
) -> None:
    await place.psql.execute(NODE)
    with pytest.raises((UnknownQueueError, UnknownTaskError), match=r"no (queue|task) is named ") as error:
        await verb(services, kind, name, by="ann")
    assert error.value.near[:1] == near
    assert await place.value("SELECT count(*) FROM jobtrail.pauses") == 0


LEASE = timedelta(seconds=30)
TASKS = ("noop", "other")


async def taken(place: Place, *, queues: Sequence[str] = (), free: int = 10) -> set[UUID]:
    found = await claim_next(place.database, node=uuid4(), lease=LEASE, tasks=TASKS, queues=queues, free=free, salt="x")
    return {each.id for each in found}


async def taken_by_id(place: Place, *ids: UUID) -> set[UUID]:
    return {each.id for each in await claim_these(place.database, ids, node=uuid4(), lease=LEASE)}


async def paused(place: Place, kind: str, name: str) -> None:
    await place.psql.execute("INSERT INTO jobtrail.pauses (kind, name) VALUES ($1, $2)", kind, name)


@pytest.mark.parametrize("way", ["poll", "poll of some queues", "by id"])
@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ([("queue", "m")], "na nb"),
        ([("task", "noop")], "mb nb"),
        ([("queue", "m"), ("task", "noop")], "nb"),
        ([("queue", "m"), ("queue", "n")], ""),
        ([("task", "noop"), ("task", "other")], ""),
        ([("task", "m"), ("queue", "noop")], "ma mb na nb"),
    ],
)
async def test_what_is_paused_waits(place: Place, way: str, what: list[tuple[str, str]], expected: str) -> None:
    """`expected`: which of the four jobs are taken all the same."""
    jobs = {
        await born(place, task, queue=queue): queue + mark
        for queue in ("m", "n")
        for task, mark in (("noop", "a"), ("other", "b"))
    }
    for kind, name in what:
        await paused(place, kind, name)
    match way:
        case "by id":
            found = await taken_by_id(place, *jobs)
        case _:
            found = await taken(place, queues=("m", "n") if way == "poll of some queues" else ())
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
    first, second = [await born(place) for _ in range(2)]
    async with place.psql.transaction():
        await paused(place, "task", "noop")
        assert await taken_by_id(place, first) == {first}
    assert await taken_by_id(place, second) == set()


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [("job", "x", None), ("queue", "", None), ("task", "x" * 201, None), ("task", "x", "x" * 1001)],
)
async def test_the_table_refuses_what_is_no_pause(place: Place, kind: str, name: str, reason: str | None) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await place.psql.execute(
            "INSERT INTO jobtrail.pauses (kind, name, reason) VALUES ($1, $2, $3)", kind, name, reason
        )
