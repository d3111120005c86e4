"""Looking at jobs."""

import re
from typing import Annotated, Any
from uuid import UUID

import typer

from jobtrail.api import representation
from jobtrail.cli import output
from jobtrail.cli.arguments import read_since
from jobtrail.cli.errand import Errand, Json, run
from jobtrail.job.errors import JobNotFoundError
from jobtrail.job.limits import TRACE_PATTERN
from jobtrail.job.record import Job, Transition
from jobtrail.job.status import Status
from jobtrail.lifecycle.read import read, read_history, read_page
from jobtrail.store.jobs import Filter, Page

_MOVES = ("seq", "at", "from", "to", "attempt", "by", "reason")


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

    async def act(errand: Errand) -> list[Job]:
        after = None if since is None else read_since(since, await errand.now())
        wanted = Filter(status or (), task or (), queue or (), tag or (), traces, created_after=after)
        return list(await read_page(errand.desk, Page(limit, filter=wanted)))

    found = run(act)
    if as_json:
        output.print_json({"items": [representation.of_listed_job(job, ()) for job in found]})
    else:
        columns = ("id", "status", "task", "queue", "attempt", "created")
        output.print_table(columns, [_line(job) for job in found])


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


def _line(job: Job) -> tuple[object, ...]:
    return job.id, job.status, job.task, job.queue, f"{job.attempt}/{job.max_attempts}", job.created_at


def _document(job_id: UUID, job: Job | None, moves: list[Transition] | None) -> dict[str, Any]:
    """The job as the API gives it; its transitions beside, if asked for."""
    found: dict[str, Any] = representation.of_job(job) if job else {"id": job_id}
    return found if moves is None else {**found, "transitions": [representation.of_transition(each) for each in moves]}


def _fields(job: Job) -> dict[str, Any]:
    shown = representation.of_job(job) | {"attempt": f"{job.attempt} of {job.max_attempts}"}
    for name in ("max_attempts", "error"):
        del shown[name]
    for name in ("timeout", "ttl"):
        shown[name] = None if shown[name] is None else f"{shown[name]:g} s"
    if shown["ttl"] is None:
        shown["ttl"] = "kept"
    error = job.error or {}
    if error:
        shown["error"] = f"{error['type']}: {error['message']} (attempt {error['attempt']})"
        shown["traceback"] = error["traceback"]
    return shown


def _move(each: Transition) -> tuple[object, ...]:
    reason = each.reason
    return each.seq, each.at, each.from_status, each.to_status, each.attempt, each.actor, reason
