"""Each question on a past that is known move by move: from Python, and the same from psql."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from jobtrail.ops.audit import ask, question, questions
from ops.audit.conftest import TRACE
from support.history import MINUTE, History
from support.psql import NULL, PSQLS, run_file

SQL = Path(str(files("jobtrail.ops.audit") / "sql"))


@dataclass
class Case:
    """`rows` with names for ids and minutes before now for times; `only` leaves the other columns out."""

    question: str
    given: Mapping[str, str]
    rows: Sequence[tuple[Any, ...]]
    only: str = ""
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = " ".join([self.question, *(f"{key}={value}" for key, value in self.given.items())])


def near(number: float) -> Any:
    """Seconds that grow while the tests run."""
    return pytest.approx(number, abs=120)


HISTORY = "seq at seconds_since_last from_status to_status attempt actor reason node_id error_type error_message"
FAILURES = "task error_type ended failed attempts_failed failure_rate last_at last_message"
SLOWEST = "job_id run_seconds wait_seconds attempt status started_at finished_at"
STUCK = "job_id task queue status why since seconds attempt host cancel_requested_at"
LOST = "at job_id attempt became status_now node_id host recorded_by message"
CANCELS = "requested_at requested_by reason job_id from_status ended_as ended_at ended_by"
PURGED = "purged_at purged_by job_id task ended_as attempt created_at created_by finished_at kept_seconds"
TRACED = "job_id status attempt created_by created_at started_at finished_at purged_at error_type"

SLOW = ("send_mail", "TimeoutError", 4, 1, 2, 0.25, 115, "still no answer")
NO_ADDRESS = ("send_mail", "ValueError", 4, 1, 1, 0.25, 98, "no address")
SILENT_NODE = "the node gone that ran attempt 1 went silent"

LEASE_RAN_OUT = "its lease ran out: the node does not renew it"
UNKNOWN = "no living node knows its task and has a place for it"
UNSERVED = "no living node that knows its task serves its queue"
OVERDUE = ("overdue", "send_mail", "default", "pending", "it waits for a slot for long", 20, near(1200), 0, None, None)
HELD = "its queue is paused by ann: the provider is down"
FROZEN = "its task is paused by bob"
STUCK_ROWS = [
    ("asked", "crawl", "web", "running", "it runs for long", 64, near(3840), 1, "beta", 3),
    OVERDUE,
    ("held", "report", "post", "pending", HELD, 6, near(360), 0, None, None),
    ("frozen", "digest", "default", "pending", FROZEN, 5, near(300), 0, None, None),
    ("silent", "resize", "default", "running", LEASE_RAN_OUT, 3.5, near(210), 1, "alpha", None),
    ("unserved", "crawl", "bulk", "pending", UNSERVED, 3, near(180), 0, None, None),
    ("unknown", "legacy", "default", "pending", UNKNOWN, 2, near(120), 0, None, None),
]  # fmt: skip

LOST_ROWS = [
    (188, "shut down", 1, "failed", "failed", "gone", "gone", "node", "the node shut down during attempt 1"),
    (198, "lost twice", 1, "pending", "succeeded", "gone", "gone", "node alpha", SILENT_NODE),
    (198, "lost", 1, "failed", "failed", "gone", "gone", "node alpha", SILENT_NODE),
    (198, "lost, purged", 1, "failed", "purged", "gone", "gone", "node alpha", SILENT_NODE),
]
LOST_CRAWLS = [
    (56, "orphan", 1, "cancelled", "cancelled", "gone", "gone", "ann", SILENT_NODE),
    (178, "orphan, purged", 1, "cancelled", "purged", "gone", "gone", "ann", SILENT_NODE),
]

ASKED = (3, "bob", "hangs", "asked", "running", None, None, None)
AGAIN = (52, "dan", None, "regretted", "pending", "cancelled", 52, "dan")
REGRETTED = (54, "ann", "oops", "regretted", "pending", "cancelled", 54, "ann")
ORPHAN = (56.5, "ann", "stop", "orphan", "running", "cancelled", 56, "ann")
TOO_LATE = (60, "bob", None, "too late", "running", "succeeded", 59, "node")
STOPPED = (64, "bob", "too slow", "stopped", "running", "cancelled", 63, "bob")
SILENCED = (67, "cid", None, "silenced", "pending", "cancelled", 67, "cid")
WITHDRAWN = (69, "ann", "not needed", "withdrawn", "pending", "cancelled", 69, "ann")
ORPHAN_PURGED = (None, "ann", "stop", "orphan, purged", "running", "cancelled", 178, "ann")
REFUSED = (179, "eve", "lost", "refused, purged", "pending", "cancelled", 179, "eve")
CANCELLED = [ASKED, AGAIN, REGRETTED, ORPHAN, TOO_LATE, STOPPED, SILENCED, WITHDRAWN, ORPHAN_PURGED, REFUSED]
YESTERDAY = (1800, "ann", "old", "dropped yesterday", "pending", "cancelled", 1800, "ann")

PURGED_ROWS = [
    (44, "node", "child", "report", "succeeded", 1, 49, "web", 47, 180),
    (177, "node", "orphan, purged", "crawl", "cancelled", 1, 180, "web", 178, 60),
    (178, "purge by hand", "refused, purged", "crawl", "cancelled", 0, 180, "ann", 179, 60),
    (197, "node", "lost, purged", "resize", "failed", 1, 200, "web", 198, 60),
]
ELDER_PURGED = (14395, "node", "elder", "report", "succeeded", 1, 14400, "web", 14398, 180)

ELDER = ("elder", "succeeded", 1, "web", 14400, 14399, 14398, 14395, None)
ROOT = ("root", "succeeded", 1, "web", 50, 49, 48, None, None)
CHILD = ("child", "succeeded", 1, "web", 49, 48, 47, 44, None)

CASES = [
    Case("history_of_job", {"id": "mended"}, [
        (1, 100, None, None, "pending", 0, "web", "submitted", None, None, None),
        (2, 99, 60, "pending", "running", 1, "node", "claimed", "alpha", None, None),
        (3, 98, 60, "running", "failed", 1, "node", "ValueError", "alpha", "ValueError", "no address"),
        (4, 97, 60, "failed", "pending", 1, "ann", "retried by hand", "alpha", None, None),
        (5, 96, 60, "pending", "running", 2, "node", "claimed", "alpha", None, None),
        (6, 95, 60, "running", "succeeded", 2, "node", "succeeded", "alpha", None, None),
    ], HISTORY),
    Case("history_of_job", {"id": "lost, purged", "limit": "3"}, [
        (1, 200, None, None, "pending", 0, "web", "submitted", None, None, None),
        (2, 199, 60, "pending", "running", 1, "node", "claimed", "gone", None, None),
        (3, 198, 60, "running", "failed", 1, "node alpha", "rescued", "gone", "lost", SILENT_NODE),
    ], HISTORY),
    Case("history_of_job", {"id": "refused, purged"}, [
        (1, None, "pending"), (2, "pending", "cancelled"), (3, "cancelled", "purged"),
    ], "seq from_status to_status"),
    Case("history_of_job", {"id": "0190a0c8-7a3e-7c3e-8f3e-0a1b2c3d4e5f"}, []),

    Case("failures_by_task", {}, [
        ("resize", "lost", 4, 3, 4, 0.75, 188, "the node shut down during attempt 1"), SLOW, NO_ADDRESS,
    ], FAILURES),
    Case("failures_by_task", {"task": "send_mail", "limit": "1"}, [SLOW], FAILURES),
    Case("failures_by_task", {"task": "send_mail", "since": "110 minutes"}, [
        ("send_mail", "ValueError", 2, 1, 1, 0.5, 98, "no address"),
    ], FAILURES),
    Case("failures_by_task", {"task": "send_mail", "since": "2 days"}, [
        ("send_mail", "ValueError", 5, 2, 2, 0.4, 98, "no address"),
        ("send_mail", "TimeoutError", 5, 1, 2, 0.2, 115, "still no answer"),
    ], FAILURES),
    Case("failures_by_task", {"task": "crawl"}, []),

    Case("feed_lag", {}, []),

    Case("batches_open", {}, [("bunch", "ann", 90, 4, 1, 0, 1, 0, 0, 0.5, None)]),
    Case("batches_open", {"created_by": "bob"}, []),

    Case("slowest_jobs", {"limit": "2"}, [
        ("asked", near(3840), 60, 1, "running", 64, None), ("sent", 540, 60, 1, "succeeded", 119, 110),
    ], SLOWEST),
    Case("slowest_jobs", {"task": "send_mail"}, [
        ("sent", 540, 60, 1, "succeeded", 119, 110),
        ("mended", 60, 60, 2, "succeeded", 96, 95),
        ("slow", 30, 30, 2, "failed", 115.5, 115),
    ], SLOWEST),
    Case("slowest_jobs", {"task": "send_mail", "since": "96 minutes"}, [("mended",)], "job_id"),
    Case("slowest_jobs", {"queue": "web"}, [("asked",), ("stopped",), ("too late",)], "job_id"),

    Case("stuck_jobs", {}, STUCK_ROWS, STUCK),
    Case("stuck_jobs", {"task": "send_mail"}, [OVERDUE], STUCK),
    Case("stuck_jobs", {"limit": "1"}, STUCK_ROWS[:1], STUCK),
    Case("stuck_jobs", {"longer_than": "30 minutes", "silent": "1 hour"}, [
        ("asked", "it runs for long"), ("held", HELD), ("frozen", FROZEN), ("silent", LEASE_RAN_OUT),
    ], "job_id why"),

    Case("limits_full", {}, []),

    Case("lost_jobs", {"task": "resize"}, LOST_ROWS, LOST),
    Case("lost_jobs", {}, [*LOST_CRAWLS, *LOST_ROWS], LOST),
    Case("lost_jobs", {"since": "1 hour"}, LOST_CRAWLS[:1], LOST),

    Case("cancellations", {}, CANCELLED, CANCELS),
    Case("cancellations", {"since": "2 days"}, [*CANCELLED, YESTERDAY], CANCELS),
    Case("cancellations", {"requested_by": "bob"}, [ASKED, TOO_LATE, STOPPED], CANCELS),
    Case("cancellations", {"task": "crawl", "since": "1 minute", "limit": "5"}, [ASKED], CANCELS),
    Case("cancellations", {"task": "send_mail"}, []),

    Case("expiring_soon", {}, [
        (38 - 1 / 6, near(-2270), "now", "succeeded", 38), (-17, near(1020), "soon", "succeeded", 43),
    ], "expires_at seconds_left job_id status finished_at"),
    Case("expiring_soon", {"within": "10 minutes"}, [("now",)], "job_id"),
    Case("expiring_soon", {"within": "6 days 23 hours", "task": "send_mail"}, [("sent",), ("mended",)], "job_id"),

    Case("purged", {}, PURGED_ROWS, PURGED),
    Case("purged", {"task": "crawl", "limit": "1"}, PURGED_ROWS[1:2], PURGED),
    Case("purged", {"since": "11 days", "task": "report"}, [PURGED_ROWS[0], ELDER_PURGED], PURGED),

    Case("schedules_next", {}, [
        (20, "overdue", "legacy", None, 3600, "UTC", "skip", "skip", "hand"),
        (-30, "soon", "report", "0 7 * * *", None, "Europe/Paris", "once", "skip", "hand"),
        (-600, "later", "crawl", None, 90, "UTC", "all", "allow", "hand"),
    ], "due_at name task cron every_seconds zone missed overlap made_by"),
    Case("schedules_next", {"within": "30 days", "task": "report"}, [("soon",), ("far",)], "name"),
    Case("schedules_missed", {}, [
        (10, "later", "crawl", "overlap", 12, 10, "all", "allow"),
        (20, "overdue", "legacy", "overdue", None, 20, "skip", "skip"),
        (60, "soon", "report", "missed", 3, 60, "once", "skip"),
    ], "at schedule task reason times last_for missed overlap"),
    Case("schedules_missed", {"since": "30 days", "task": "report"}, [("missed",), ("overlap",)], "reason"),
    Case("schedules_missed", {"silent": "1 hour", "limit": "1"}, [("overlap",)], "reason"),

    Case("by_trace", {"trace_id": TRACE}, [ROOT, CHILD], TRACED),
    Case("by_trace", {"trace_id": TRACE.upper(), "purged_since": "30 days"}, [ELDER, ROOT, CHILD], TRACED),
    Case("by_trace", {"trace_id": TRACE, "purged_since": "1 minute"}, [ROOT], TRACED),
    Case("by_trace", {"trace_id": "slow"}, [
        ("slow", "failed", 2, "web", 118, 115.5, 115, None, "TimeoutError"),
    ], TRACED),
    Case("by_trace", {"trace_id": "lost, purged"}, [
        ("lost, purged", "failed", 1, "web", 200, 199, 198, 197, "lost"),
    ], TRACED),
    Case("by_trace", {"trace_id": "refused, purged"}, [
        ("refused, purged", "cancelled", 0, "ann", 180, None, 179, 178, None),
    ], TRACED),
    Case("by_trace", {"trace_id": "root"}, []),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_the_answer_is_what_happened(past: History, case: Case) -> None:
    async with past.place.database.sessions() as session:
        answer = await ask(session, question(case.question), given(past, case))
    picked = [answer.columns.index(name) for name in case.only.split() or answer.columns]
    told = list(readable(past, answer.rows))
    assert [tuple(row[each] for each in picked) for row in told] == list(case.rows)


@pytest.mark.parametrize("psql", PSQLS, ids=lambda path: path.parents[1].name)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_psql_answers_the_same(past: History, case: Case, psql: Path) -> None:
    async with past.place.database.sessions() as session:
        answer = await ask(session, question(case.question), given(past, case))
    file = SQL / f"{case.question}.sql"
    columns, rows = run_file(past.place.url.libpq, file, given(past, case), psql)
    assert tuple(columns) == answer.columns
    assert len(rows) == len(answer.rows)
    for said, row in zip(rows, answer.rows, strict=True):
        assert [parsed(text, value) for text, value in zip(said, row, strict=True)] == [alike(value) for value in row]


def test_every_question_has_cases() -> None:
    assert {case.question for case in CASES} | {"throughput_by_hour"} == set(questions())


def given(past: History, case: Case) -> dict[str, str]:
    """With the names of jobs replaced by their ids."""
    return {name: str(past.jobs.get(value, value)) for name, value in case.given.items()}


def readable(past: History, rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    names = {each: name for known in (past.jobs, past.nodes) for name, each in known.items()}
    for row in rows:
        yield tuple(_readable(value, names, past.now) for value in row)


def _readable(value: Any, names: Mapping[UUID, str], now: datetime) -> Any:
    match value:
        case UUID():
            return names[value]
        case datetime():
            return pytest.approx((now - value) / MINUTE, abs=1e-6)
        case str():
            for each, name in names.items():
                value = value.replace(str(each), name)
        case _:
            pass
    return value


def parsed(said: str, value: Any) -> Any:
    """What psql said, as the type that Python got."""
    if said == NULL:
        return None
    if isinstance(value, datetime):
        return datetime.fromisoformat(said)
    return type(value)(said)


def alike(value: Any) -> Any:
    return near(value) if isinstance(value, float) else value
