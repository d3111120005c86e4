"""Verbs that keep a queue or a task from being started, and let it go on."""

from collections.abc import Sequence
from typing import Annotated

import typer

from jobtrail.api import representation
from jobtrail.cli import output
from jobtrail.cli.errand import Errand, Json, caller, run
from jobtrail.job.limits import MAX_REASON
from jobtrail.job.record import Pause, PauseKind
from jobtrail.ops.pauses import pause as pause_it
from jobtrail.ops.pauses import read_pauses
from jobtrail.ops.pauses import resume as resume_it

Queue = Annotated[str | None, typer.Option(metavar="NAME", help="All jobs of this queue.")]
Task = Annotated[str | None, typer.Option(metavar="NAME", help="All jobs of this task, in any queue.")]


def pause(
    queue: Queue = None,
    task: Task = None,
    reason: Annotated[str | None, typer.Option(help="Why; for whoever wonders.")] = None,
    as_json: Json = False,
) -> None:
    """Start no more jobs of a queue or a task, on any node, until it is resumed; what runs goes on.

    Without an option: list what is paused.
    """
    if reason is not None and len(reason) > MAX_REASON:
        raise typer.BadParameter(f"--reason: at most {MAX_REASON} characters")
    if queue is None and task is None and reason is None:
        _list(as_json=as_json)
        return
    kind, name = _one_of(queue, task)

    async def act(errand: Errand) -> Pause:
        return await pause_it(errand.services, kind, name, by=caller(), reason=reason or None)

    found = run(act, with_tasks=True)
    if as_json:
        output.print_json(representation.of_pause(found))
    else:
        why = f": {output.cell(found.reason)}" if found.reason else ""
        since = f"since {output.cell(found.paused_at)} by {output.cell(found.paused_by)}{why}"
        typer.echo(f"{kind} {output.cell(name)} is paused {since}")


def resume(queue: Queue = None, task: Task = None, as_json: Json = False) -> None:
    """Start the jobs of a paused queue or task again."""
    kind, name = _one_of(queue, task)

    async def act(errand: Errand) -> bool:
        return await resume_it(errand.services, kind, name, by=caller())

    was_paused = run(act, with_tasks=True)
    if as_json:
        output.print_json({"kind": kind, "name": name, "was_paused": was_paused})
    else:
        typer.echo(f"{kind} {output.cell(name)} {'goes on' if was_paused else 'was not paused'}")


def _one_of(queue: str | None, task: str | None) -> tuple[PauseKind, str]:
    match queue, task:
        case str(), None:
            return "queue", queue
        case None, str():
            return "task", task
        case _:
            raise typer.BadParameter("name one of them: --queue NAME or --task NAME")


def _list(*, as_json: bool) -> None:
    async def act(errand: Errand) -> Sequence[Pause]:
        return await read_pauses(errand.services)

    found = run(act)
    if as_json:
        output.print_json({"items": [representation.of_pause(each) for each in found]})
    elif found:
        rows = [(each.kind, each.name, each.paused_at, each.paused_by, each.reason) for each in found]
        output.print_table(("kind", "name", "since", "by", "reason"), rows)
    else:
        typer.echo("nothing is paused")
