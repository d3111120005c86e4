"""The web process, wired on one page: settings → database → tasks → node → doors."""

import asyncio
import importlib
import ipaddress
import math
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Final

import uvicorn
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from jobtrail.api.door import Door
from jobtrail.api.routes import install
from jobtrail.job.database_url import DatabaseUrl, normalize
from jobtrail.job.errors import SettingsError, UnavailableError
from jobtrail.job.catalog import Catalog
from jobtrail.lifecycle.desk import Defaults, Desk
from jobtrail.node.janitor import Upkeep
from jobtrail.node.leases import Terms
from jobtrail.node.node import Node
from jobtrail.node.worker import Work
from jobtrail.settings import Settings
from jobtrail.store import schema
from jobtrail.store.embedded import EmbeddedPostgres, default_folder
from jobtrail.store.engine import open_database
from jobtrail.store.faults import unavailable

VERSION: Final = version("jobtrail")

DESCRIPTION: Final = "BackgroundTasks that survive a restart: every job is one PostgreSQL row that you can watch."


@contextmanager
def reach(settings: Settings) -> Iterator[DatabaseUrl]:
    """The database that the settings name; the embedded one is started, and stopped by its last user.

    Raises SettingsError when nothing is named, or the embedded database cannot start.
    """
    if settings.database_url is None:
        raise SettingsError(
            "JOBTRAIL_DATABASE_URL is not set: write the URL of a PostgreSQL, such as "
            "postgresql://user:password@host:5432/name, or `embedded` for one that Jobtrail runs by itself"
        )
    if settings.database_url != "embedded":
        yield normalize(settings.database_url)
        return
    server = EmbeddedPostgres(settings.data_dir or default_folder())
    try:
        yield normalize(server.start())
    finally:
        server.stop()


def load_catalog(modules: Sequence[str]) -> Catalog:
    """The tasks of these modules; the current folder is importable. Raises SettingsError, DeclarationError."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return Catalog.from_modules([_import(name) for name in modules])


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise SettingsError(
            f"JOBTRAIL_TASKS: the module {name!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def open_desk(settings: Settings, url: DatabaseUrl, catalog: Catalog) -> Desk:
    """The verbs' side of a process; nothing is connected before it is used. Dispose its database at the end."""
    timeout = {} if url.connect_timeout is None else {"connect_timeout": float(url.connect_timeout)}
    database = open_database(url.sqlalchemy, pool_size=settings.pool_size, **timeout)
    return Desk(database, catalog, Defaults(settings.ttl, settings.ttl_failed))


def build_node(settings: Settings, url: DatabaseUrl, desk: Desk) -> Node:
    work = Work(
        queues=settings.queues,
        slots=settings.slots,
        threads=settings.threads,
        lease=settings.lease,
        poll_every=settings.poll_every,
        max_result=settings.max_result,
    )
    upkeep = Upkeep(settings.purge_every, settings.history_ttl)
    return Node(desk, url.sqlalchemy, work, upkeep, Terms(settings.lease, settings.stall), version=VERSION)


async def require_schema(desk: Desk, settings: Settings, url: DatabaseUrl) -> None:
    """The embedded database is migrated on the spot; any other belongs to its operator, who is told the command.

    Raises SettingsError, UnavailableError.
    """
    with unavailable():
        async with desk.database.sessions() as session:
            found = await schema.state(session)
    if found.is_usable:
        return
    if settings.database_url == "embedded":
        await schema.migrate(url.sqlalchemy)
        return
    what = "has no Jobtrail schema" if found is schema.Schema.MISSING else "has an older revision of the schema"
    raise SettingsError(f"JOBTRAIL_DATABASE_URL: the database {what}: run `jobtrail migrate`, then start again")


def create_app(settings: Settings, url: DatabaseUrl, catalog: Catalog) -> FastAPI:
    """The stand-alone service. Its node lives as long as the app's lifespan."""
    desk = open_desk(settings, url, catalog)
    node = build_node(settings, url, desk)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        node.start()
        try:
            yield
        finally:
            await node.stop(settings.grace.total_seconds())
            await desk.database.dispose()

    app = FastAPIOffline(title="Jobtrail", version=VERSION, description=DESCRIPTION, lifespan=lifespan)
    install(app, Door(desk, node.launch, node.accepting, settings.max_body))
    return app


def serve(settings: Settings, *, ready: Callable[[str], None] = lambda _url: None) -> None:
    """Serve until a signal says to stop. `ready` is called with the service's URL once it answers.

    Raises SettingsError, UnavailableError, before anything is served.
    """
    catalog = load_catalog(settings.tasks)
    if settings.database_url == "embedded" and not _is_loopback(settings.host):
        raise SettingsError(
            f"JOBTRAIL_HOST: {settings.host} is not a loopback address, and the embedded database is for trying out: "
            "set JOBTRAIL_DATABASE_URL to a PostgreSQL of your own, or JOBTRAIL_HOST to 127.0.0.1"
        )
    with _listen(settings.host, settings.port) as listening, reach(settings) as url:
        asyncio.run(_check(settings, url, catalog))
        config = uvicorn.Config(
            create_app(settings, url, catalog),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=max(1, math.ceil(settings.grace.total_seconds())),
        )
        _Server(config, ready).run(sockets=[listening])


async def _check(settings: Settings, url: DatabaseUrl, catalog: Catalog) -> None:
    desk = open_desk(settings, url, catalog)
    try:
        await require_schema(desk, settings, url)
    except UnavailableError as error:
        raise UnavailableError(
            f"JOBTRAIL_DATABASE_URL: nothing answers at {url.shown} ({error.__cause__}): is PostgreSQL running there?"
        ) from error
    finally:
        await desk.database.dispose()


class _Server(uvicorn.Server):
    """Says where it serves, once it does."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            self._ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")


def _listen(host: str, port: int) -> socket.socket:
    """Bound before anything else starts, so that a taken port is one clear line."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise SettingsError(
            f"JOBTRAIL_HOST, JOBTRAIL_PORT: cannot listen on {host} port {port}: {error.strerror or error}; "
            "choose another with JOBTRAIL_PORT, or stop what listens there"
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
