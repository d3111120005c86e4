"""An operator's nouns: `jobtrail pause`, `resume`, `limits`, `keys`, `batches` and `audit`."""

from collections.abc import Sequence
from typing import Annotated, Final, cast
from uuid import UUID

import typer

from jobtrail.callers import Scope
from jobtrail.cli import output
from jobtrail.cli.command import Command, Json, caller, configured, read_duration, read_pairs, run
from jobtrail.db.tables import of_schema
from jobtrail.errors import InvalidInputError
from jobtrail.jobs.bulk import Action
from jobtrail.ops import audit as audits
from jobtrail.ops import batches as all_batches
from jobtrail.ops import keys as access_keys
from jobtrail.ops import limits as key_limits
from jobtrail.ops import pauses
from jobtrail.ops.keys import KeyRecord, flaws_of

Queue = Annotated[str | None, typer.Option(metavar="NAME", help="All jobs of this queue.")]
Task = Annotated[str | None, typer.Option(metavar="NAME", help="All jobs of this task, in any queue.")]

# heads of a list, and the fields below them
_PAUSES: Final = {"kind": "kind", "name": "name", "since": "paused_at", "by": "paused_by", "reason": "reason"}
_LIMITS: Final = {
    "key": "key", "number": "number", "per": "per", "override": "override", "running": "running", "waiting": "waiting",
    "changed": "changed_at", "by": "changed_by",
}  # fmt: skip
_KEYS: Final = {
    "prefix": "prefix", "name": "name", "scopes": "scopes", "state": "state",
    "created": "created_at", "created by": "created_by", "expires": "expires_at", "used": "last_used_at",
    "revoked": "revoked_at", "revoked by": "revoked_by",
}  # fmt: skip


def pause(
    queue: Queue = None,
    task: Task = None,
    reason: Annotated[str | None, typer.Option(help="Why; listed with the pause.")] = None,
    as_json: Json = False,
) -> None:
    """Start no more jobs of a queue or a task, on any node, until it is resumed; what runs goes on.

    Without an option: list what is paused.
    """
    if queue is None and task is None and reason is None:
        paused = run(lambda command: pauses.read_pauses(command.services))
        output.answer_records(paused, _PAUSES, none="nothing is paused", as_json=as_json)
        return
    kind, name = _one_of(queue, task)
    found = run(lambda command: pauses.pause(command.services, kind, name, by=caller(), reason=reason), with_tasks=True)
    because = f": {output.cell(found.reason)}" if found.reason else ""
    since = f"since {output.cell(found.paused_at)} by {output.cell(found.paused_by)}{because}"
    output.answer(output.document(found), f"{kind} {output.cell(name)} is paused {since}", as_json=as_json)


def resume(queue: Queue = None, task: Task = None, as_json: Json = False) -> None:
    """Start the jobs of a paused queue or task again."""
    kind, name = _one_of(queue, task)
    was_paused = run(lambda command: pauses.resume(command.services, kind, name, by=caller()), with_tasks=True)
    text = f"{kind} {output.cell(name)} {'goes on' if was_paused else 'was not paused'}"
    output.answer({"kind": kind, "name": name, "was_paused": was_paused}, text, as_json=as_json)


def _one_of(queue: str | None, task: str | None) -> tuple[pauses.PauseKind, str]:
    match queue, task:
        case str(), None:
            return "queue", queue
        case None, str():
            return "task", task
        case _:
            raise typer.BadParameter("name one of them: --queue NAME or --task NAME")


def limits(
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="One of them, such as tenant:42.")] = None,
    number: Annotated[
        float | None, typer.Option("--set", metavar="NUMBER", help="Override its number; 0 starts no more of its jobs.")
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Let the number that its task declares hold again.")] = False,
    as_json: Json = False,
) -> None:
    """List the limits that unfinished jobs have, or one of them; override its number on all nodes.

    What runs goes on.
    """
    if key is None:
        if number is not None or reset:
            raise typer.BadParameter("name the key: jobtrail limits KEY --set NUMBER")
        found = run(lambda command: key_limits.read_limits(command.services))
        output.answer_records(found, _LIMITS, none="no unfinished job has a limit", as_json=as_json)
        return
    if number is not None and reset:
        raise typer.BadParameter("--set and --reset do not go together")
    if reset:
        was_set = run(lambda command: key_limits.restore_limit(command.services, key, by=caller()))
        text = f"limit {output.cell(key)} {'has its own number again' if was_set else 'had no override'}"
        output.answer({"key": key, "was_overridden": was_set}, text, as_json=as_json)
    elif number is not None:
        record = run(lambda command: key_limits.override_limit(command.services, key, number, by=caller()))
        output.answer(output.document(record), f"limit {output.cell(key)} is {number:g} now", as_json=as_json)
    else:
        record = run(lambda command: key_limits.read_limit(command.services, key))
        output.answer_records([record], _LIMITS, none="", as_json=as_json)


keys: Final = typer.Typer(add_completion=False)


