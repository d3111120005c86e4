"""`jobtrail cancel`, `retry` and `purge`: one job by its id, many by filters, and all that has expired.

Many are counted first, confirmed in a terminal, then moved with the count in sight.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any, Final
from uuid import UUID

import typer

from jobtrail.cli import output
from jobtrail.cli.command import Command, Filters, Json, caller, run, with_filters
from jobtrail.errors import UnavailableError
from jobtrail.events import feed
from jobtrail.jobs import bulk
from jobtrail.jobs import purge as purging
from jobtrail.jobs.cancel import cancel as cancel_job
from jobtrail.jobs.cancel import reason_of
from jobtrail.jobs.query import Filter
from jobtrail.jobs.retry import retry as retry_job
from jobtrail.records import Job
from jobtrail.status import Status

JobId = Annotated[UUID | None, typer.Argument(metavar="ID", help="One job; without it the filters choose many.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="How many jobs at most, the oldest first.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count the jobs.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; without a terminal it never asks.")]

_DONE: Final = {bulk.Action.CANCEL: "cancelled, or asked to stop where they run", bulk.Action.RETRY: "retried"}


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
) -> bool:
    why = reason_of(reason)  # before anything is counted
    if job_id is None:
        return _move_many(bulk.Action.CANCEL, filters, limit, dry_run=dry_run, yes=yes, as_json=as_json, reason=why)
    _require_alone(filters, limit, dry_run=dry_run)
    job = run(lambda command: cancel_job(command.services, job_id, by=caller(), reason=why))
    now = "cancelled" if job.status is Status.CANCELLED else "running; its node was asked to stop it"
    return _answer(job, now, as_json=as_json)


@with_filters
def retry(
    job_id: JobId = None,
    *,
    filters: Filters,
    limit: Limit = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> bool:
    if job_id is None:
        return _move_many(bulk.Action.RETRY, filters, limit, dry_run=dry_run, yes=yes, as_json=as_json)
    _require_alone(filters, limit, dry_run=dry_run)

    async def act(command: Command) -> Job:
        job = await retry_job(command.services, job_id, by=caller())
        command.services.database.hints.send(job.queue)
        return job

    job = run(act)
    return _answer(job, f"pending; attempt {job.attempt + 1} of {job.max_attempts} comes next", as_json=as_json)


def purge(as_json: Json = False) -> None:
    async def act(command: Command) -> purging.Purged:
        database, history_ttl = command.services.database, command.settings.history_ttl
        await feed.forget(database, age=min(command.settings.feed_ttl, history_ttl or timedelta.max))
        return await purging.purge(database, by=caller(), history_ttl=history_ttl)

    gone = run(act)
    text = f"purged {gone.jobs} jobs, and {gone.transitions} rows of the history of jobs purged long ago"
    output.answer({"jobs": gone.jobs, "transitions": gone.transitions}, text, as_json=as_json)


def _require_alone(filters: Filters, limit: int | None, *, dry_run: bool) -> None:
    if filters.are_given or limit is not None or dry_run:
        raise typer.BadParameter("an ID stands alone: filters, --limit and --dry-run are for many jobs")


def _answer(job: Job, now: str, *, as_json: bool) -> bool:
    output.answer(output.document(job), f"{job.id} {now}", as_json=as_json)
    return True


def _move_many(
    action: bulk.Action,
    filters: Filters,
    limit: int | None,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    reason: str | None = None,
) -> bool:
    """Moves only what was counted: what has failed since then was not agreed to. False: it was not agreed to at all."""
    if not filters.are_given:
        raise typer.BadParameter("name one job by its ID, or many by filters, such as --status, --task and --since 1h")

    def report(found: bulk.Bulk, text: str) -> None:
        about = {"action": action, "dry_run": dry_run}
        output.answer(about | output.document(found, "as_of"), text, as_json=as_json)

    def report_moved(found: bulk.Bulk) -> None:
        verb = "remains" if found.remaining == 1 else "remain"
        rest = f"; {_jobs(found.remaining)} {verb}: run it again for the rest" if found.remaining else ""
        report(found, f"{_jobs(found.changed)} {_DONE[action]}{rest}")

    wanted, counted = _count(action, filters)
    if not as_json:
        typer.echo(f"{_jobs(counted.matched)} {'matches' if counted.matched == 1 else 'match'}")
    is_agreed = dry_run or not counted.matched or yes or _agrees(action, min(counted.matched, limit or counted.matched))
    if dry_run or not counted.matched or not is_agreed:
        report(counted, "nothing was changed")
        return is_agreed
    moved = counted

    def count(changed: int, total: int) -> None:
        nonlocal moved
        moved = replace(counted, changed=changed, remaining=max(counted.matched - changed, 0))
        show(changed, total)

    async def act(command: Command) -> bulk.Bulk:
        how: dict[str, Any] = {"reason": reason, "most": limit, "as_of": counted.as_of, "on_batch": count}
        return await bulk.bulk(command.services, action, wanted, by=caller(), **how)

    try:
        with _bar(counted.matched, hidden=as_json) as show:
            moved = run(act)
    except (KeyboardInterrupt, UnavailableError):
        report_moved(moved)
        raise
    report_moved(moved)
    return True


def _count(action: bulk.Action, filters: Filters) -> tuple[Filter, bulk.Bulk]:
    async def act(command: Command) -> tuple[Filter, bulk.Bulk]:
        wanted = filters.at(await command.now())
        return wanted, await bulk.bulk(command.services, action, wanted, by=caller(), dry_run=True)

    return run(act)


def _agrees(action: bulk.Action, jobs: int) -> bool:
    """Always without a terminal."""
    if not (output.is_terminal() and sys.stdin.isatty()):
        return True
    try:
        return typer.confirm(f"{action.capitalize()} {_jobs(jobs)}?", err=True)
    except typer.Abort:  # Ctrl-C, which leaves here as everywhere
        raise KeyboardInterrupt from None


@contextmanager
def _bar(jobs: int, *, hidden: bool) -> Iterator[Callable[[int, int], None]]:
    """Shows how many jobs of how many are done, on standard error; few jobs need none."""
    if hidden or jobs <= bulk.BATCH or not output.is_terminal():
        yield lambda _done, _total: None
        return
    from rich import progress as bars  # noqa: PLC0415 - into a pipe it is never loaded
    from rich.console import Console  # noqa: PLC0415 - the same

    columns = (bars.BarColumn(), bars.MofNCompleteColumn(), bars.TextColumn("jobs"))
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total, refresh=True)


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"
