"""The audit questions, answered in the terminal."""

from typing import Annotated

import typer

from jobtrail.api import representation
from jobtrail.cli import output
from jobtrail.cli.arguments import read_pairs
from jobtrail.cli.errand import Errand, Json, configured, run
from jobtrail.db.tables import of_schema
from jobtrail.ops.audit import questions as audits
from jobtrail.ops.audit.questions import Answer, Question


def audit(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A question; without one they are listed.")] = None,
    pairs: Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Its parameters.")] = None,
    sql: Annotated[
        bool, typer.Option("--sql", help="Print the question instead of asking it: a file for psql.")
    ] = False,
    as_json: Json = False,
) -> None:
    if sql and name is None:
        raise typer.BadParameter("--sql prints one question: name it, such as `jobtrail audit lost_jobs --sql`")
    if name is None:
        _print_questions(as_json=as_json)
        return
    asked, given = audits.question(name), read_pairs(pairs or [])

    if sql:
        typer.echo(of_schema(asked.file, configured().schema), nl=False)
        return

    async def act(errand: Errand) -> Answer:
        async with errand.services.session() as session:
            return await audits.ask(session, asked, given)

    found = run(act)
    if as_json:
        output.print_json(representation.of_answer(name, found))
    else:
        output.print_table(found.columns, found.rows)


def _print_questions(*, as_json: bool) -> None:
    known = list(audits.questions().values())
    if as_json:
        output.print_json({"items": [representation.of_question(each) for each in known]})
        return
    rows = [(each.name, each.title, " ".join(_parameter(each))) for each in known]
    output.print_table(("name", "question", "parameters"), rows)


def _parameter(question: Question) -> list[str]:
    return [f"{each.name}={each.default}" for each in question.parameters]