@keys.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the caller, key:NAME; several keys may be of one.")],
    scope: Annotated[
        list[str] | None, typer.Option(metavar="SCOPE", help="read, submit or operate; may be given more than once.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Until when: 12h, 90d. Else for ever.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make an access key.

    The key alone is written to standard output, this once: KEY=$(jobtrail keys create shop --scope submit).
    """
    lives_for = read_duration("--expires", expires)
    if flaws := flaws_of(name, scope or (), None, lives_for):  # before anything is connected
        raise InvalidInputError(flaws)
    scopes = cast("Sequence[Scope]", scope)

    async def act(command: Command) -> tuple[bool, KeyRecord, str]:
        services = command.services
        is_first = not await access_keys.any_keys(services)
        return is_first, *await access_keys.create_key(services, name, scopes, by=caller(), lives_for=lives_for)

    is_first, record, text = run(act)
    output.answer(output.document(record) | {"key": text}, text, as_json=as_json)
    if as_json:
        return
    ends = f"until {output.cell(record.expires_at)}" if record.expires_at else "until it is revoked"
    typer.echo(
        f"The key of key:{record.name}, which may {', '.join(record.scopes)} {ends}. It is not shown again.\n"
        f"Send it as `Authorization: Bearer KEY`; `jobtrail keys revoke {record.prefix}` ends it.",
        err=True,
    )
    if is_first:
        typer.echo("It is the first one: from now on the service asks every caller for a key.", err=True)


@keys.command("list")
def list_keys(as_json: Json = False) -> None:
    """List the access keys, revoked and expired ones too; never a key itself."""
    found = run(lambda command: access_keys.list_keys(command.services))
    output.answer_records(found, _KEYS, none="there are no access keys", as_json=as_json)


@keys.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID_OR_PREFIX", help="Its id, its prefix, or the key itself.")],
    as_json: Json = False,
) -> None:
    """Refuse a key from now on.

    Every service does so within a second. The row stays, as evidence.
    """
    record = run(lambda command: access_keys.revoke_key(command.services, key, by=caller()))
    since = f"since {output.cell(record.revoked_at)} by {output.cell(record.revoked_by)}"
    text = f"access key {record.prefix} of {output.cell(record.name)} is revoked {since}"
    output.answer(output.document(record), text, as_json=as_json)


batches: Final = typer.Typer(add_completion=False)

BatchId = Annotated[UUID, typer.Argument(metavar="ID")]


@batches.command()
def show(batch_id: BatchId, as_json: Json = False) -> None:
    """Show how far a batch is: its jobs by status."""
    found = output.document(run(lambda command: all_batches.read(command.services, batch_id)))
    if as_json:
        output.print_json(found)
    else:
        output.print_fields(found)


@batches.command()
def cancel(
    batch_id: BatchId,
    reason: Annotated[str | None, typer.Option(help="Why; kept in the rows and the history.")] = None,
    as_json: Json = False,
) -> None:
    """Cancel the jobs of a batch that have not ended."""
    _move(batch_id, Action.CANCEL, "cancelled, or asked to stop where they run", reason, as_json=as_json)


@batches.command()
def retry(batch_id: BatchId, as_json: Json = False) -> None:
    """Retry the jobs of a batch that failed or were cancelled."""
    _move(batch_id, Action.RETRY, "retried", None, as_json=as_json)


def _move(batch_id: UUID, action: Action, done: str, reason: str | None, *, as_json: bool) -> None:
    found = run(lambda command: all_batches.move(command.services, batch_id, action, by=caller(), reason=reason))
    text = f"{found.changed} of {found.matched} jobs {done}"
    output.answer({"action": action, **output.document(found, "as_of")}, text, as_json=as_json)


def audit(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A question; without one they are listed.")] = None,
    pairs: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Its parameters.")] = None,
    sql: Annotated[
        bool, typer.Option("--sql", help="Print the question instead of asking it: a file for psql.")
    ] = False,
    as_json: Json = False,
) -> None:
    if name is None:
        if sql:
            raise typer.BadParameter("--sql prints one question: name it, such as `jobtrail audit lost_jobs --sql`")
        known = list(audits.questions().values())
        if as_json:
            output.print_json({"items": [output.document(each) for each in known]})
            return
        rows = [(each.name, each.title, [f"{one.name}={one.default}" for one in each.parameters]) for each in known]
        output.print_table(("name", "question", "parameters"), rows)
        return
    question, given = audits.question(name), read_pairs(pairs)
    if sql:
        typer.echo(of_schema(question.file, configured().schema), nl=False)
        return

    async def act(command: Command) -> audits.Answer:
        async with command.services.session() as session:
            try:
                return await audits.ask(session, question, given)
            except InvalidInputError as error:
                raise error.under("/args") from None

    found = run(act)
    if as_json:
        output.print_json({"name": name, "columns": found.columns, "items": found.items()})
    else:
        output.print_table(found.columns, found.rows)
