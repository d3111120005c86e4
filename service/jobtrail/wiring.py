"""Builds the services and a node from settings, for every process: the web service, a host app and the CLI."""

import gc
import importlib
import os
import socket
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from sqlalchemy.ext.asyncio import AsyncEngine

from jobtrail.db import migrate, rights
from jobtrail.db.embedded import EmbeddedPostgres, default_folder
from jobtrail.db.engine import Database, open_database
from jobtrail.db.errors import FAILURES, explain, unavailability
from jobtrail.db.host_engine import lend_database
from jobtrail.db.url import DatabaseUrl, normalize
from jobtrail.errors import SettingsError, UnavailableError
from jobtrail.events.delivery import delivery_task
from jobtrail.events.post import Sender
from jobtrail.jobs.services import AdmissionLimit, AlarmLimits, Defaults, Services
from jobtrail.ops.keys import any_keys
from jobtrail.outbound import Outbound
from jobtrail.ranges import DEFAULT_SCHEMA
from jobtrail.settings import EMBEDDED, Settings
from jobtrail.task.catalog import Catalog
from jobtrail.worker.attempts import Hook
from jobtrail.worker.leases import LeaseConfig
from jobtrail.worker.maintenance import MaintenanceConfig
from jobtrail.worker.node import Node
from jobtrail.worker.worker import WorkerConfig


def locate(settings: Settings) -> DatabaseUrl:
    """The URL of the database, running or not. Raises SettingsError when none is named."""
    if settings.database_url is None:
        raise SettingsError(
            "JOBTRAIL_DATABASE_URL is not set: write the URL of a PostgreSQL, such as "
            "postgresql://user:password@host:5432/name, or `embedded` for one that Jobtrail runs by itself"
        )
    return normalize(embedded(settings).url if settings.database_url == EMBEDDED else settings.database_url)


def embedded(settings: Settings) -> EmbeddedPostgres:
    """The embedded server of these settings, neither started nor joined."""
    return EmbeddedPostgres(settings.data_dir or default_folder())


@contextmanager
def reach(settings: Settings) -> Iterator[DatabaseUrl]:
    """The URL of the database that the settings name; the embedded one is started, and stopped by its last user.

    Raises SettingsError when none is named, or the embedded database cannot start.
    """
    if settings.database_url != EMBEDDED:
        yield locate(settings)
        return
    server = embedded(settings)
    try:
        yield normalize(server.start())
    finally:
        server.stop()


def listen(host: str, port: int) -> socket.socket:
    """Bind the address, before anything else starts, so that a taken port is one clear line. Raises SettingsError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        # Python's own text has the address too, which the message names already
        said = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise SettingsError(
            f"JOBTRAIL_HOST, JOBTRAIL_PORT: cannot listen on {host} port {port}: {said}; "
            "choose another with JOBTRAIL_PORT, or stop what listens there"
        ) from error


def load_catalog(modules: Sequence[str]) -> Catalog:
    """The tasks of these modules; the current folder is importable. Raises SettingsError, DeclarationError."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return Catalog.from_modules([_import(name) for name in modules])


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise SettingsError(f"JOBTRAIL_TASKS: the module {name!r} cannot be imported: {said}{_place(error)}") from error


def _place(error: BaseException) -> str:
    """File and line of the module's own code at which the import failed, if it ran at all."""
    frames = traceback.extract_tb(error.__traceback__)
    written = [
        frame for frame in frames[1:] if not frame.filename.startswith("<frozen") and "importlib" not in frame.filename
    ]
    return f" ({written[-1].filename}:{written[-1].lineno})" if written else ""


def open_services(settings: Settings, url: DatabaseUrl, catalog: Catalog) -> Services:
    """The services of a process; nothing is connected before it is used. Dispose its database at the end."""
    timeout = {} if url.connect_timeout is None else {"connect_timeout": float(url.connect_timeout)}
    database = open_database(url.sqlalchemy, pool_size=settings.pool_size, schema=settings.schema, **timeout)
    return _services_on(database, settings, catalog)


def lend_services(settings: Settings, engine: AsyncEngine, catalog: Catalog) -> Services:
    """The same on a host's engine, which stays the host's. Raises SettingsError for one of another driver."""
    database = lend_database(engine, pool_size=settings.pool_size, schema=settings.schema)
    return _services_on(database, settings, catalog)


def _services_on(database: Database, settings: Settings, catalog: Catalog) -> Services:
    return Services(
        database,
        catalog,
        Defaults(settings.ttl, settings.ttl_failed),
        AdmissionLimit(settings.max_waiting),
        settings.max_pending,
        Outbound.of(settings.webhook_allow, settings.webhook_secret),
        AlarmLimits(settings.alarm_pending, settings.alarm_running, settings.alarm_failures),
    )


