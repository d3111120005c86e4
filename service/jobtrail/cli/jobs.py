"""Looking at jobs."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, NamedTuple
from uuid import UUID

import typer

from jobtrail.api import representation
from jobtrail.api.view import WHOLE
from jobtrail.cli import output
from jobtrail.cli.errand import Errand, Json, run
from jobtrail.cli.filters import Chosen, with_filters
from jobtrail.cli.follow import follow, has_bar
from jobtrail.job.duration import format_duration
from jobtrail.job.errors import JobNotFoundError
from jobtrail.job.record import Job, LogLine, Transition
from jobtrail.job.status import Status
from jobtrail.jobs.history import read_history
from jobtrail.jobs.log import read_log
from jobtrail.jobs.query import Page, read, read_page

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))

_AT_ONCE: Final = 500
"""Jobs of one statement."""

_MOVES: Final = ("seq", "at", "from", "to", "attempt", "by", "reason")


@with_filters
def ls(
    *,
    chosen: Chosen,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    as_json: Json = False,
) -> None:
    async def act(errand: Errand) -> tuple[datetime, list[Job]]:
        now = await errand.now()
        wanted = Page(min(limit, _AT_ONCE), filter=chosen.filter(now))
        page = await read_page(errand.services, wanted)
        found = list(page.jobs)
        while page.following is not None and len(found) < limit:
            page = await read_page(errand.services, replace(wanted, after=page.following))
            found += page.jobs
        return now, found[:limit]

    now, found = run(act)
    if as_json:
        output.print_json({"items": [representation.of_listed_job(job, (), WHOLE) for job in found]})
    else:
        _print(found, now)


def show(
    job_id: Annotated[UUID, typer.Argument(metavar="ID")],
    history: Annotated[bool, typer.Option("--history", help="With every move; also of a job that was purged.")] = False,
    log: Annotated[bool, typer.Option("--log", help="With the last lines of what it said.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it to its end; exit 1 unless it succeeded.")] = False,
    as_json: Json = False,
) -> None:
    async def act(errand: Errand) -> _Shown:
        job = await follow(errand, job_id, with_log=log, silent=as_json) if watch else None
        return await _look(errand, job_id, job, history=history, log=log and (as_json or not watch))

    found = run(act)
    if as_json:
        output.print_json(_document(job_id, found))
    else:
        _print_whole(job_id, found, fields=has_bar() or not watch)
    if watch and (found.job is None or found.job.status is not Status.SUCCEEDED):
        raise typer.Exit(1)


def _print(found: list[Job], now: datetime) -> None:
    """To a terminal the age, which is short; into a pipe the time, which stays true."""
    short = output.is_terminal()
    columns = ("id", "status", "task", "queue", "try", "age" if short else "created")
    rows = [
        (
            job.id, job.status, job.task, job.queue, f"{job.attempt}/{job.max_attempts}",
            _age(now - job.created_at) if short else job.created_at,
        )
        for job in found
    ]  # fmt: skip
    output.print_table(columns, rows)


def _age(since: timedelta) -> str:
    seconds = int(since.total_seconds())
    size, unit = next((size, unit) for size, unit in _UNITS if seconds >= size or unit == "s")
    return f"{seconds // size}{unit}"


class _Shown(NamedTuple):
    """`job` None: it was purged. `moves` and `lines` None: they were not asked for."""

    job: Job | None
    moves: list[Transition] | None
    lines: list[LogLine] | None


async def _look(errand: Errand, job_id: UUID, job: Job | None, *, history: bool, log: bool) -> _Shown:
    """`job` as it was found before, if it was. Raises JobNotFoundError when nothing is known of the id."""
    moves = list(await read_history(errand.services, job_id)) if history else None
    lines: list[LogLine] | None = [] if log else None
    try:
        job = job or await read(errand.services, job_id)
        lines = list(await read_log(errand.services, job_id)) if log else None
    except JobNotFoundError:
        if job is None and not moves:
            raise
    return _Shown(job, moves, lines)


def _print_whole(job_id: UUID, found: _Shown, *, fields: bool) -> None:
    if fields:
        output.print_fields(_fields(found.job) if found.job else {"id": job_id, "status": "purged"})
    if found.moves is not None:
        typer.echo()
        output.print_table(_MOVES, [_move(each) for each in found.moves])
    if found.lines is not None:
        typer.echo()
        for line in found.lines:
            typer.echo(output.log_line(line))
        if not found.lines:
            typer.echo("It has logged nothing.")


def _document(job_id: UUID, found: _Shown) -> dict[str, Any]:
    """The job as the API gives it; its transitions and its log beside, if asked for."""
    document: dict[str, Any] = representation.of_job(found.job, WHOLE) if found.job else {"id": job_id}
    if found.moves is not None:
        document["transitions"] = [representation.of_transition(each, WHOLE) for each in found.moves]
    if found.lines is not None:
        document["log"] = [representation.of_line(each, WHOLE) for each in found.lines]
    return document


def _fields(job: Job) -> dict[str, Any]:
    shown = representation.of_job(job, WHOLE) | {
        "attempt": f"{job.attempt} of {job.max_attempts}",
        "ttl": "kept" if job.ttl is None else format_duration(job.ttl),
        "timeout": job.timeout and format_duration(job.timeout),
        "error": output.in_a_line(job.error),
        "traceback": (job.error or {}).get("traceback"),
    }
    del shown["max_attempts"]
    return shown


def _move(each: Transition) -> tuple[object, ...]:
    told_by_type = each.error is not None and each.reason == each.error.get("type")
    reason = output.in_a_line(each.error) if told_by_type else each.reason
    return each.seq, each.at, each.from_status, each.to_status, each.attempt, each.actor, reason
