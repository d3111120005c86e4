"""Many jobs at once: counted, asked about in a terminal, then moved with the count in sight."""

import sys
from dataclasses import dataclass, replace
from typing import Annotated, Final, Self
from uuid import UUID

import typer

from jobtrail.api import representation
from jobtrail.cli import exits, output
from jobtrail.cli.errand import Errand, caller, run
from jobtrail.cli.filters import Chosen
from jobtrail.job.errors import InvalidInputError, UnavailableError
from jobtrail.jobs.bulk import BATCH, Action, Bulk, bulk
from jobtrail.jobs.query import Filter

Limit = Annotated[int | None, typer.Option("--limit", min=1, help="How many jobs at most, the oldest first.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count the jobs.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; in a pipe nobody is asked.")]

_DONE: Final = {Action.CANCEL: "cancelled, or asked to stop where they run", Action.RETRY: "retried"}


@dataclass(frozen=True, slots=True)
class Manner:
    limit: int | None
    dry_run: bool
    yes: bool
    as_json: bool
    reason: str | None = None


def only(job_id: UUID | None, chosen: Chosen, manner: Manner) -> UUID | None:
    """The one job that is meant, or None: those of the filters. Raises BadParameter for neither and for both."""
    if job_id is None and chosen.is_empty:
        raise typer.BadParameter("name one job by its ID, or many by filters, such as --status, --task and --since 1h")
    if job_id is not None and not (chosen.is_empty and manner.limit is None and not manner.dry_run):
        raise typer.BadParameter("an ID stands alone: filters, --limit and --dry-run are for many jobs")
    return job_id


def move_many(action: Action, chosen: Chosen, manner: Manner) -> None:
    wanted, counted = _count(action, chosen)
    if not manner.as_json:
        typer.echo(f"{_jobs(counted.matched)} {'matches' if counted.matched == 1 else 'match'}")
    if manner.dry_run or not counted.matched:
        _print_unchanged(action, counted, manner)
        return
    most = min(counted.matched, manner.limit or counted.matched)
    if _is_asked(manner) and not _agrees(f"{action.capitalize()} {_jobs(most)}?"):
        _print_unchanged(action, counted, manner)
        raise typer.Exit(exits.FAILED)
    _print(action, _act(action, wanted, counted, manner), manner)


def _count(action: Action, chosen: Chosen) -> tuple[Filter, Bulk]:
    async def act(errand: Errand) -> tuple[Filter, Bulk]:
        wanted = chosen.filter(await errand.now())
        return wanted, await bulk(errand.services, action, wanted, by=caller(), dry_run=True)

    try:
        return run(act)
    except InvalidInputError as error:
        raise typer.BadParameter(f"--status: {error.flaws[0].detail}") from None


def _act(action: Action, wanted: Filter, counted: Bulk, manner: Manner) -> Bulk:
    """Only what was counted: what has failed since then was not agreed to."""
    tally = _Tally(shown=output.is_terminal() and not manner.as_json and counted.matched > BATCH)

    async def act(errand: Errand) -> Bulk:
        return await bulk(
            errand.services,
            action,
            wanted,
            by=caller(),
            reason=manner.reason,
            most=manner.limit,
            as_of=counted.as_of,
            on_batch=tally.count,
        )

    try:
        with tally:
            return run(act)
    except (KeyboardInterrupt, UnavailableError):
        remaining = max(counted.matched - tally.done, 0)
        _print(action, replace(counted, changed=tally.done, remaining=remaining), manner)
        raise


@dataclass(slots=True)
class _Tally:
    """How many are done; `shown`, it counts up in one line of the terminal."""

    shown: bool
    done: int = 0

    def count(self, done: int, total: int) -> None:
        self.done = done
        if self.shown:
            typer.echo(f"\r{done} of {_jobs(total)}", nl=False, err=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.shown and self.done:
            typer.echo(err=True)


def _is_asked(manner: Manner) -> bool:
    return not manner.yes and output.is_terminal() and sys.stdin.isatty()


def _agrees(question: str) -> bool:
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:  # Ctrl-C, which leaves here as everywhere
        raise KeyboardInterrupt from None


def _print_unchanged(action: Action, counted: Bulk, manner: Manner) -> None:
    if manner.as_json:
        output.print_json(representation.of_bulk(action, counted, dry_run=manner.dry_run))
    else:
        typer.echo("nothing was changed")


def _print(action: Action, done: Bulk, manner: Manner) -> None:
    if manner.as_json:
        output.print_json(representation.of_bulk(action, done, dry_run=False))
        return
    verb = "remains" if done.remaining == 1 else "remain"
    rest = f"; {_jobs(done.remaining)} {verb}: run it again for the rest" if done.remaining else ""
    typer.echo(f"{_jobs(done.changed)} {_DONE[action]}{rest}")


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"
