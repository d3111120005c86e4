"""The database itself: its schema and its URL."""

import asyncio
from typing import Annotated

import typer
from alembic.util import CommandError

from jobtrail.cli import output
from jobtrail.cli.errand import Json, configured
from jobtrail.db import migrate as schema
from jobtrail.db import rights
from jobtrail.db.errors import READ_ONLY, STANDBY
from jobtrail.job.catalog import Catalog
from jobtrail.job.database_url import DatabaseUrl
from jobtrail.job.errors import SettingsError, UnavailableError
from jobtrail.jobs.services import Services
from jobtrail.settings import EMBEDDED, Settings
from jobtrail.wiring import answering, embedded, find_schema, locate, open_desk, reach


def migrate(
    revision: Annotated[str, typer.Option(help="The revision to go up to; never down.")] = "head",
    as_json: Json = False,
) -> None:
    settings = configured()
    with reach(settings) as url:
        before, after = asyncio.run(_migrate(settings, url, revision))
    if as_json:
        output.print_json({"before": before, "after": after})
    elif before == after:
        typer.echo(f"the schema is at revision {after}: nothing to do")
    else:
        typer.echo(f"the schema is at revision {after} now; before: {before or 'none'}")


def url(as_json: Json = False) -> None:
    settings = configured()
    found = locate(settings)
    if settings.database_url == EMBEDDED:
        asyncio.run(_require_running(settings, found))
    if as_json:
        output.print_json({"url": found.libpq})
    else:
        typer.echo(found.libpq)


async def _migrate(settings: Settings, url: DatabaseUrl, target: str) -> tuple[str | None, str | None]:
    services = open_desk(settings, url, Catalog())
    try:
        found = await find_schema(services, url)
        before = await _revision(services)
        if (obstacle := await _obstacle(services, found)) is not None:
            raise SettingsError(f"JOBTRAIL_DATABASE_URL: {url.shown}: {obstacle}")
        if found is not schema.Schema.LATER:
            with answering(url):
                await schema.migrate(url.sqlalchemy, target, schema=settings.schema)
        return before, await _revision(services)
    except CommandError as error:
        raise typer.BadParameter(f"--revision: {error}") from None
    finally:
        await services.database.dispose()


async def _obstacle(services: Services, found: schema.Schema) -> str | None:
    """What keeps this database from being migrated from here: only what is needed for what there is to do."""
    async with services.session() as session:
        nature = await schema.nature(session)
        if nature.is_standby:
            return STANDBY
        if not nature.is_writable:
            return READ_ONLY
        return await rights.to_migrate(session) if found in (schema.Schema.MISSING, schema.Schema.OLDER) else None


async def _revision(services: Services) -> str | None:
    async with services.session() as session:
        return await schema.revision(session)


async def _require_running(settings: Settings, url: DatabaseUrl) -> None:
    """A server that nobody uses stops, so its URL would lead nowhere."""
    services = open_desk(settings, url, Catalog())
    try:
        await find_schema(services, url)
    except UnavailableError as error:
        folder = embedded(settings).folder
        raise UnavailableError(
            f"the embedded PostgreSQL in {folder} is not running: start it with `jobtrail serve`"
        ) from error
    finally:
        await services.database.dispose()
