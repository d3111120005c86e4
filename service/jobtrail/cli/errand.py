"""What a verb stands on: the settings, the database they name, and the services, for as long as the verb takes."""

import asyncio
import getpass
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, TypeVar

import typer

from jobtrail import logs
from jobtrail.db import engine
from jobtrail.job.catalog import Catalog
from jobtrail.job.database_url import DatabaseUrl
from jobtrail.job.errors import SettingsError
from jobtrail.job.pointer import visible
from jobtrail.jobs.services import Services
from jobtrail.settings import Settings, load, unknown_variables
from jobtrail.wiring import load_catalog, open_desk, reach, require_schema

log = logging.getLogger(__name__)

Found = TypeVar("Found")

Json = Annotated[bool, typer.Option("--json", help="Write one JSON document.")]


@dataclass(frozen=True, slots=True)
class Errand:
    settings: Settings
    url: DatabaseUrl
    services: Services

    async def now(self) -> datetime:
        """The database's clock: the only one that jobs go by."""
        async with self.services.session() as session:
            return await engine.clock(session)


def run(act: Callable[[Errand], Awaitable[Found]], *, with_tasks: bool = False, needs_tasks: bool = False) -> Found:
    """What `act` gives back. `with_tasks` imports the task modules that are named; `needs_tasks`: there must be a task.

    Raises SettingsError, UnavailableError, DeclarationError and what `act` raises.
    """
    settings = configured()
    catalog = load_catalog(settings.tasks if with_tasks or needs_tasks else ())
    if needs_tasks:
        require_tasks(catalog)
    with reach(settings) as url:
        return asyncio.run(_run(act, settings, url, catalog))


def require_tasks(catalog: Catalog) -> None:
    """Raises SettingsError."""
    if not catalog:
        raise SettingsError(
            "JOBTRAIL_TASKS names no module with a task: write the modules that hold your tasks, separated by commas, "
            "such as JOBTRAIL_TASKS=myapp.jobs"
        )


def configured_to_stay(**given: Any) -> Settings:
    """The settings of a process that runs until it is stopped, what is `given` before all others. Its log is as they
    say, and begins with the variables that are no settings. Raises SettingsError.
    """
    settings = load(**given)
    logs.configure(settings.log_format, settings.log_level, settings.redact)
    for line in unknown_variables(os.environ):
        log.warning("%s", line)
    return settings


def configured() -> Settings:
    """The settings; the log of a verb, on standard error, tells only what went wrong. Raises SettingsError."""
    settings = load()
    quiet = logging.getLevelName(max(logging.WARNING, logging.getLevelNamesMapping()[settings.log_level]))
    logs.configure(settings.log_format, "DEBUG" if settings.log_level == "DEBUG" else quiet, settings.redact)
    return settings


def caller() -> str:
    """For the history: who did it by the command line."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a user that the system has no entry for, as in many containers
        name = str(os.getuid())
    return f"cli:{visible(name)}"[:255]


async def _run(
    act: Callable[[Errand], Awaitable[Found]], settings: Settings, url: DatabaseUrl, catalog: Catalog
) -> Found:
    services = open_desk(settings, url, catalog)
    try:
        await require_schema(services, settings, url)
        return await act(Errand(settings, url, services))
    finally:
        await services.database.dispose()
