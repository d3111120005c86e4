"""`jobtrail tail`: the feed of all transitions, as it goes on."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer
from pydantic_core import to_json

from jobtrail.cli import output
from jobtrail.cli.command import Command, run
from jobtrail.events.feed import Wanted
from jobtrail.events.readers import feed_events
from jobtrail.records import Transition
from jobtrail.status import moved_to
from jobtrail.task.job_events import Gap, JobEvent

_GAP: Final = "what was committed after that id, and before {since}, is not here: {reason}"


def tail(
    task: Annotated[list[str] | None, typer.Option(help="Any of these; may be repeated, as the next ones.")] = None,
    queue: Annotated[list[str] | None, typer.Option(help="Any of these.")] = None,
    status: Annotated[list[str] | None, typer.Option(help="Moves to any of these.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="All of these.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="ID", help="Go on after this event, as --json shows its id.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON document in each line.")] = False,
) -> None:
    """Follow what happens to all jobs, or to those of a filter, until Ctrl-C. Each transition is one line.

    jobtrail tail --status failed
    """
    try:
        moves = frozenset(map(moved_to, status or ()))
    except ValueError as error:
        raise typer.BadParameter(f"--status: {error}") from None
    wanted = Wanted(frozenset(task or ()), frozenset(queue or ()), moves, frozenset(tag or ()))

    async def act(command: Command) -> None:
        try:
            async for event in feed_events(command.services, wanted, since=since):
                _show(event, as_json=as_json)
        except ValueError as error:
            raise typer.BadParameter(f"--since: {error}") from None

    run(act)


def _show(event: JobEvent | Gap, *, as_json: bool) -> None:
    if isinstance(event, Gap):
        typer.echo(f"jobtrail: {_GAP.format(since=output.cell(event.since), reason=event.reason)}", err=True)
    elif as_json:
        typer.echo(to_json({"id": event.id, "job_id": event.job_id, **output.document(event.data)}).decode())
    elif isinstance(event.data, Transition):
        typer.echo("  ".join(_cells(event.data)))


def _cells(move: Transition) -> Sequence[str]:
    reason: Any = output.error_line(move.error) if move.error else move.reason
    what = f"{move.from_status or 'new'} → {move.to_status}"
    return [output.cell(each) for each in (move.at, move.job_id, move.task, what, f"attempt {move.attempt}", reason)]