def build_node(
    settings: Settings,
    services: Services,
    leases: Callable[[], AsyncEngine],
    on_attempt_end: Hook | None = None,
    *,
    with_schedules: bool = True,
) -> Node:
    """The node of this process, not started; `leases` as `open_single` or `lend_single` makes it."""
    work = WorkerConfig(
        queues=settings.queues,
        slots=settings.slots,
        threads=settings.threads,
        processes=settings.processes,
        lease=settings.lease,
        poll_every=settings.poll_every,
        cancel_grace=settings.cancel_grace,
        max_result=settings.max_result,
        trace_link_after=settings.trace_link_after,
        on_attempt_end=on_attempt_end,
    )
    services.catalog.own = (delivery_task(services, Sender(services.outbound)),)
    due_every = 5 * settings.poll_every if with_schedules else None
    maintenance = MaintenanceConfig(settings.purge_every, settings.history_ttl, settings.feed_ttl, due_every)
    lease = LeaseConfig(settings.lease, settings.stall)
    return Node(services, leases, work, maintenance, lease, version=version("jobtrail"))


def spare_collections() -> None:
    """Leave out of garbage collections what was made at the start, and make them rarer: with modules of this size each
    one takes as long as many jobs. For processes that are ours alone, once they are ready.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def require_ends(node: Node) -> None:
    """Raises UnavailableError when a node has stopped and could not record how some of its jobs ended."""
    if node.unrecorded:
        raise UnavailableError(
            f"the database was away while the node stopped: the ends of {node.unrecorded} jobs could not be recorded; "
            "after their leases expire another node treats them as lost, and runs or fails them"
        )


async def require_schema(
    services: Services, settings: Settings, url: DatabaseUrl, *, command: str = "jobtrail migrate"
) -> None:
    """Migrate the embedded database; for any other, which belongs to its operator, name the command.

    Raises SettingsError, UnavailableError.
    """
    found = await find_schema(services, url)
    if found.is_usable:
        return
    if settings.database_url == EMBEDDED:
        await migrate.migrate(url.sqlalchemy, schema=settings.schema)
        return
    lacking = f"has no Jobtrail schema{_named(settings)}"
    what = lacking if found is migrate.Schema.MISSING else f"has an older revision of the schema{_named(settings)}"
    if settings.schema != DEFAULT_SCHEMA:  # the code may have said it, and not the environment
        command = f"JOBTRAIL_SCHEMA={settings.schema} {command}"
    raise SettingsError(f"JOBTRAIL_DATABASE_URL: the database {what}: run `{command}`, then start again")


def _named(settings: Settings) -> str:
    """The name of a schema that is not the default, to follow other words."""
    return "" if settings.schema == DEFAULT_SCHEMA else f" {settings.schema!r}"


async def require_access(services: Services, settings: Settings, *, loopback: bool) -> None:
    """Refuse to serve other machines without access keys; `loopback`: only this machine can reach the service.

    Keys that are all revoked suffice: they let nobody in. Raises SettingsError, UnavailableError.
    """
    if not loopback and not await any_keys(services):
        raise SettingsError(
            f"JOBTRAIL_HOST: {settings.host!r:.60} can be reached by others and there are no access keys: make one "
            "with `jobtrail keys create NAME --scope read --scope submit --scope operate`, or set "
            "JOBTRAIL_HOST=127.0.0.1"
        )


async def find_schema(services: Services, url: DatabaseUrl) -> migrate.Schema:
    """Raises as `answering` does, and SettingsError for a database that cannot hold every text, or is closed to us."""
    with answering(url):
        async with services.database.sessions() as session:
            misfit = (await migrate.nature(session)).misfit
            found = await migrate.state(session)
            if found is migrate.Schema.FOREIGN:
                misfit = misfit or (
                    f"the schema {services.database.schema} holds tables of another application: choose another name "
                    "with JOBTRAIL_SCHEMA"
                )
            if found is migrate.Schema.CLOSED:
                misfit = misfit or rights.told(await rights.lacking(session))
    if misfit:
        raise SettingsError(f"JOBTRAIL_DATABASE_URL: {url.shown}: {misfit}")
    return found


@contextmanager
def answering(url: DatabaseUrl) -> Iterator[None]:
    """Raises UnavailableError when no server answers at the URL, and SettingsError when the server refuses the
    connection or is no PostgreSQL that can be used.
    """
    try:
        yield
    except (UnavailableError, *FAILURES) as error:
        cause = error.__cause__ or error if isinstance(error, UnavailableError) else error
        if (reason := explain(url, cause)) is not None:
            raise SettingsError(f"JOBTRAIL_DATABASE_URL: {reason}") from error
        if not isinstance(error, UnavailableError) and unavailability(error) is None:
            raise
        raise UnavailableError(
            f"JOBTRAIL_DATABASE_URL: nothing answers at {url.shown} ({cause}): is PostgreSQL running there?"
        ) from error
