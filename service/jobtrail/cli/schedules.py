"""`jobtrail schedules`: jobs at certain times."""

from typing import Annotated, Any, Final

import typer

from jobtrail.cli import output
from jobtrail.cli.command import Command, Json, caller, read_duration, read_moment, read_pairs, run
from jobtrail.cli.submit import merge_args
from jobtrail.ops import schedules as known
from jobtrail.ops.backfill import backfill
from jobtrail.records import Job
from jobtrail.task.schedule import Backfill, Schedule, ScheduleSpec
from jobtrail.task.submission import checked

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the schedule.")]

_MOST: Final = 10_000

_LIST: Final = {
    "name": "name", "state": "state", "task": "task", "cron": "cron", "every": "every", "zone": "zone",
    "next": "next_at",
}  # fmt: skip
_LAST: Final = {"id": "id", "status": "status", "for": "scheduled_for", "ended": "finished_at"}

schedules: Final = typer.Typer(add_completion=False)


@schedules.command("list")
def list_schedules(as_json: Json = False) -> None:
    """List the schedules: those that code declares, and those that were made by hand."""
    found = run(lambda command: known.read_schedules(command.services, most=_MOST))
    output.answer_records(found, _LIST, none="there are no schedules", as_json=as_json)


@schedules.command()
def show(name: Name, as_json: Json = False) -> None:
    """Show one: its next times, its last jobs, and how many due times were skipped."""
    found = run(lambda command: known.read_schedule(command.services, name))
    document = output.document(found.schedule)
    if as_json:
        jobs = [output.document(job, "args", "result") for job in found.last_jobs]
        more = {"next_times": found.next_times, "last_jobs": jobs, "skipped": found.skipped}
        output.print_json(document | more)
        return
    times = "\n".join(output.cell(each) for each in found.next_times)
    output.print_fields(document | {"next_at": None, "next times": times or None, "skipped": found.skipped or None})
    if found.last_jobs:
        typer.echo()
        output.answer_records(found.last_jobs, _LAST, none="", as_json=False)


@schedules.command()
def put(
    name: Name,
    task: Annotated[str, typer.Argument(metavar="TASK")],
    pairs: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Arguments of its jobs.")] = None,
    *,
    args: Annotated[str | None, typer.Option(metavar="JSON", help="The arguments as one JSON object.")] = None,
    cron: Annotated[str | None, typer.Option(help="Five fields, '0 7 * * mon-fri', or @daily and the like.")] = None,
    every: Annotated[str | None, typer.Option(metavar="DURATION", help="Instead: 30s, 5m, 2h.")] = None,
    zone: Annotated[str | None, typer.Option(help="Of --cron, such as Europe/Paris; else UTC.")] = None,
    missed: Annotated[
        str | None, typer.Option(metavar="once|skip|all", help="Due times without a node; else once.")
    ] = None,
    overlap: Annotated[
        str | None,
        typer.Option(
            metavar="skip|queue|allow",
            help="While its last job has not ended; else skip, or queue with --missed all.",
        ),
    ] = None,
    jitter: Annotated[str | None, typer.Option(metavar="DURATION", help="Each job waits a part of it.")] = None,
    starts_at: Annotated[str | None, typer.Option(metavar="TIME", help="RFC 3339 with a zone.")] = None,
    ends_at: Annotated[str | None, typer.Option(metavar="TIME", help="The same.")] = None,
    queue: Annotated[str | None, typer.Option(help="Of its jobs; else the task's.")] = None,
    priority: Annotated[int | None, typer.Option(help="0 to 9, higher first; else the task's.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Of its jobs; may be repeated.")] = None,
    pause_after: Annotated[int | None, typer.Option(help="Pause it after so many failures in a row.")] = None,
    as_json: Json = False,
) -> None:
    """Make a schedule, or replace it as a whole."""
    texts = read_pairs(pairs)
    seconds = {"every": read_duration("--every", every), "jitter": read_duration("--jitter", jitter)}
    given: dict[str, Any] = {
        "task": task, "cron": cron, "zone": zone, "missed": missed, "overlap": overlap, "starts_at": starts_at,
        "ends_at": ends_at, "queue": queue, "priority": priority, "tags": tag, "pause_after": pause_after,
        **{field: None if each is None else each.total_seconds() for field, each in seconds.items()},
    }  # fmt: skip
    # only what is given: a default may depend on another field
    said = {field: value for field, value in given.items() if value is not None}

    async def act(command: Command) -> Schedule:
        wanted = checked(ScheduleSpec, said | {"args": merge_args(command.services.catalog[task], args, texts)})
        return await known.put(command.services, name, wanted, by=caller())

    found = run(act, needs_tasks=True)
    due = f"next at {output.cell(found.next_at)}" if found.next_at else f"it is {found.state}"
    output.answer(output.document(found), f"schedule {name} of {found.task}: {due}", as_json=as_json)


@schedules.command()
def pause(
    name: Name,
    reason: Annotated[str | None, typer.Option(help="Why; shown with the schedule.")] = None,
    as_json: Json = False,
) -> None:
    """Make no more jobs of it until it is resumed, also through deploys."""
    found = run(lambda command: known.pause(command.services, name, by=caller(), reason=reason))
    since = f"since {output.cell(found.paused_at)} by {output.cell(found.paused_by)}"
    because = f": {output.cell(found.pause_reason)}" if found.pause_reason else ""
    output.answer(output.document(found), f"schedule {name} is paused {since}{because}", as_json=as_json)


@schedules.command()
def resume(name: Name, as_json: Json = False) -> None:
    """Go on with its next due time; those of the pause are not made up for."""
    found = run(lambda command: known.resume(command.services, name, by=caller()))
    due = f"next at {output.cell(found.next_at)}" if found.next_at else f"it is {found.state}"
    output.answer(output.document(found), f"schedule {name} goes on: {due}", as_json=as_json)


@schedules.command("run")
def run_now(name: Name, as_json: Json = False) -> None:
    """Store a job of it now; a node that knows its task runs it."""

    async def act(command: Command) -> Job:
        job = await known.run(command.services, name, by=caller())
        if not job.is_for_later:
            command.services.database.hints.send(job.queue)
        return job

    job = run(act, needs_tasks=True)
    output.answer(output.document(job), str(job.id), as_json=as_json)


@schedules.command("backfill")
def backfill_schedule(
    name: Name,
    *,
    since: Annotated[str, typer.Option("--from", metavar="TIME", help="30m, 2h, 7d ago, or a time (RFC 3339).")],
    until: Annotated[str, typer.Option(metavar="TIME", help="The same; a due time of just then is not taken.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the due times.")] = False,
    as_json: Json = False,
) -> None:
    """Store a job for each due time in a time that has passed, all in one batch; prints the batch's id."""

    async def act(command: Command) -> Backfill:
        now = await command.now()
        first, end = read_moment("--from", since, now), read_moment("--until", until, now)
        return await backfill(command.services, name, first, end, by=caller(), dry_run=dry_run)

    found = run(act, needs_tasks=True)
    more = [f"… and {found.count - len(found.times)} more"] if found.count > len(found.times) else []
    told = str(found.batch_id) if found.batch_id else "\n".join([*map(output.cell, found.times), *more])
    output.answer(output.document(found), told, as_json=as_json)


@schedules.command()
def delete(name: Name, as_json: Json = False) -> None:
    """Delete it; its jobs stay. One that code declares comes back as it is declared, without pause and edits."""
    run(lambda command: known.delete(command.services, name, by=caller()))
    output.answer({"name": name}, f"schedule {name} is deleted", as_json=as_json)
