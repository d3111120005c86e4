"""`jobtrail ls` and `jobtrail show`."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, NamedTuple
from uuid import UUID

import typer

from jobtrail.cli import exits, output
from jobtrail.cli.command import Command, Json, run
from jobtrail.cli.filters import Filters, with_filters
from jobtrail.cli.follow import follow
from jobtrail.errors import JobNotFoundError
from jobtrail.jobs.history import read_history
from jobtrail.jobs.log import read_log
from jobtrail.jobs.query import Page, read, read_page
from jobtrail.records import Job, LogLine, Transition
from jobtrail.status import Status

MOVES: Final = ("seq", "at", "from", "to", "attempt", "by", "reason")
"""The columns of a history."""

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))

_AT_ONCE: Final = 500
"""Jobs of one statement."""


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


def show(
    job_id: Annotated[UUID, typer.Argument(metavar="ID")],
    history: Annotated[bool, typer.Option("--history", help="With every move; also of a job that was purged.")] = False,
    log: Annotated[bool, typer.Option("--log", help="With the last lines of what it said.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it to its end; exit 1 unless it succeeded.")] = False,
    as_json: Json = False,
) -> None:
    async def act(command: Command) -> _Shown:
        """A job that was watched is shown as it ended, although its row may be gone."""
        job = await follow(command, job_id, with_log=log, silent=as_json) if watch else None
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
        output.print_json(_document(job_id, found))
    else:
        if output.can_redraw() or not watch:  # else the last line of the watch has said it
            output.print_fields(_fields(found.job) if found.job else {"id": job_id, "status": "purged"})
        _print_moves_and_log(found)
    if watch and (found.job is None or found.job.status is not Status.SUCCEEDED):
        raise typer.Exit(exits.FAILED)


class _Shown(NamedTuple):
    """`job` None: it was purged. `moves` and `lines` None: they were not asked for."""

    job: Job | None
    moves: list[Transition] | None
    lines: list[LogLine] | None


def _listed(job: Job) -> dict[str, Any]:
    """Without what may be large."""
    error = job.error
    if isinstance(error, Mapping):  # it may have been written by hand
        error = {name: value for name, value in error.items() if name != "traceback"}
    return output.job_document(replace(job, error=error), "args", "result")


def _age(since: timedelta) -> str:
    seconds = int(since.total_seconds())
    size, unit = next((size, unit) for size, unit in _UNITS if seconds >= size or unit == "s")
    return f"{seconds // size}{unit}"


def _document(job_id: UUID, found: _Shown) -> dict[str, Any]:
    """The job as the API gives it; its transitions and its log beside, if asked for."""
    document: dict[str, Any] = output.job_document(found.job) if found.job else {"id": job_id}
    if found.moves is not None:
        document["transitions"] = [output.document(each, "job_id") for each in found.moves]
    if found.lines is not None:
        document["log"] = [output.document(each) for each in found.lines]
    return document


def _fields(job: Job) -> dict[str, Any]:
    return output.job_document(job, "max_attempts") | {
        "attempt": f"{job.attempt} of {job.max_attempts}",
        "ttl": "kept" if job.ttl is None else job.ttl,
        "error": output.error_line(job.error),
        "traceback": (job.error or {}).get("traceback"),
    }


def _print_moves_and_log(found: _Shown) -> None:
    if found.moves is not None:
        typer.echo()
        output.print_table(MOVES, [_move(each) for each in found.moves])
    if found.lines is not None:
        typer.echo("\n" + "\n".join(map(output.log_line, found.lines) if found.lines else ["It has logged nothing."]))


def _move(each: Transition) -> tuple[object, ...]:
    told_by_type = each.error is not None and each.reason == each.error.get("type")
    reason = output.error_line(each.error) if told_by_type else each.reason
    return each.seq, each.at, each.from_status, each.to_status, each.attempt, each.actor, reason
