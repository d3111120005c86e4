"""`jobtrail webhooks`: receivers that are told what becomes of jobs."""

import sys
from typing import Annotated, Final

import typer

from jobtrail.cli import output
from jobtrail.cli.command import Command, Json, caller, run
from jobtrail.ops import webhooks as known
from jobtrail.ops.webhooks import Webhook
from jobtrail.status import TERMINAL

Name = Annotated[str, typer.Argument(metavar="NAME")]

_LIST: Final = {
    "name": "name", "url": "url", "tasks": "tasks", "statuses": "statuses", "changed": "changed_at",
    "by": "changed_by", "rotated": "rotated_at",
}  # fmt: skip

webhooks: Final = typer.Typer(add_completion=False)


@webhooks.command("list")
def list_webhooks(as_json: Json = False) -> None:
    """List the webhooks; never a secret. Their deliveries: jobtrail ls --tag webhook:NAME."""
    found = run(lambda command: known.read_webhooks(command.services))
    output.answer_records(found, _LIST, none="there are no webhooks", as_json=as_json)


@webhooks.command()
def put(
    name: Name,
    url: Annotated[str, typer.Argument(metavar="URL", help="https, at a public address.")],
    *,
    task: Annotated[list[str] | None, typer.Option(help="Only jobs of this task; may be repeated.")] = None,
    status: Annotated[
        list[str] | None, typer.Option(help="Moves to this status; may be repeated. Else: each end.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a webhook, or replace it as a whole but for its secret.

    Of a new one the secret alone is written to standard output, this once.
    """

    async def act(command: Command) -> tuple[Webhook, str | None]:
        return await known.put(command.services, name, url, by=caller(), tasks=task or (), statuses=status or TERMINAL)

    found, secret = run(act)
    _tell(found, secret, f"webhook {name} is replaced; its secret is as it was", as_json=as_json)


@webhooks.command()
def rotate(
    name: Name,
    secret: Annotated[
        str | None, typer.Option(metavar="WHSEC", help="Your own; else one is made. - reads it from standard input.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Give a webhook another secret; the one before signs too, until the next rotation.

    The new secret alone is written to standard output, this once.
    """
    given = sys.stdin.readline().strip() if secret == "-" else secret  # noqa: S105 - no secret, but where it is read

    async def act(command: Command) -> tuple[Webhook, str]:
        return await known.rotate(command.services, name, by=caller(), secret=given)

    _tell(*run(act), "", as_json=as_json)


@webhooks.command()
def delete(name: Name, as_json: Json = False) -> None:
    """Delete a webhook; deliveries that are on their way fail at their next attempt."""
    run(lambda command: known.delete(command.services, name, by=caller()))
    output.answer({"name": name}, f"webhook {name} is deleted", as_json=as_json)


def _tell(found: Webhook, secret: str | None, otherwise: str, *, as_json: bool) -> None:
    output.answer(output.document(found) | {"secret": secret}, secret or otherwise, as_json=as_json)
    if secret and not as_json:
        typer.echo(f"The secret that signs what {found.name} gets. It is not shown again.", err=True)
