"""A job as it goes on, until it ends: a bar on a terminal, a line for each change in a pipe."""

import asyncio
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Protocol
from uuid import UUID

import typer

from jobtrail.cli import output
from jobtrail.cli.command import Command
from jobtrail.errors import JobNotFoundError
from jobtrail.jobs.history import read_history
from jobtrail.jobs.log import read_log
from jobtrail.jobs.query import read
from jobtrail.records import Job, LogLine
from jobtrail.status import PURGED, Status
from jobtrail.task.context import progress_of

EVERY: Final = 0.3
"""Seconds between two looks; a job writes what it says twice a second."""


class View(Protocol):
    def see(self, job: Job) -> None:
        """Shows the job as it is now, at each look."""

    def hear(self, line: LogLine) -> None:
        """Shows a line of its log."""


class Silence:
    """View of a command that only waits."""

    def see(self, job: Job) -> None: ...

    def hear(self, line: LogLine) -> None: ...


class Lines:
    """View with a line for each change, and the time when it was seen."""

    def __init__(self) -> None:
        self._last = ""

    def see(self, job: Job) -> None:
        progress = progress_of(job.progress)
        parts = (
            f"{job.status:<9}",
            f"attempt {job.attempt}/{job.max_attempts}",
            "asked to stop" if job.status is Status.RUNNING and job.cancel_requested_at else "",
            output.extent(progress),
            progress and progress.note,
            output.error_line(job.error),
        )
        line = "  ".join(output.cell(part) for part in parts if part)
        if line != self._last:
            self._last = line
            typer.echo(f"{output.cell(datetime.now(UTC))}  {line}")

    def hear(self, line: LogLine) -> None:
        typer.echo(output.log_line(line))


async def follow(command: Command, job_id: UUID, *, with_log: bool, silent: bool) -> Job:
    """The job as it was when it ended. Ctrl-C ends the watching, not the job.

    Raises JobNotFoundError, UnavailableError.
    """
    job = await read(command.services, job_id)
    place = (0, 0)
    with _view(await command.now(), silent=silent) as view:
        while True:
            # the lines after the job: an attempt's are all there before its end is
            for line in await _log_after(command, job_id, place) if with_log else ():
                view.hear(line)
                place = (line.attempt, line.number)
            view.see(job)
            if job.status.is_terminal:
                return job
            await asyncio.sleep(EVERY)
            job = await _again(command, job)


def _view(now: datetime, *, silent: bool) -> AbstractContextManager[View]:
    """`now` by the database's clock."""
    if silent:
        return nullcontext(Silence())
    if not output.can_redraw():
        return nullcontext(Lines())
    from jobtrail.cli.bar import JobBar  # noqa: PLC0415 - into a pipe what it needs is never loaded

    return JobBar(ahead=now - datetime.now(UTC))


async def _log_after(command: Command, job_id: UUID, place: tuple[int, int]) -> list[LogLine]:
    try:
        return list(await read_log(command.services, job_id, after=place))
    except JobNotFoundError:
        return []


async def _again(command: Command, job: Job) -> Job:
    """A row may be purged between two looks: then the history says how its job ended."""
    try:
        return await read(command.services, job.id)
    except JobNotFoundError:
        moves = await read_history(command.services, job.id)
        if moves[-1].to_status != PURGED or moves[-1].from_status is None:
            raise
        return replace(job, status=Status(moves[-1].from_status), attempt=moves[-1].attempt)
