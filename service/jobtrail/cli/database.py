"""`jobtrail migrate` and `jobtrail url`: the schema of the database, and where it is."""

import asyncio
from typing import Annotated

import typer
from alembic.util import CommandError

from jobtrail import errors, wiring
from jobtrail.cli import output
from jobtrail.cli.command import Json, configured, opened
from jobtrail.db import migrate as schema
from jobtrail.db import rights
from jobtrail.db.errors import READ_ONLY, STANDBY
from jobtrail.db.url import DatabaseUrl
from jobtrail.settings import EMBEDDED, Settings


def migrate(
    revision: Annotated[str, typer.Option(help="The revision to go up to; never down.")] = "head",
    as_json: Json = False,
) -> None:
    settings = configured()
    with wiring.reach(settings) as url:
        before, after = asyncio.run(_migrate(settings, url, revision))
    change = f" now; before: {before or 'none'}" if before != after else ": nothing to do"
    output.answer({"before": before, "after": after}, f"the schema is at revision {after}{change}", as_json=as_json)


async def _migrate(settings: Settings, url: DatabaseUrl, target: str) -> tuple[str | None, str | None]:
    async with opened(settings, url) as command:
        found = await wiring.find_schema(command.services, url)
        async with command.services.session() as session:
            before = await schema.revision(session)
            nature = await schema.nature(session)
            obstacle = None
            if nature.is_standby:
                obstacle = STANDBY
            elif not nature.is_writable:
                obstacle = READ_ONLY
            elif found in (schema.Schema.MISSING, schema.Schema.OLDER):  # only then there is something to do
                obstacle = await rights.to_migrate(session)
        if obstacle is not None:
            raise errors.SettingsError(f"JOBTRAIL_DATABASE_URL: {url.shown}: {obstacle}")
        if found is not schema.Schema.LATER:
            try:
                with wiring.answering(url):
                    await schema.migrate(url.sqlalchemy, target, schema=settings.schema)
            except CommandError as error:
                raise typer.BadParameter(f"--revision: {error}") from None
        async with command.services.session() as session:
            return before, await schema.revision(session)


def url(as_json: Json = False) -> None:
    settings = configured()
    found = wiring.locate(settings)
    if settings.database_url == EMBEDDED:
        asyncio.run(_require_running(settings, found))
    output.answer({"url": found.libpq}, found.libpq, as_json=as_json)


async def _require_running(settings: Settings, url: DatabaseUrl) -> None:
    """A server that no process uses stops, so its URL would lead nowhere."""
    try:
        async with opened(settings, url) as command:
            await wiring.find_schema(command.services, url)
    except errors.UnavailableError as error:
        folder = wiring.embedded(settings).folder
        raise errors.UnavailableError(
            f"the embedded PostgreSQL in {folder} is not running: start it with `jobtrail serve`"
        ) from error
