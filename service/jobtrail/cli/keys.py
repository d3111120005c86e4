"""Verbs for the access keys of the service: who may call it, and do what."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Final, cast

import typer

from jobtrail.api.key_shapes import of_key
from jobtrail.cli import output
from jobtrail.cli.arguments import read_duration
from jobtrail.cli.errand import Errand, Json, caller, run
from jobtrail.job.access import Scope
from jobtrail.job.key import KeyRecord, flaws_of
from jobtrail.ops.keys import any_keys, create_key, list_keys, revoke_key

keys: Final = typer.Typer(add_completion=False)

_WORDS: Final = {"/name": "NAME", "/scopes": "--scope", "/expires_in": "--expires"}
"""What is written here for a part of a key."""

_COLUMNS: Final = (
    "prefix", "name", "scopes", "state", "created", "created by", "expires", "used", "revoked", "revoked by"
)  # fmt: skip


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
    scopes = cast("Sequence[Scope]", scope or ())  # looked at in the next line
    _refuse_wrong(name, scopes, lives_for)

    async def act(errand: Errand) -> tuple[bool, KeyRecord, str]:
        is_first = not await any_keys(errand.services)
        return is_first, *await create_key(errand.services, name, scopes, by=caller(), lives_for=lives_for)

    is_first, record, text = run(act)
    if as_json:
        output.print_json({**of_key(record), "key": text})
    else:
        typer.echo(text)
        _tell(record, is_first=is_first)


@keys.command("list")
def show_all(as_json: Json = False) -> None:
    """List the access keys, revoked and expired ones too; never a key itself."""

    async def act(errand: Errand) -> Sequence[KeyRecord]:
        return await list_keys(errand.services)

    found = run(act)
    if as_json:
        output.print_json({"items": [of_key(each) for each in found]})
    elif found:
        output.print_table(_COLUMNS, [_row(each) for each in found])
    else:
        typer.echo("there are no access keys")


@keys.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="ID_OR_PREFIX", help="Its id, its prefix, or the key itself.")],
    as_json: Json = False,
) -> None:
    """Refuse a key from now on.

    Every service does so within a second. The row stays, as evidence.
    """

    async def act(errand: Errand) -> KeyRecord:
        return await revoke_key(errand.services, key, by=caller())

    record = run(act)
    if as_json:
        output.print_json(of_key(record))
    else:
        since = f"since {output.cell(record.revoked_at)} by {output.cell(record.revoked_by)}"
        typer.echo(f"access key {record.prefix} of {output.cell(record.name)} is revoked {since}")


def _refuse_wrong(name: str, scopes: Sequence[str], lives_for: timedelta | None) -> None:
    """In the words of the command line, before anything is connected."""
    for flaw in flaws_of(name, scopes, None, lives_for):
        raise typer.BadParameter(f"{_WORDS[flaw.pointer]}: {flaw.detail}")


def _tell(record: KeyRecord, *, is_first: bool) -> None:
    ends = f"until {output.cell(record.expires_at)}" if record.expires_at else "until it is revoked"
    typer.echo(
        f"The key of key:{record.name}, which may {', '.join(record.scopes)} {ends}. It is not shown again.\n"
        f"Send it as `Authorization: Bearer KEY`; `jobtrail keys revoke {record.prefix}` ends it.",
        err=True,
    )
    if is_first:
        typer.echo("It is the first one: from now on the service asks every caller for a key.", err=True)


def _row(record: KeyRecord) -> Sequence[object]:
    return (
        record.prefix, record.name, record.scopes, record.state, record.created_at, record.created_by,
        record.expires_at, record.last_used_at, record.revoked_at, record.revoked_by,
    )  # fmt: skip
