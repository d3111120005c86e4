"""What a schedule may say, when it is due, and what code may declare."""

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest

from jobtrail import Task
from jobtrail.errors import DeclarationError
from jobtrail.task.catalog import Catalog
from jobtrail.task.schedule import ScheduleSpec, Timetable, flaws_of
from support import tasks

ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+00:00")


def due(since: str, count: int, **said: Any) -> list[str]:
    table = Timetable(ScheduleSpec(task="noop", **said), ANCHOR)
    return [f"{each:%m-%d %H:%M}" for each in islice(table.following(at(since)), count)]


PARIS = {"zone": "Europe/Paris"}


@pytest.mark.parametrize(
    ("since", "said", "expected"),
    [
        ("2026-11-27T10:00", {"cron": "0 7 * * mon-fri"}, ["11-30 07:00", "12-01 07:00", "12-02 07:00"]),
        ("2026-11-27T10:00", {"cron": "0 7 * * mon-fri", **PARIS}, ["11-30 06:00", "12-01 06:00", "12-02 06:00"]),
        ("2026-11-27T10:00", {"cron": "@Daily"}, ["11-28 00:00", "11-29 00:00"]),
        ("2026-11-27T10:00", {"cron": "@weekly"}, ["11-29 00:00", "12-06 00:00"]),
        ("2026-11-27T10:00", {"cron": "@monthly"}, ["12-01 00:00"]),
        ("2026-11-27T10:00", {"cron": "@hourly"}, ["11-27 11:00"]),
        # spring: 02:30 is not there, and due when the clock goes on
        ("2026-03-28T00:00", {"cron": "30 2 * * *", **PARIS}, ["03-28 01:30", "03-29 01:00", "03-30 00:30"]),
        ("2026-03-29T00:30", {"cron": "*/30 * * * *", **PARIS}, ["03-29 01:00", "03-29 01:30"]),
        # autumn: 02:30 is there twice, and due once; with a star it follows the clock
        ("2026-10-24T12:00", {"cron": "30 2 * * *", **PARIS}, ["10-25 00:30", "10-26 01:30"]),
        ("2026-10-25T00:00", {"cron": "30 */2 * * *", **PARIS}, ["10-25 00:30", "10-25 01:30", "10-25 03:30"]),
        # asked in the second 02:00, the library answers with the first 02:30
        ("2026-10-25T01:00", {"cron": "30 2 * * *", **PARIS}, ["10-26 01:30"]),
        ("2026-01-01T00:00", {"every": 90}, ["01-01 00:01", "01-01 00:03", "01-01 00:04"]),
        ("2026-01-05T00:00", {"every": 86400, "starts_at": at("2026-01-02T06:00")}, ["01-05 06:00", "01-06 06:00"]),
        ("2026-01-01T00:00", {"every": 86400, "starts_at": at("2026-01-02T06:00")}, ["01-02 06:00"]),
        ("2026-01-01T00:00", {"cron": "0 * * * *", "starts_at": at("2026-01-02T06:00")}, ["01-02 06:00"]),
        ("2026-01-01T00:00", {"cron": "@daily", "ends_at": at("2026-01-03T00:00")}, ["01-02 00:00", "01-03 00:00"]),
        ("2026-01-01T00:00", {"every": 3600, "ends_at": at("2026-01-01T02:00")}, ["01-01 01:00", "01-01 02:00"]),
    ],
)
def test_due_times(since: str, said: dict[str, Any], expected: list[str]) -> None:
    count = len(expected) + ("ends_at" in said)
    assert due(since, count, **said) == expected


@pytest.mark.parametrize("said", [{"every": 60}, {"cron": "* * * * *", "zone": "Europe/Paris"}])
def test_of_many_missed_the_last_hundred_are_looked_at(said: dict[str, Any]) -> None:
    table = Timetable(ScheduleSpec(task="noop", **said), ANCHOR)
    first, minute = at("2026-03-01T00:00"), timedelta(minutes=1)
    for now in (at("2026-03-29T01:20"), at("2026-03-29T01:20:30")):
        assert table.until(first, now) == [at("2026-03-29T01:20") - minute * back for back in range(99, -1, -1)]
    assert table.until(first, first) == [first]
    assert table.until(first, first + 2.5 * minute) == [first, first + minute, first + 2 * minute]


