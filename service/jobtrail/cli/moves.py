"""`jobtrail cancel`, `retry` and `purge`: one job by its id, many by filters, and all that has expired.

Many are counted first, confirmed in a terminal, then moved with the count in sight.
"""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Annotated, Final
from uuid import UUID

import typer

from jobtrail.cli import exits, output
from jobtrail.cli.arguments import read_reason
from jobtrail.cli.command import Command, Json, caller, run
from jobtrail.cli.filters import Filters, with_filters
from jobtrail.errors import InvalidInputError, UnavailableError
from jobtrail.jobs.bulk import BATCH, Action, Bulk, bulk
from jobtrail.jobs.cancel import cancel as cancel_job
from jobtrail.jobs.purge import Purged
from jobtrail.jobs.purge import purge as purge_all
from jobtrail.jobs.query import Filter
from jobtrail.jobs.retry import retry as retry_job
from jobtrail.records import Job
from jobtrail.status import Status

JobId = Annotated[UUID | None, typer.Argument(metavar="ID", help="One job; without it the filters choose many.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="How many jobs at most, the oldest first.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count the jobs.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; without a terminal it never asks.")]

_DONE: Final = {Action.CANCEL: "cancelled, or asked to stop where they run", Action.RETRY: "retried"}


@with_filters
def cancel(
    job_id: JobId = None,
    *,
    reason: Annotated[str | None, typer.Option(help="Why; kept in the row and the history.")] = None,
    filters: Filters,
    limit: Limit = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    why = read_reason(reason)
    many = _Many(Action.CANCEL, filters, limit, dry_run, yes, as_json, why)
    if (one := many.or_one(job_id)) is None:
        many.move()
        return
    job = run(lambda command: cancel_job(command.services, one, by=caller(), reason=why))
    now = "cancelled" if job.status is Status.CANCELLED else "running; its node was asked to stop it"
    _answer(job, now, as_json=as_json)


@with_filters
def retry(
    job_id: JobId = None,
    *,
    filters: Filters,
    limit: Limit = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    many = _Many(Action.RETRY, filters, limit, dry_run, yes, as_json)
    if (one := many.or_one(job_id)) is None:
        many.move()
        return
    job = run(lambda command: retry_job(command.services, one, by=caller()))
    _answer(job, f"pending; attempt {job.attempt + 1} of {job.max_attempts} comes next", as_json=as_json)


def purge(as_json: Json = False) -> None:
    async def act(command: Command) -> Purged:
        return await purge_all(command.services.database, by=caller(), history_ttl=command.settings.history_ttl)

    gone = run(act)
    text = f"purged {gone.jobs} jobs, and {gone.transitions} rows of the history of jobs purged long ago"
    output.answer({"jobs": gone.jobs, "transitions": gone.transitions}, text, as_json=as_json)


def _answer(job: Job, now: str, *, as_json: bool) -> None:
    output.answer(output.job_document(job), f"{job.id} {now}", as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Many:
    """A change of many jobs, as it was asked for."""

    action: Action
    filters: Filters
    limit: int | None
    dry_run: bool
    yes: bool
    as_json: bool
    reason: str | None = None

    def or_one(self, job_id: UUID | None) -> UUID | None:
        """The one job that is meant, if it is one. Raises BadParameter for neither and for both."""
        if job_id is None and self.filters == Filters():
            raise typer.BadParameter(
                "name one job by its ID, or many by filters, such as --status, --task and --since 1h"
            )
        if job_id is not None and (self.filters != Filters() or self.limit is not None or self.dry_run):
            raise typer.BadParameter("an ID stands alone: filters, --limit and --dry-run are for many jobs")
        return job_id

    def move(self) -> None:
        wanted, counted = self._count()
        if not self.as_json:
            typer.echo(f"{_jobs(counted.matched)} {'matches' if counted.matched == 1 else 'match'}")
        if self.dry_run or not counted.matched:
            self._print(counted, "nothing was changed")
            return
        most = min(counted.matched, self.limit or counted.matched)
        asks = not self.yes and output.is_terminal() and sys.stdin.isatty()
        if asks and not _agrees(f"{self.action.capitalize()} {_jobs(most)}?"):
            self._print(counted, "nothing was changed")
            raise typer.Exit(exits.FAILED)
        self._act(wanted, counted)

    def _count(self) -> tuple[Filter, Bulk]:
        async def act(command: Command) -> tuple[Filter, Bulk]:
            wanted = self.filters.at(await command.now())
            return wanted, await bulk(command.services, self.action, wanted, by=caller(), dry_run=True)

        try:
            return run(act)
        except InvalidInputError as error:
            raise typer.BadParameter(f"--status: {error.flaws[0].detail}") from None

    def _act(self, wanted: Filter, counted: Bulk) -> None:
        """Moves only what was counted: what has failed since then was not agreed to."""
        done = 0

        async def act(command: Command) -> Bulk:
            def count(changed: int, total: int) -> None:
                nonlocal done
                done = changed
                show(changed, total)

            return await bulk(
                command.services,
                self.action,
                wanted,
                by=caller(),
                reason=self.reason,
                most=self.limit,
                as_of=counted.as_of,
                on_batch=count,
            )

        try:
            with self._bar(counted) as show:
                moved = run(act)
        except (KeyboardInterrupt, UnavailableError):
            self._print_moved(replace(counted, changed=done, remaining=max(counted.matched - done, 0)))
            raise
        self._print_moved(moved)

    def _bar(self, counted: Bulk) -> AbstractContextManager[Callable[[int, int], None]]:
        if self.as_json or counted.matched <= BATCH or not output.is_terminal():
            return nullcontext(lambda _done, _total: None)
        from jobtrail.cli.bar import count_bar  # noqa: PLC0415 - into a pipe what it needs is never loaded

        return count_bar()

    def _print_moved(self, moved: Bulk) -> None:
        verb = "remains" if moved.remaining == 1 else "remain"
        rest = f"; {_jobs(moved.remaining)} {verb}: run it again for the rest" if moved.remaining else ""
        self._print(moved, f"{_jobs(moved.changed)} {_DONE[self.action]}{rest}")

    def _print(self, moved: Bulk, text: str) -> None:
        about = {"action": self.action, "dry_run": self.dry_run}
        output.answer(about | output.document(moved, "as_of"), text, as_json=self.as_json)


def _agrees(question: str) -> bool:
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:  # Ctrl-C, which leaves here as everywhere
        raise KeyboardInterrupt from None


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"
