"""`jobtrail submit`: a job from the command line; a node that knows its task runs it."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Final
from uuid import UUID

import typer

from jobtrail import errors, ranges
from jobtrail.cli import output
from jobtrail.cli.command import Command, Json, caller, read_duration, read_pairs, run
from jobtrail.events.hub import Hub
from jobtrail.jobs.query import read
from jobtrail.jobs.submit import submit as store
from jobtrail.ops import nodes
from jobtrail.records import Job
from jobtrail.status import Status
from jobtrail.task import storable
from jobtrail.task.submission import Submission, checked
from jobtrail.task.task import Task

_LOOK_EVERY: Final = 5.0
"""Seconds after which a wait tells that the database is away."""

_AWAY: Final = 0.5
"""Seconds until a database that is away is asked again."""


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
    unique_key: Annotated[
        str | None, typer.Option(help="At most one unfinished job has it; if there is one, that is printed.")
    ] = None,
    on_duplicate: Annotated[
        str | None, typer.Option(help="keep, or replace: the job that waits takes these arguments.")
    ] = None,
    max_delay: Annotated[str | None, typer.Option(help="With replace: how long it waits at most, 5m.")] = None,
    after: Annotated[
        list[UUID] | None,
        typer.Option(metavar="ID", help="A job that must succeed before; may be repeated."),
    ] = None,
    callback_url: Annotated[str | None, typer.Option(metavar="URL", help="It is told how the job ended.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key again gives the first job.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end; exit 1 unless it succeeded.")] = False,
    as_json: Json = False,
) -> bool:
    """Store a job; a node that knows its task runs it. Prints the id.

    jobtrail submit send_mail to=ada@example.com --delay 5m
    """
    given: dict[str, Any] = {
        "queue": queue,
        "priority": priority,
        "run_at": run_at,
        "max_attempts": max_attempts,
        "tags": tag,
    }
    given |= {"after": after, "unique_key": unique_key, "on_duplicate": on_duplicate}
    given["callback_url"] = callback_url
    wanted: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    for name, text, none in (("ttl", ttl, "keep"), ("timeout", timeout, "none"), ("max_delay", max_delay, None)):
        if text is not None:
            length = read_duration(f"--{name.replace('_', '-')}", text, none)
            wanted[name] = None if length is None else length.total_seconds()
    if run_at is not None and delay is not None:
        raise typer.BadParameter("say only one of --run-at and --delay")
    later = read_duration("--delay", delay)
    if idempotency_key is not None and not 1 <= len(idempotency_key) <= ranges.MAX_KEY:
        raise typer.BadParameter(f"--idempotency-key: 1 to {ranges.MAX_KEY} characters")
    texts = read_pairs(pairs)

    async def act(command: Command) -> Job:
        arguments = merge_args(command.services.catalog[task], args, texts)
        if later is not None:
            wanted["run_at"] = await command.now() + later
        job = await _store(command, wanted | {"task": task, "args": arguments}, idempotency_key)
        if not job.is_for_later:
            command.services.database.hints.send(job.queue)
        return await _end_of(command, job) if wait else job

    job = run(act, needs_tasks=True)
    if as_json:
        output.print_json(output.document(job))
    elif not wait:
        typer.echo(job.id)
    else:
        error = output.error_line(job.error)
        output.print_fields({"id": job.id, "status": job.status, "result": job.result, "error": error})
    return not wait or job.status is Status.SUCCEEDED


def merge_args(task: Task[..., Any], written: str | None, texts: Mapping[str, str]) -> dict[str, Any]:
    """The JSON args of both ways to write them.

    A text that is JSON is taken as JSON, unless the parameter fits only the text: `code=007` and `name=5` may be texts.
    """
    try:
        args = {} if written is None else storable.parse(written.encode())
    except (errors.NotJsonError, errors.InvalidInputError) as error:
        raise typer.BadParameter(f"--args: {error}") from None
    if not isinstance(args, dict):
        raise typer.BadParameter("--args: write a JSON object, such as '{\"n\": 5}'")
    if both := args.keys() & texts.keys():
        raise typer.BadParameter(f"{min(both)!r:.80} is given twice: in --args and as KEY=VALUE")
    args |= {name: _json_or_text(text) for name, text in texts.items()}
    for name in _misfits(task, args) & texts.keys():
        if name not in _misfits(task, args | {name: texts[name]}):
            args[name] = texts[name]
    return args


def _json_or_text(text: str) -> object:
    try:
        return storable.parse(text.encode())
    except (errors.NotJsonError, errors.InvalidInputError):
        return text


def _misfits(task: Task[..., Any], args: Mapping[str, Any]) -> set[str]:
    """The names whose values do not fit the signature."""
    try:
        task.signature.check(args)
    except errors.InvalidArgumentsError as error:
        names = (flaw.pointer.split("/")[1] for flaw in error.flaws if flaw.pointer)
        return {name.replace("~1", "/").replace("~0", "~") for name in names}
    return set()


async def _store(command: Command, wanted: Mapping[str, Any], key: str | None) -> Job:
    job, is_there = await store(command.services, checked(Submission, wanted), by=caller(), key=key)
    if is_there:
        said = (
            "the key was used before: this is its job" if key else f"an unfinished job has the key {job.unique_key!r}"
        )
        typer.echo(f"jobtrail: {said}", err=True)
    return job


async def _end_of(command: Command, job: Job) -> Job:
    """The job as it ended. The id comes first: who is interrupted knows it then, and makes no second job. A database
    that is away is waited for.
    """
    typer.echo(f"jobtrail: waiting for job {job.id}", err=True)
    is_away, is_served = False, None
    while not job.status.is_terminal:
        try:
            if is_served is None:
                is_served = await nodes.is_served(command.services, job.task, job.queue)
                if not is_served:
                    typer.echo(_NO_NODE.format(job.queue, job.task), err=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY):
                    await command.services.once(Hub).job_ended(job.id)
            job = await read(command.services, job.id)
            is_away = False
        except errors.UnavailableError as error:
            if not is_away:
                typer.echo(f"jobtrail: waiting on: {error}", err=True)
            is_away = True
            await asyncio.sleep(_AWAY)
    return job


_NO_NODE: Final = "jobtrail: waiting; no node serves the queue {!r} and knows {!r}: start `jobtrail serve`"
