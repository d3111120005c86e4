"""`jobtrail audit`: the audit questions, answered in the terminal."""

from decimal import Decimal
from typing import Annotated

import typer

from jobtrail.cli import output
from jobtrail.cli.arguments import read_pairs
from jobtrail.cli.command import Command, Json, configured, run
from jobtrail.db.tables import of_schema
from jobtrail.ops import audit as audits
from jobtrail.ops.audit import Answer


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
        _list(as_json=as_json)
        return
    asked, given = audits.question(name), read_pairs(pairs or [])
    if sql:
        typer.echo(of_schema(asked.file, configured().schema), nl=False)
        return

    async def act(command: Command) -> Answer:
        async with command.services.session() as session:
            return await audits.ask(session, asked, given)

    found = run(act)
    if as_json:
        items = [dict(zip(found.columns, map(_plain, row), strict=True)) for row in found.rows]
        output.print_json({"name": name, "columns": found.columns, "items": items})
    else:
        output.print_table(found.columns, found.rows)


def _list(*, as_json: bool) -> None:
    known = list(audits.questions().values())
    if as_json:
        output.print_json({"items": [output.document(each, "file") for each in known]})
        return
    rows = [(each.name, each.title, [f"{one.name}={one.default}" for one in each.parameters]) for each in known]
    output.print_table(("name", "question", "parameters"), rows)


def _plain(value: object) -> object:
    """Numbers of any precision become JSON numbers, as over HTTP."""
    if not isinstance(value, Decimal):
        return value
    return int(value) if value.is_finite() and value == value.to_integral_value() else float(value)
