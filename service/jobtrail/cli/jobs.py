"""`jobtrail ls` and `jobtrail show`: many jobs, one job, and one job as it goes on."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, NamedTuple
from uuid import UUID

import typer

from jobtrail.cli import output
from jobtrail.cli.command import Command, Filters, Json, run, with_filters
from jobtrail.errors import JobNotFoundError
from jobtrail.jobs.history import read_history
from jobtrail.jobs.log import read_log
from jobtrail.jobs.query import Page, read, read_page
from jobtrail.records import Job, LogLine, Transition
from jobtrail.status import PURGED, Status
from jobtrail.task.context import Progress, progress_of

MOVES: Final = ("seq", "at", "from", "to", "attempt", "by", "reason")
"""The columns of a history."""

_AT_ONCE: Final = 500
"""Jobs of one statement."""

_LOOK_EVERY: Final = 0.3
"""Seconds; a job writes its progress and its log twice a second."""

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


@with_filters
def ls(
    *,
    filters: Filters,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    as_json: Json = False,
) -> None:
    async def act(command: Command) -> tuple[datetime, list[Job]]:
        now = await command.now()
        wanted = Page(min(limit, _AT_ONCE), filter=filters.at(now))
        page = await read_page(command.services, wanted)
        found = list(page.jobs)
        while page.following is not None and len(found) < limit:
            page = await read_page(command.services, replace(wanted, after=page.following))
            found += page.jobs
        return now, found[:limit]

    now, found = run(act)
    if as_json:
        output.print_json({"items": [_listed(job) for job in found]})
        return
    # a terminal gets the age, which is short; a pipe the time, which stays true
    short = output.is_terminal()
    rows = [
        (
            job.id, job.status, job.task, job.queue, f"{job.attempt}/{job.max_attempts}",
            _age(now - job.created_at) if short else job.created_at,
        )
        for job in found
    ]  # fmt: skip
    output.print_table(("id", "status", "task", "queue", "try", "age" if short else "created"), rows)


def _listed(job: Job) -> dict[str, Any]:
    """Without what may be large."""
    error = job.error
    if isinstance(error, Mapping):  # it may have been written by hand
        error = {name: value for name, value in error.items() if name != "traceback"}
    return output.document(replace(job, error=error), "args", "result")


def _age(since: timedelta) -> str:
    seconds = int(since.total_seconds())
    size, unit = next((size, unit) for size, unit in _UNITS if seconds >= size or unit == "s")
    return f"{seconds // size}{unit}"


class _Shown(NamedTuple):
    """`job` None: it was purged. `moves` and `lines` None: they were not asked for."""

    job: Job | None
    moves: list[Transition] | None
    lines: list[LogLine] | None


def show(
    job_id: Annotated[UUID, typer.Argument(metavar="ID")],
    history: Annotated[bool, typer.Option("--history", help="With every move; also of a job that was purged.")] = False,
    log: Annotated[bool, typer.Option("--log", help="With the last lines of what it said.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it to its end; exit 1 unless it succeeded.")] = False,
    as_json: Json = False,
) -> bool:
    async def act(command: Command) -> _Shown:
        """A job that was watched is shown as it ended, although its row may be gone."""
        job = await _follow(command, job_id, with_log=log, silent=as_json) if watch else None
        moves = list(await read_history(command.services, job_id)) if history else None
        lines: list[LogLine] | None = [] if log and (as_json or not watch) else None
        try:
            job = job or await read(command.services, job_id)
            if lines is not None:
                lines = list(await read_log(command.services, job_id))
        except JobNotFoundError:
            if job is None and not moves:
                raise
        return _Shown(job, moves, lines)

    found = run(act)
    if as_json:
        _print_document(job_id, found)
    else:
        _print(job_id, found, with_fields=output.can_redraw() or not watch)  # else the last line of the watch has them
    return not watch or (found.job is not None and found.job.status is Status.SUCCEEDED)


def _print_document(job_id: UUID, found: _Shown) -> None:
    """The job as the API gives it; its transitions and its log beside, if asked for."""
    document: dict[str, Any] = output.document(found.job) if found.job else {"id": job_id}
    if found.moves is not None:
        document["transitions"] = [output.document(each) for each in found.moves]
    if found.lines is not None:
        document["log"] = [output.document(each) for each in found.lines]
    output.print_json(document)


def _print(job_id: UUID, found: _Shown, *, with_fields: bool) -> None:
    job = found.job
    if job is None:
        output.print_fields({"id": job_id, "status": "purged"})
    elif with_fields:
        texts = {
            "attempt": f"{job.attempt} of {job.max_attempts}",
            "ttl": "kept" if job.ttl is None else job.ttl,
            "error": output.error_line(job.error),
            "traceback": (job.error or {}).get("traceback"),
        }
        output.print_fields(output.document(job, "max_attempts") | texts)
    if found.moves is not None:
        typer.echo()
        output.print_table(MOVES, [_move(each) for each in found.moves])
    if found.lines is not None:
        typer.echo("\n" + "\n".join(map(output.log_line, found.lines) if found.lines else ["It has logged nothing."]))


def _move(each: Transition) -> tuple[object, ...]:
    is_of_error = each.error is not None and each.reason == each.error.get("type")
    reason = output.error_line(each.error) if is_of_error else each.reason
    return each.seq, each.at, each.from_status, each.to_status, each.attempt, each.actor, reason


async def _follow(command: Command, job_id: UUID, *, with_log: bool, silent: bool) -> Job:
    """The job as it was when it ended. Ctrl-C ends the watching, not the job.

    Raises JobNotFoundError, UnavailableError.
    """
    job = await read(command.services, job_id)
    last = (0, 0)
    view = (
        nullcontext((lambda _job: None, lambda _line: None))
        if silent
        else _bar(await command.now())
        if output.can_redraw()
        else _lines()
    )
    with view as (show_job, show_line):
        while True:
            # the lines after the job: an attempt's are all there before its end is
            lines: Sequence[LogLine] = ()
            if with_log:
                with suppress(JobNotFoundError):
                    lines = await read_log(command.services, job_id, after=last)
            for line in lines:
                show_line(output.log_line(line))
                last = (line.attempt, line.number)
            show_job(job)
            if job.status.is_terminal:
                return job
            await asyncio.sleep(_LOOK_EVERY)
            job = await _again(command, job)


async def _again(command: Command, job: Job) -> Job:
    """A row may be purged between two looks: then the history says how its job ended."""
    try:
        return await read(command.services, job.id)
    except JobNotFoundError:
        moves = await read_history(command.services, job.id)
        if moves[-1].to_status != PURGED or moves[-1].from_status is None:
            raise
        return replace(job, status=Status(moves[-1].from_status), attempt=moves[-1].attempt)


_View = Iterator[tuple[Callable[[Job], None], Callable[[str], None]]]
"""Shows a job, at each look, and shows a line of its log."""


@contextmanager
def _lines() -> _View:
    """A line for each change, with the time when it was seen."""
    before = ""

    def show_job(job: Job) -> None:
        nonlocal before
        progress = progress_of(job.progress)
        parts = (
            f"{job.status:<9}",
            f"attempt {job.attempt}/{job.max_attempts}",
            "asked to stop" if job.status is Status.RUNNING and job.cancel_requested_at else "",
            _extent(progress),
            progress and progress.note,
            output.error_line(job.error),
        )
        line = "  ".join(output.cell(part) for part in parts if part)
        if line != before:
            before = line
            typer.echo(f"{output.cell(datetime.now(UTC))}  {line}")

    yield show_job, typer.echo


@contextmanager
def _bar(now: datetime) -> _View:
    """A bar on a terminal, below the lines of the log; it is gone at the end. `now` by the database's clock."""
    from rich import progress as bars  # noqa: PLC0415 - into a pipe it is never loaded
    from rich.console import Console  # noqa: PLC0415 - the same
    from rich.table import Column  # noqa: PLC0415 - the same
    from rich.text import Text  # noqa: PLC0415 - the same

    ahead = now - datetime.now(UTC)
    console = Console(highlight=False)
    columns = (
        bars.TextColumn("[{task.fields[style]}]{task.description}"),
        bars.TextColumn("{task.fields[attempt]}"),
        bars.BarColumn(max(8, console.width // 4)),
        bars.TextColumn("{task.fields[extent]}"),
        bars.TextColumn("{task.fields[elapsed]}"),
        bars.TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=True, ratio=1)),
    )
    with bars.Progress(*columns, console=console, transient=True, expand=True) as bar:
        bar.add_task("", total=None, visible=False)
        task = bar.tasks[0]

        def show_job(job: Job) -> None:
            is_running = job.status is Status.RUNNING
            progress = progress_of(job.progress) if is_running else None
            # since the attempt began, or since the job was stored
            elapsed = max(datetime.now(UTC) + ahead - (job.started_at or job.created_at), timedelta(0))
            # of a job that waits for its next attempt, why the last one failed
            note = progress.note if progress else output.error_line(job.error)
            task.total = progress.total if progress else None
            bar.update(
                task.id,
                completed=progress.done if progress else 0,
                description=job.status,
                style=output.STYLES.get(job.status, "default"),
                attempt=f"{job.attempt}/{job.max_attempts}",
                extent=_extent(progress),
                elapsed=str(timedelta(seconds=int(elapsed.total_seconds()))),
                note=output.cell("asked to stop" if is_running and job.cancel_requested_at else note),
                visible=True,
                refresh=True,
            )

        yield show_job, lambda line: console.print(Text(line), soft_wrap=True)


def _extent(progress: Progress | None) -> str:
    """`done/total`, or `done` alone where the total is not known."""
    found = (progress.done, progress.total) if progress else ()
    return "/".join(f"{each:.0f}" if each == int(each) else f"{each:g}" for each in found if each is not None)
