"""What each kind of task comes to, in eight ways to end: the row, the history and the job's own log after each."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

import pytest

from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.history import read_history
from jobtrail.jobs.log import read_log
from jobtrail.jobs.query import read
from jobtrail.jobs.services import Services
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from support import kinds, world
from support.until import until
from support.world import Place

KINDS: Final = ("loop", "thread", "process")
RAISED: Final = {"loop": "CancelledError", "thread": "InterruptedError", "process": "CancelledError"}
"""What the tasks raise when they are told to end."""


@dataclass(frozen=True)
class Case:
    """`error` None: what `RAISED` says, if it did not succeed. `lines` are the first of its log."""

    how: str
    status: Status
    error: str | None
    moves: tuple[str, ...]
    lines: tuple[str, ...]
    attempt: int = 1
    timeout: float | None = None
    max_attempts: int = 2


CLEANED: Final = ("began wait", "cleaned up: True")
CASES: Final = {
    "succeeded": Case("end", Status.SUCCEEDED, None, ("claimed", "succeeded"), ("began end",)),
    "failed": Case("fail", Status.FAILED, "ValueError", ("claimed", "ValueError"), ("began fail",)),
    "timed out": Case("wait", Status.FAILED, "timeout", ("claimed", "timeout"), CLEANED, timeout=0.3),
    "cancelled": Case("wait", Status.CANCELLED, None, ("claimed", "enough"), CLEANED),
    "retried": Case(
        "flaky", Status.SUCCEEDED, None, ("claimed", "ConnectionError", "claimed", "succeeded"), ("began flaky",) * 2,
        attempt=2,
    ),
    "retried and failed in groups": Case(
        "group", Status.FAILED, "ExceptionGroup", ("claimed", "ConnectionError", "claimed", "ExceptionGroup"),
        ("began group",) * 2, attempt=2, max_attempts=9,
    ),
    "swallowed cancel": Case("deaf", Status.CANCELLED, "left-behind", ("claimed", "enough"), ("began deaf",)),
    "node stopped": Case("wait", Status.PENDING, "lost", ("claimed", "lost"), CLEANED),
}  # fmt: skip


def services_at(place: Place) -> Services:
    return Services(place.database, Catalog.from_modules([kinds]))


@pytest.fixture(scope="module")
async def ended(kept_place: Place) -> AsyncIterator[dict[tuple[str, str], UUID]]:
    """Every cell of the table, run once by one node. Cancels come from services that run nothing: it must ask."""
    await kept_place.empty()
    services, outside = services_at(kept_place), services_at(kept_place)
    jobs: dict[tuple[str, str], UUID] = {}
    terms = {"cancel_grace": timedelta(seconds=0.5), "slots": 9, "threads": 9, "processes": 3}
    async with world.node_at(services, kept_place, grace=0, **terms) as node:
        for kind in KINDS:
            for name, case in CASES.items():
                limits = {"timeout": case.timeout, "max_attempts": case.max_attempts}
                job = await world.submitted(services, f"kind_{kind}", how=case.how, **limits)
                jobs[kind, name] = job.id
        asked = [jobs[kind, name] for kind in KINDS for name in ("cancelled", "swallowed cancel")]
        await asyncio.gather(*(_cancelled_while_it_runs(outside, each) for each in asked))
        for (_, name), job_id in jobs.items():
            if name != "node stopped":
                await world.ended(services, job_id)
        for kind in KINDS:
            await until(lambda kind=kind: read_log(services, jobs[kind, "node stopped"]))  # type: ignore[misc]
    yield jobs

    async def is_over() -> bool:
        return node.worker.left_behind == 0

    await until(is_over)  # the deaf go on for a while


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
async def test_row_history_and_log(kept_place: Place, ended: dict[tuple[str, str], UUID], kind: str, name: str) -> None:
    case, services = CASES[name], services_at(kept_place)
    job = await read(services, ended[kind, name])
    lines = [line.message for line in await read_log(services, job.id)]
    moves = await read_history(services, job.id)
    assert (job.status, job.attempt) == (case.status, case.attempt), (job, lines)
    assert [move.reason for move in moves] == ["submitted", *case.moves]
    assert (moves[-1].actor == "ann") is ("enough" in case.moves)
    assert lines[: len(case.lines)] == list(case.lines)
    error = case.error or RAISED[kind] if case.status is not Status.SUCCEEDED else None
    assert (job.error or {}).get("type") == error
    if name in {"succeeded", "failed", "retried"}:
        assert job.progress == {"done": case.attempt, "total": 2, "note": case.how}
    if name == "swallowed cancel":
        # a thread cannot hear; a process is killed where it is, perhaps before it could say so
        assert kind != "loop" or "heard, and went on: True" in lines
        assert ("its process was killed" if kind == "process" else "keeps running") in (job.error or {})["message"]
    assert (job.result == f"well, in attempt {case.attempt}") is (case.status is Status.SUCCEEDED)
    assert (job.finished_at is not None) is case.status.is_terminal


async def _cancelled_while_it_runs(services: Services, job_id: UUID) -> None:
    await until(lambda: read_log(services, job_id))
    await cancel(services, job_id, by="ann", reason="enough")
