"""`jobtrail migrate` and `jobtrail url`: the schema of the database, and where it is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import typer
from alembic.util import CommandError

from jobtrail.cli import output
from jobtrail.cli.command import Json, configured
from jobtrail.db import migrate as schema
from jobtrail.db import rights
from jobtrail.db.errors import READ_ONLY, STANDBY
from jobtrail.db.url import DatabaseUrl
from jobtrail.errors import SettingsError, UnavailableError
from jobtrail.jobs.services import Services
from jobtrail.settings import EMBEDDED, Settings
from jobtrail.task.catalog import Catalog
from jobtrail.wiring import answering, embedded, find_schema, locate, open_desk, reach


def migrate(
    revision: Annotated[str, typer.Option(help="The revision to go up to; never down.")] = "head",
    as_json: Json = False,
) -> None:
    settings = configured()
    with reach(settings) as url:
        before, after = asyncio.run(_migrate(settings, url, revision))
    change = f" now; before: {before or 'none'}" if before != after else ": nothing to do"
    output.answer({"before": before, "after": after}, f"the schema is at revision {after}{change}", as_json=as_json)


def url(as_json: Json = False) -> None:
    settings = configured()
    found = locate(settings)
    if settings.database_url == EMBEDDED:
        asyncio.run(_require_running(settings, found))
    output.answer({"url": found.libpq}, found.libpq, as_json=as_json)


async def _migrate(settings: Settings, url: DatabaseUrl, target: str) -> tuple[str | None, str | None]:
    async with _services(settings, url) as services:
        found = await find_schema(services, url)
        async with services.session() as session:
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
            raise SettingsError(f"JOBTRAIL_DATABASE_URL: {url.shown}: {obstacle}")
        if found is not schema.Schema.LATER:
            try:
                with answering(url):
                    await schema.migrate(url.sqlalchemy, target, schema=settings.schema)
            except CommandError as error:
                raise typer.BadParameter(f"--revision: {error}") from None
        async with services.session() as session:
            return before, await schema.revision(session)


async def _require_running(settings: Settings, url: DatabaseUrl) -> None:
    """A server that nobody uses stops, so its URL would lead nowhere."""
    try:
        async with _services(settings, url) as services:
            await find_schema(services, url)
    except UnavailableError as error:
        folder = embedded(settings).folder
        raise UnavailableError(
            f"the embedded PostgreSQL in {folder} is not running: start it with `jobtrail serve`"
        ) from error


@asynccontextmanager
async def _services(settings: Settings, url: DatabaseUrl) -> AsyncIterator[Services]:
    services = open_desk(settings, url, Catalog())
    try:
        yield services
    finally:
        await services.database.dispose()
