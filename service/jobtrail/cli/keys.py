"""`jobtrail keys`: the access keys of the service."""

from collections.abc import Sequence
from typing import Annotated, Final, cast

import typer

from jobtrail.cli import output
from jobtrail.cli.arguments import read_duration
from jobtrail.cli.command import Command, Json, caller, run
from jobtrail.ops.access import Scope
from jobtrail.ops.keys import KeyRecord, any_keys, create_key, flaws_of, list_keys, revoke_key

keys: Final = typer.Typer(add_completion=False)

_OPTIONS: Final = {"/name": "NAME", "/scopes": "--scope", "/expires_in": "--expires"}
"""Pointers into a key, as they are written here."""

_COLUMNS: Final = {
    "prefix": "prefix",
    "name": "name",
    "scopes": "scopes",
    "state": "state",
    "created": "created_at",
    "created by": "created_by",
    "expires": "expires_at",
    "used": "last_used_at",
    "revoked": "revoked_at",
    "revoked by": "revoked_by",
}
"""Heads of the list, and the fields below them."""


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
    lives_for = None if expires is None else read_duration("--expires", expires)
    for flaw in flaws_of(name, scope or (), None, lives_for):  # before anything is connected
        raise typer.BadParameter(f"{_OPTIONS[flaw.pointer]}: {flaw.detail}")
    scopes = cast("Sequence[Scope]", scope)

    async def act(command: Command) -> tuple[bool, KeyRecord, str]:
        is_first = not await any_keys(command.services)
        return is_first, *await create_key(command.services, name, scopes, by=caller(), lives_for=lives_for)

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
def show_all(as_json: Json = False) -> None:
    """List the access keys, revoked and expired ones too; never a key itself."""
    found = run(lambda command: list_keys(command.services))
    output.answer_records(found, _COLUMNS, none="there are no access keys", as_json=as_json)


@keys.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID_OR_PREFIX", help="Its id, its prefix, or the key itself.")],
    as_json: Json = False,
) -> None:
    """Refuse a key from now on.

    Every service does so within a second. The row stays, as evidence.
    """
    record = run(lambda command: revoke_key(command.services, key, by=caller()))
    since = f"since {output.cell(record.revoked_at)} by {output.cell(record.revoked_by)}"
    text = f"access key {record.prefix} of {output.cell(record.name)} is revoked {since}"
    output.answer(output.document(record), text, as_json=as_json)
