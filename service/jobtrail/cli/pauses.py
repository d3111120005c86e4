"""`jobtrail pause` and `jobtrail resume`."""

from typing import Annotated, Final

import typer

from jobtrail.cli import output
from jobtrail.cli.arguments import read_reason
from jobtrail.cli.command import Json, caller, run
from jobtrail.ops.pauses import pause as pause_it
from jobtrail.ops.pauses import read_pauses
from jobtrail.ops.pauses import resume as resume_it
from jobtrail.records import PauseKind

Queue = Annotated[str | None, typer.Option(metavar="NAME", help="All jobs of this queue.")]
Task = Annotated[str | None, typer.Option(metavar="NAME", help="All jobs of this task, in any queue.")]

_COLUMNS: Final = {"kind": "kind", "name": "name", "since": "paused_at", "by": "paused_by", "reason": "reason"}
"""Heads of the list, and the fields below them."""


def pause(
    queue: Queue = None,
    task: Task = None,
    reason: Annotated[str | None, typer.Option(help="Why; listed with the pause.")] = None,
    as_json: Json = False,
) -> None:
    """Start no more jobs of a queue or a task, on any node, until it is resumed; what runs goes on.

    Without an option: list what is paused.
    """
    why = read_reason(reason)
    if queue is None and task is None and reason is None:
        paused = run(lambda command: read_pauses(command.services))
        output.answer_records(paused, _COLUMNS, none="nothing is paused", as_json=as_json)
        return
    kind, name = _one_of(queue, task)
    found = run(lambda command: pause_it(command.services, kind, name, by=caller(), reason=why), with_tasks=True)
    because = f": {output.cell(found.reason)}" if found.reason else ""
    since = f"since {output.cell(found.paused_at)} by {output.cell(found.paused_by)}{because}"
    output.answer(output.document(found), f"{kind} {output.cell(name)} is paused {since}", as_json=as_json)


def resume(queue: Queue = None, task: Task = None, as_json: Json = False) -> None:
    """Start the jobs of a paused queue or task again."""
    kind, name = _one_of(queue, task)
    was_paused = run(lambda command: resume_it(command.services, kind, name, by=caller()), with_tasks=True)
    text = f"{kind} {output.cell(name)} {'goes on' if was_paused else 'was not paused'}"
    output.answer({"kind": kind, "name": name, "was_paused": was_paused}, text, as_json=as_json)


def _one_of(queue: str | None, task: str | None) -> tuple[PauseKind, str]:
    match queue, task:
        case str(), None:
            return "queue", queue
        case None, str():
            return "task", task
        case _:
            raise typer.BadParameter("name one of them: --queue NAME or --task NAME")
