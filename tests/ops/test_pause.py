"""Pausing, resuming, and which names are known."""

import asyncio
import logging
from typing import Any

import pytest

from jobtrail.errors import UnknownQueueError, UnknownTaskError
from jobtrail.jobs.services import Services
from jobtrail.ops import pauses
from jobtrail.ops.pauses import pause, read_pauses, resume
from jobtrail.records import PauseKind
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from support.rows import born, in_status
from support.world import Place, services_at

NODE = """INSERT INTO jobtrail.nodes (id, host, pid, version, queues, tasks, slots)
          VALUES (gen_random_uuid(), 'there', 1, '0', '{mail,bulk}', '{send_mail}', '{}')"""


@pytest.mark.parametrize(("kind", "name"), [("queue", "default"), ("task", "noop")])
async def test_a_pause_says_who_when_and_why_until_it_is_over(place: Place, kind: PauseKind, name: str) -> None:
    services = services_at(place)
    before = await place.value("SELECT clock_timestamp()")
    first = await pause(services, kind, name, by="ann", reason="the provider is down")
    assert (first.kind, first.name, first.paused_by, first.reason) == (kind, name, "ann", "the provider is down")
    assert before <= first.paused_at <= await place.value("SELECT clock_timestamp()")
    assert await read_pauses(services) == [first]
    assert await resume(services, kind, name, by="bob") is True
    assert await read_pauses(services) == []
    assert await resume(services, kind, name, by="bob") is False


async def test_the_first_pause_stands(place: Place) -> None:
    services = services_at(place)
    first = await pause(services, "queue", "default", by="ann", reason="first")
    assert await pause(services, "queue", "default", by="bob", reason="second") == first
    assert await read_pauses(services) == [first]


async def test_of_many_at_once_one_is_the_first(place: Place) -> None:
    services = services_at(place)
    found = await asyncio.gather(*(pause(services, "queue", "default", by=f"caller {number}") for number in range(20)))
    assert len(set(found)) == 1
    gone = await asyncio.gather(*(resume(services, "queue", "default", by="ann") for _ in range(20)))
    assert sorted(gone) == [False] * 19 + [True]


async def test_a_pause_from_psql_is_one_of_ours(place: Place) -> None:
    await place.psql.execute("INSERT INTO jobtrail.pauses (kind, name) VALUES ('queue', 'of another time')")
    services = services_at(place)
    (found,) = await read_pauses(services)
    assert (found.paused_by, found.reason) == (await place.value("SELECT session_user"), None)
    assert await pause(services, "queue", "of another time", by="ann") == found
    assert await resume(services, "queue", "of another time", by="ann") is True


async def test_the_log_says_who(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    services = services_at(place)
    with caplog.at_level(logging.INFO, "jobtrail"):
        await pause(services, "task", "noop", by="ann", reason="why")
        for _ in range(2):
            await resume(services, "task", "noop", by="bob")
    told = [(each.getMessage(), each.__dict__["task"], each.__dict__["by"]) for each in caplog.records]
    assert told == [("paused", "noop", "ann"), ("resumed", "noop", "bob")]


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
        ("queue", "noop", ()),
        ("queue", "", ()),
        ("queue", "\0", ()),
        ("queue", "\ud800", ()),
        ("queue", "x" * 10_000, ()),
        ("task", "nop", ("noop",)),
        ("task", "send_mial", ("send_mail",)),
        ("task", "default", ()),
        ("task", "", ()),
        ("task", "\0", ()),
        ("task", "\ud800", ()),
        ("task", "x" * 10_000, ()),
    ],
)
async def test_an_unknown_name_is_told_the_near_ones(
    place: Place, verb: Any, kind: PauseKind, name: str, near: tuple[str, ...]
) -> None:
    await place.psql.execute(NODE)
    with pytest.raises((UnknownQueueError, UnknownTaskError), match=r"no (queue|task) is named ") as error:
        await verb(services_at(place), kind, name, by="ann")
    assert error.value.near[:1] == near
    assert await place.value("SELECT count(*) FROM jobtrail.pauses") == 0
