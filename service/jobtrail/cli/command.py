"""Runs a verb with the settings, the database that they name, and the services there for as long as the verb takes."""

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
from jobtrail.db.url import DatabaseUrl
from jobtrail.errors import SettingsError
from jobtrail.jobs.services import Services
from jobtrail.settings import Settings, load, unknown_variables
from jobtrail.task.catalog import Catalog
from jobtrail.task.storable import visible
from jobtrail.wiring import load_catalog, open_desk, reach, require_schema

log = logging.getLogger(__name__)

Found = TypeVar("Found")

Json = Annotated[bool, typer.Option("--json", help="Write one JSON document.")]


@dataclass(frozen=True, slots=True)
class Command:
    settings: Settings
    services: Services

    async def now(self) -> datetime:
        """The database's clock: the only one that jobs go by."""
        async with self.services.session() as session:
            return await engine.clock(session)


def run(act: Callable[[Command], Awaitable[Found]], *, with_tasks: bool = False, needs_tasks: bool = False) -> Found:
    """Returns what `act` returns. `with_tasks` imports the task modules; `needs_tasks`: there must be a task.

    Raises SettingsError, UnavailableError, DeclarationError and what `act` raises.
    """
    settings = configured()
    catalog = load_catalog(settings.tasks if with_tasks or needs_tasks else ())
    if needs_tasks:
        require_tasks(catalog)

    async def perform(url: DatabaseUrl) -> Found:
        services = open_desk(settings, url, catalog)
        try:
            await require_schema(services, settings, url)
            return await act(Command(settings, services))
        finally:
            await services.database.dispose()

    with reach(settings) as url:
        return asyncio.run(perform(url))


def require_tasks(catalog: Catalog) -> None:
    """Raises SettingsError."""
    if not catalog:
        raise SettingsError(
            "JOBTRAIL_TASKS names no module with a task: write the modules that hold your tasks, separated by commas, "
            "such as JOBTRAIL_TASKS=myapp.jobs"
        )


def configured() -> Settings:
    """The settings of a verb that ends; its log, on standard error, begins at WARNING. Raises SettingsError."""
    settings = load()
    quiet = logging.getLevelName(max(logging.WARNING, logging.getLevelNamesMapping()[settings.log_level]))
    logs.configure(settings.log_format, "DEBUG" if settings.log_level == "DEBUG" else quiet, settings.redact)
    return settings


def configured_to_stay(**given: Any) -> Settings:
    """The settings of a process that runs until it is stopped; `given` wins over the environment.

    The log begins with the variables that are not settings. Raises SettingsError.
    """
    settings = load(**given)
    logs.configure(settings.log_format, settings.log_level, settings.redact)
    for line in unknown_variables(os.environ):
        log.warning("%s", line)
    return settings


def caller() -> str:
    """The actor for the history: the user of the command line."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a user that the system has no entry for, as in many containers
        name = str(os.getuid())
    return f"cli:{visible(name)}"[:255]
