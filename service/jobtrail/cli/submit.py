"""A job from the command line; a node that knows its task runs it."""

import asyncio
from datetime import timedelta
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from jobtrail.api import representation
from jobtrail.api.view import WHOLE
from jobtrail.cli import output
from jobtrail.cli.arguments import merge_args, read_duration, read_pairs
from jobtrail.cli.errand import Errand, Json, caller, run
from jobtrail.job.limits import MAX_KEY
from jobtrail.job.record import Job
from jobtrail.job.status import Status
from jobtrail.job.submission import Submission
from jobtrail.jobs.query import read
from jobtrail.jobs.submit import submit as store
from jobtrail.jobs.submit import submit_keyed
from jobtrail.ops.nodes import read_nodes


def submit(
    task: Annotated[str, typer.Argument(metavar="TASK", help="The name of a task of JOBTRAIL_TASKS.")],
    pairs: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Arguments; a value that is JSON is taken as JSON."),
    ] = None,
    *,
    args: Annotated[str | None, typer.Option(metavar="JSON", help="Arguments as one JSON object.")] = None,
    queue: Annotated[str | None, typer.Option(help="The queue that nodes serve.")] = None,
    priority: Annotated[int | None, typer.Option(help="0 to 9, higher first.")] = None,
    ttl: Annotated[str | None, typer.Option(help="How long the finished row is kept: 30s, 7d, or keep.")] = None,
    run_at: Annotated[str | None, typer.Option(help="Not before: 2030-01-31T12:00:00Z.")] = None,
    delay: Annotated[str | None, typer.Option(help="Not before this much later: 30s, 5m, 2h.")] = None,
    timeout: Annotated[str | None, typer.Option(help="How long an attempt may take: 30s, or none.")] = None,
    max_attempts: Annotated[int | None, typer.Option(help="How often the job may be started.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A word to find the job by; may be repeated.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key again gives the first job.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end; exit 1 unless it succeeded.")] = False,
    as_json: Json = False,
) -> None:
    """Store a job; a node that knows its task runs it. Prints the id.

    jobtrail submit send_mail to=ada@example.com --delay 5m
    """
    given = {"queue": queue, "priority": priority, "run_at": run_at, "max_attempts": max_attempts, "tags": tag}
    said: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    said |= _durations(ttl=(ttl, "keep"), timeout=(timeout, "none"))
    if run_at is not None and delay is not None:
        raise typer.BadParameter("say only one of --run-at and --delay")
    later = None if delay is None else read_duration("--delay", delay)
    key = _checked_key(idempotency_key)
    texts = read_pairs(pairs or [])

    async def act(errand: Errand) -> Job:
        fitting = merge_args(errand.services.catalog[task], args, texts)
        wanted = _submission(
            {**said, "task": task, "args": fitting}, None if later is None else await errand.now(), later
        )
        job = await _store(errand, wanted, key)
        return await _end_of(errand, job) if wait else job

    _print(run(act, needs_tasks=True), waited=wait, as_json=as_json)


def _durations(**given: tuple[str | None, str]) -> dict[str, float | None]:
    """In seconds; the word that stands second means none."""
    return {
        name: None if text == word else read_duration(f"--{name}", text, word).total_seconds()
        for name, (text, word) in given.items()
        if text is not None
    }


def _checked_key(key: str | None) -> str | None:
    if key is not None and not 1 <= len(key) <= MAX_KEY:
        raise typer.BadParameter(f"--idempotency-key: 1 to {MAX_KEY} characters")
    return key


def _submission(said: dict[str, Any], now: Any, later: timedelta | None) -> Submission:
    if later is not None:
        said["run_at"] = now + later
    try:
        return Submission(**said)
    except ValidationError as error:
        raise typer.BadParameter("; ".join(_explain(each) for each in error.errors(include_url=False))) from None


def _explain(detail: Any) -> str:
    name = str(detail["loc"][0])
    option = "TASK" if name == "task" else "--" + name.removesuffix("s" if name == "tags" else "").replace("_", "-")
    return f"{option}: {detail['msg']}"


async def _store(errand: Errand, wanted: Submission, key: str | None) -> Job:
    if key is None:
        return await store(errand.services, wanted, by=caller())
    job, replayed = await submit_keyed(errand.services, wanted, by=caller(), key=key)
    if replayed:
        typer.echo("jobtrail: the key was used before: this is its job", err=True)
    return job


async def _end_of(errand: Errand, job: Job) -> Job:
    if not any(job.task in node.tasks for node in await read_nodes(errand.services)):
        typer.echo(f"jobtrail: waiting; no node that knows {job.task!r} is there: start `jobtrail serve`", err=True)
    pause = 0.05
    while not job.status.is_terminal:
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 1.0)
        job = await read(errand.services, job.id)
    return job


def _print(job: Job, *, waited: bool, as_json: bool) -> None:
    if as_json:
        output.print_json(representation.of_job(job, WHOLE))
    elif not waited:
        typer.echo(job.id)
    else:
        error = output.in_a_line(job.error)
        output.print_fields({"id": job.id, "status": job.status, "result": job.result, "error": error})
    if waited and job.status is not Status.SUCCEEDED:
        raise typer.Exit(1)
