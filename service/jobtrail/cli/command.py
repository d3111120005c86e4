"""How a verb is built: its options, its settings, and the services that it works with for as long as it takes."""

import asyncio
import functools
import getpass
import inspect
import logging
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

import typer

from jobtrail import durations, errors, logs, ranges, wiring
from jobtrail.db import engine
from jobtrail.db.url import DatabaseUrl
from jobtrail.jobs.query import Filter
from jobtrail.jobs.services import Services
from jobtrail.settings import Settings, load, unknown_variables
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from jobtrail.task.storable import visible

log = logging.getLogger(__name__)

Found = TypeVar("Found")

Json = Annotated[bool, typer.Option("--json", help="Write one JSON document.")]


@dataclass(frozen=True, slots=True)
class Command:
    settings: Settings
    url: DatabaseUrl
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
    catalog = wiring.load_catalog(settings.tasks if with_tasks or needs_tasks else ())
    if needs_tasks:
        require_tasks(catalog)

    async def perform(url: DatabaseUrl) -> Found:
        async with opened(settings, url, catalog) as command:
            await wiring.require_schema(command.services, settings, url)
            return await act(command)

    with wiring.reach(settings) as url:
        return asyncio.run(perform(url))


@asynccontextmanager
async def opened(settings: Settings, url: DatabaseUrl, catalog: Catalog | None = None) -> AsyncIterator[Command]:
    """On a database in whatever state. Nothing is connected before it is used."""
    services = wiring.open_services(settings, url, catalog or Catalog())
    try:
        yield Command(settings, url, services)
    finally:
        await services.database.dispose()


def require_tasks(catalog: Catalog) -> None:
    """Raises SettingsError."""
    if not catalog:
        raise errors.SettingsError(
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


@dataclass(frozen=True, kw_only=True)
class Filters:
    """The options that choose many jobs, as they were written."""

    status: Annotated[list[Status] | None, typer.Option(help="Any of these; may be repeated, as the next ones.")] = None
    task: Annotated[list[str] | None, typer.Option(help="Any of these.")] = None
    queue: Annotated[list[str] | None, typer.Option(help="Any of these.")] = None
    tag: Annotated[list[str] | None, typer.Option(help="All of these.")] = None
    trace: Annotated[list[str] | None, typer.Option(help="Trace ids, 32 hexadecimal digits.")] = None
    schedule: Annotated[list[str] | None, typer.Option(help="Jobs of any of these schedules.")] = None
    since: Annotated[str | None, typer.Option(help="Created since: 30m, 2h, 7d ago, or a time.")] = None
    until: Annotated[str | None, typer.Option(help="Created before that: written as --since.")] = None

    def __post_init__(self) -> None:
        for each in self.trace or ():
            if not re.fullmatch(ranges.TRACE_PATTERN, each):
                raise typer.BadParameter(f"--trace: {each!r:.60} is not 32 hexadecimal digits in lower case")

    @property
    def are_given(self) -> bool:
        return any(vars(self).values())

    def at(self, now: datetime) -> Filter:
        """--since and --until may count back from the database's time. Raises BadParameter for one that is no time."""
        return Filter(
            status=self.status or (),
            task=self.task or (),
            queue=self.queue or (),
            tags=self.tag or (),
            trace_id=self.trace or (),
            created_after=None if self.since is None else read_moment("--since", self.since, now),
            created_before=None if self.until is None else read_moment("--until", self.until, now),
            schedule=self.schedule or (),
        )


def with_filters(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Puts the options in the place of the parameter `filters`: typer reads them from the signature."""
    own, options = inspect.signature(verb), inspect.signature(Filters).parameters

    @functools.wraps(verb)
    def filtered(**given: Any) -> Any:
        return verb(filters=Filters(**{name: given.pop(name) for name in options}), **given)

    parameters = [
        each
        for parameter in own.parameters.values()
        for each in (options.values() if parameter.name == "filters" else (parameter,))
    ]
    filtered.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    return filtered


def read_moment(option: str, text: str, now: datetime) -> datetime:
    """A duration before `now`, or an RFC 3339 time; without a zone it is UTC. Raises BadParameter."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        try:
            return now - durations.parse_duration(text)
        except (ValueError, OverflowError):
            raise typer.BadParameter(f"{option}: {text!r:.60} is no time: write 30m, 2h, 7d or 2030-01-31") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def read_pairs(pairs: Sequence[str] | None) -> dict[str, str]:
    """The values of KEY=VALUE by key. Raises BadParameter, as the next ones do."""
    found: dict[str, str] = {}
    for pair in pairs or ():
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise typer.BadParameter(f"{pair!r:.80} is not KEY=VALUE")
        if name in found:
            raise typer.BadParameter(f"{name!r:.80} is given twice")
        found[name] = value
    return found


def read_duration(option: str, text: str | None, word: str | None = None) -> timedelta | None:
    """None for an option that is not given, and for `word`, which may be written instead."""
    if text is None or text == word:
        return None
    try:
        return durations.parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option}: {error}{f', or {word}' if word else ''}") from None