@pytest.mark.parametrize(
    ("said", "pointer", "detail"),
    [
        ({}, "/cron", "exactly one of cron and every"),
        ({"cron": "@daily", "every": 5}, "/cron", "exactly one of cron and every"),
        ({"cron": "0 0 30 2 *"}, "/cron", "Bad day-of-month, or there is no such day"),
        ({"cron": "0 0 31 4,6 *"}, "/cron", "there is no such day"),
        ({"cron": "1-999999999 * * * *"}, "/cron", "Bad minute"),
        ({"cron": "0/0 * * * *"}, "/cron", "Bad minute"),
        ({"cron": "* * * * * *"}, "/cron", "this has 6 fields, not 5"),
        ({"cron": ""}, "/cron", "this has 0 fields, not 5"),
        ({"cron": "0 0 L * *"}, "/cron", "L is not supported"),
        ({"cron": "0 0 * * 5L"}, "/cron", "L is not supported"),
        ({"cron": "@yearly"}, "/cron", "is not known: write one of @hourly, @daily, @weekly, @monthly"),
        ({"cron": "@daily", "zone": "Europe/Pari"}, "/zone", "did you mean Europe/Paris"),
        ({"cron": "@daily", "zone": "../../etc/passwd"}, "/zone", "no zone of the IANA database"),
        ({"cron": "@daily", "zone": "Europe"}, "/zone", "no zone"),
        ({"cron": "@daily", "zone": "a\0b"}, "/zone", "no zone"),
        ({"every": 5, "starts_at": ANCHOR, "ends_at": ANCHOR}, "/ends_at", "not after starts_at"),
        ({"every": 5, "missed": "all", "overlap": "skip"}, "/missed", "leave overlap out"),
    ],
)
def test_what_cannot_be_obeyed_is_refused_with_the_fix(said: dict[str, Any], pointer: str, detail: str) -> None:
    (flaw,) = flaws_of(ScheduleSpec(task="noop", **said))
    assert flaw.pointer == pointer
    assert detail in flaw.detail


def test_july_has_an_l() -> None:
    assert flaws_of(ScheduleSpec(task="noop", cron="0 0 1 JUL mon#2")) == []


def test_code_declares_a_schedule_under_the_name_of_its_task() -> None:
    plain = Task(tasks.noop.function, cron="0 7 * * *", zone="Europe/Paris")
    assert (plain.schedule_name, plain.schedule) == (
        "noop",
        ScheduleSpec(task="noop", cron="0 7 * * *", zone="Europe/Paris"),
    )
    named = Task(tasks.noop.function, name="other", every=300, schedule_name="refresh")
    assert named.schedule is not None
    assert (named.schedule_name, named.schedule.task, named.schedule.every) == ("refresh", "other", 300)
    assert tasks.noop.schedule is None
    with pytest.raises(DeclarationError, match="two schedules are named 'refresh'"):
        Catalog([named, Task(tasks.nothing.function, every=5, schedule_name="refresh")])


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"cron": "0 0 30 2 *"}, "cron: Bad day-of-month"),
        ({"cron": 5}, "cron=5: write minute, hour"),
        ({"every": 0}, "every=0: write seconds from 1"),
        ({"every": 5, "cron": "@daily"}, "exactly one of cron and every"),
        ({"every": 5, "zone": "UTC"}, "zone is of cron alone"),
        ({"zone": "UTC"}, "zone is of cron alone"),
        ({"schedule_name": "x"}, "write cron= or every= with it"),
        ({"cron": "@daily", "schedule_name": "a b"}, "schedule_name='a b': write letters"),
        ({"cron": "@daily", "zone": "Mars"}, "zone: no zone of the IANA database is named 'Mars'"),
    ],
)
def test_a_declaration_that_cannot_be_is_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(DeclarationError) as refused:
        Task(tasks.noop.function, **said)
    assert message in str(refused.value)


def test_the_jobs_of_a_declared_schedule_have_no_arguments() -> None:
    with pytest.raises(DeclarationError, match="give how a default, or PUT a schedule with args"):
        Task(tasks.fail.function, every=5)
