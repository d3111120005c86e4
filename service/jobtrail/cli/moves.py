"""Verbs that move jobs: one or many by hand, and all that has expired."""

from typing import Annotated
from uuid import UUID

import typer

from jobtrail.api import representation
from jobtrail.api.view import WHOLE
from jobtrail.cli import output
from jobtrail.cli.bulk import DryRun, Limit, Manner, Yes, move_many, only
from jobtrail.cli.errand import Errand, Json, caller, run
from jobtrail.cli.filters import Chosen, with_filters
from jobtrail.job.limits import MAX_REASON
from jobtrail.job.record import Job
from jobtrail.job.status import Status
from jobtrail.jobs.bulk import Action
from jobtrail.jobs.cancel import cancel as cancel_job
from jobtrail.jobs.purge import Purged
from jobtrail.jobs.purge import purge as purge_all
from jobtrail.jobs.retry import retry as retry_job

JobId = Annotated[UUID | None, typer.Argument(metavar="ID", help="One job; without it the filters choose many.")]


@with_filters
def cancel(
    job_id: JobId = None,
    *,
    reason: Annotated[str | None, typer.Option(help="Why; kept in the row and the history.")] = None,
    chosen: Chosen,
    limit: Limit = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    if reason is not None and len(reason) > MAX_REASON:
        raise typer.BadParameter(f"--reason: at most {MAX_REASON} characters")
    manner = Manner(limit, dry_run, yes, as_json, reason or None)
    if (one := only(job_id, chosen, manner)) is None:
        move_many(Action.CANCEL, chosen, manner)
        return

    async def act(errand: Errand) -> Job:
        return await cancel_job(errand.services, one, by=caller(), reason=manner.reason)

    job = run(act)
    _print(job, "cancelled" if job.status is Status.CANCELLED else "running; its node was asked to stop it", as_json)


@with_filters
def retry(
    job_id: JobId = None,
    *,
    chosen: Chosen,
    limit: Limit = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    manner = Manner(limit, dry_run, yes, as_json)
    if (one := only(job_id, chosen, manner)) is None:
        move_many(Action.RETRY, chosen, manner)
        return

    async def act(errand: Errand) -> Job:
        return await retry_job(errand.services, one, by=caller())

    job = run(act)
    _print(job, f"pending; attempt {job.attempt + 1} of {job.max_attempts} comes next", as_json)


def purge(as_json: Json = False) -> None:
    async def act(errand: Errand) -> Purged:
        return await purge_all(errand.services.database, by=caller(), history_ttl=errand.settings.history_ttl)

    gone = run(act)
    if as_json:
        output.print_json({"jobs": gone.jobs, "transitions": gone.transitions})
    else:
        typer.echo(f"purged {gone.jobs} jobs, and {gone.transitions} rows of the history of jobs purged long ago")


def _print(job: Job, what: str, as_json: bool) -> None:
    if as_json:
        output.print_json(representation.of_job(job, WHOLE))
    else:
        typer.echo(f"{job.id} {what}")
