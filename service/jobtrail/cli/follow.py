"""A job as it goes on, until it ends: a bar on a terminal, a line for each change in a pipe."""

import asyncio
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Protocol
from uuid import UUID

import typer

from jobtrail.cli import output
from jobtrail.cli.errand import Errand
from jobtrail.job.errors import JobNotFoundError
from jobtrail.job.progress import Progress, progress_of
from jobtrail.job.record import Job, LogLine
from jobtrail.job.status import PURGED, Status
from jobtrail.jobs.history import read_history
from jobtrail.jobs.log import read_log
from jobtrail.jobs.query import read

EVERY: Final = 0.3
"""Seconds between two looks; a job writes what it says twice a second."""


class View(Protocol):
    """What somebody sees of a job that goes on."""

    def see(self, job: Job) -> None:
        """The job as it is now, at each look."""

    def hear(self, line: LogLine) -> None:
        """What it has said since the look before."""


class Silence:
    """For whoever only waits."""

    def see(self, job: Job) -> None: ...

    def hear(self, line: LogLine) -> None: ...


class Lines:
    """One for each change, with the time when it was seen."""

    def __init__(self) -> None:
        self._last = ""

    def see(self, job: Job) -> None:
        line = describe(job)
        if line != self._last:
            self._last = line
            typer.echo(f"{output.cell(datetime.now(UTC))}  {line}")

    def hear(self, line: LogLine) -> None:
        typer.echo(output.log_line(line))


async def follow(errand: Errand, job_id: UUID, *, with_log: bool, silent: bool) -> Job:
    """The job as it was when it ended. Whoever leaves before changes nothing.

    Raises JobNotFoundError, UnavailableError.
    """
    job = await read(errand.services, job_id)
    place = (0, 0)
    with _view(await errand.now(), silent=silent) as view:
        while True:
            # the lines after the job: an attempt's are all there before its end is
            for line in await _heard(errand, job_id, place) if with_log else ():
                view.hear(line)
                place = (line.attempt, line.number)
            view.see(job)
            if job.status.is_terminal:
                return job
            await asyncio.sleep(EVERY)
            job = await _again(errand, job)


def describe(job: Job) -> str:
    """Status, attempt, progress, and what went wrong in the last attempt, in a line."""
    progress = progress_of(job.progress)
    parts = [
        f"{job.status:<9}",
        f"attempt {job.attempt}/{job.max_attempts}",
        "asked to stop" if job.status is Status.RUNNING and job.cancel_requested_at else "",
        "" if progress is None else extent(progress),
        (progress.note if progress else None) or "",
        output.in_a_line(job.error) or "",
    ]
    return "  ".join(output.cell(part) for part in parts if part)


def extent(progress: Progress) -> str:
    """`done/total`, or `done` alone where the total is not known."""
    return _number(progress.done) + ("" if progress.total is None else f"/{_number(progress.total)}")


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:g}"


def _view(now: datetime, *, silent: bool) -> AbstractContextManager[View]:
    """`now` by the database's clock."""
    if silent:
        return nullcontext(Silence())
    if not has_bar():
        return nullcontext(Lines())
    from jobtrail.cli.bar import Bar  # noqa: PLC0415 - into a pipe what it needs is never loaded

    return Bar(ahead=now - datetime.now(UTC))


def has_bar() -> bool:
    """Whether somebody looks on who can see a line change."""
    return output.is_terminal() and os.environ.get("TERM") not in (None, "", "dumb")


async def _heard(errand: Errand, job_id: UUID, after: tuple[int, int]) -> list[LogLine]:
    try:
        return list(await read_log(errand.services, job_id, after=after))
    except JobNotFoundError:
        return []


async def _again(errand: Errand, job: Job) -> Job:
    """A row may be purged between two looks: then the history says how its job ended."""
    try:
        return await read(errand.services, job.id)
    except JobNotFoundError:
        moves = await read_history(errand.services, job.id)
        if moves[-1].to_status != PURGED or moves[-1].from_status is None:
            raise
        return replace(job, status=Status(moves[-1].from_status), attempt=moves[-1].attempt)
