"""Looking at jobs."""

import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Final
from uuid import UUID

import typer

from jobtrail.api import representation
from jobtrail.cli import output
from jobtrail.cli.arguments import read_since
from jobtrail.cli.errand import Errand, Json, run
from jobtrail.job.duration import format_duration
from jobtrail.job.errors import JobNotFoundError
from jobtrail.job.limits import TRACE_PATTERN
from jobtrail.job.record import Job, Transition
from jobtrail.job.status import Status
from jobtrail.lifecycle.read import read, read_history, read_page
from jobtrail.store.jobs import Filter, Page

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))

_MOVES: Final = ("seq", "at", "from", "to", "attempt", "by", "reason")


def ls(
    status: Annotated[
        list[Status] | None, typer.Option(help="Any of these; may be repeated, as the next ones.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Any of these.")] = None,
    queue: Annotated[list[str] | None, typer.Option(help="Any of these.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="All of these.")] = None,
    trace: Annotated[list[str] | None, typer.Option(help="Trace ids, 32 hexadecimal digits.")] = None,
    since: Annotated[str | None, typer.Option(help="Created since: 30m, 2h, 7d, or a time.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    as_json: Json = False,
) -> None:
    traces = [_checked_trace(each) for each in trace or ()]

    async def act(errand: Errand) -> tuple[datetime, list[Job]]:
        now = await errand.now()
        after = None if since is None else read_since(since, now)
        wanted = Filter(status or (), task or (), queue or (), tag or (), traces, created_after=after)
        return now, list(await read_page(errand.desk, Page(limit, filter=wanted)))

    now, found = run(act)
    if as_json:
        output.print_json({"items": [representation.of_listed_job(job, ()) for job in found]})
    else:
        _print(found, now)


def show(
    job_id: Annotated[UUID, typer.Argument(metavar="ID")],
    history: Annotated[bool, typer.Option("--history", help="With every move; also of a job that was purged.")] = False,
    as_json: Json = False,
) -> None:
    async def act(errand: Errand) -> tuple[Job | None, list[Transition]]:
        moves = list(await read_history(errand.desk, job_id)) if history else []
        try:
            return await read(errand.desk, job_id), moves
        except JobNotFoundError:
            if not moves:
                raise
            return None, moves

    job, moves = run(act)
    if as_json:
        output.print_json(_document(job_id, job, moves if history else None))
        return
    output.print_fields(_fields(job) if job else {"id": job_id, "status": "purged"})
    if history:
        typer.echo()
        output.print_table(_MOVES, [_move(each) for each in moves])


def _checked_trace(trace: str) -> str:
    if not re.fullmatch(TRACE_PATTERN, trace):
        raise typer.BadParameter(f"--trace: {trace!r:.60} is not 32 hexadecimal digits in lower case")
    return trace


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


def _document(job_id: UUID, job: Job | None, moves: list[Transition] | None) -> dict[str, Any]:
    """The job as the API gives it; its transitions beside, if asked for."""
    found: dict[str, Any] = representation.of_job(job) if job else {"id": job_id}
    return found if moves is None else {**found, "transitions": [representation.of_transition(each) for each in moves]}


def _fields(job: Job) -> dict[str, Any]:
    shown = representation.of_job(job) | {
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
