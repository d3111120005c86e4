"""The web process, wired on one page: settings → database → tasks → node → doors."""

import asyncio
import math
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from jobtrail.api.access import ApiKeyAuth
from jobtrail.api.context import ServiceContext
from jobtrail.api.middleware import SilentConnections, WholeResponses
from jobtrail.api.routes import install
from jobtrail.db.engine import open_single
from jobtrail.db.url import DatabaseUrl
from jobtrail.events.hub import Hub
from jobtrail.jobs.services import Services, look_at_start
from jobtrail.ops.key_verifier import KeyVerifier
from jobtrail.redaction import Redaction
from jobtrail.settings import Settings, is_loopback
from jobtrail.task.catalog import Catalog
from jobtrail.wiring import (
    build_node,
    listen,
    load_catalog,
    open_services,
    reach,
    require_access,
    require_ends,
    require_schema,
    spare_collections,
)
from jobtrail.worker.node import Node
from jobtrail.worker.shutdown_signals import ShutdownSignals

VERSION: Final = version("jobtrail")

DESCRIPTION: Final = "BackgroundTasks that survive a restart: every job is one PostgreSQL row that you can watch."


def create_app(
    settings: Settings, services: Services, node: Node, *, loopback: bool, connections: Callable[[], int] = lambda: 0
) -> FastAPI:
    """The stand-alone service. Its node lives as long as the app's lifespan, and stops earlier if it is drained.

    `loopback`: only this machine can reach it, and callers need no key as long as there is none. `connections` counts
    the open ones.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await look_at_start(services)
        node.start()
        try:
            yield
        finally:
            await node.stop(settings.grace.total_seconds())
            await services.once(Hub).stop()
            await services.database.dispose()

    app = FastAPIOffline(title="Jobtrail", version=VERSION, description=DESCRIPTION, lifespan=lifespan)
    context = ServiceContext(
        services,
        node.launch,
        node.accepting,
        settings.max_body,
        ApiKeyAuth(KeyVerifier(services), loopback=loopback),
        settings.body_timeout,
        Redaction(settings.redact),
        settings.streams,
        settings.stream_max,
    )
    install(app, context, connections=connections, most_connections=settings.max_connections)
    return app


def serve(settings: Settings, *, ready: Callable[[str], None] = lambda _url: None) -> None:
    """Serve until a signal says to stop. `ready` is called with the service's URL once it answers.

    Raises SettingsError, UnavailableError, before anything is served, and UnavailableError when ends could not be
    recorded.
    """
    catalog = load_catalog(settings.tasks)
    with listen(settings.host, settings.port) as listening, reach(settings) as url:
        # the address that was bound, since a name may lead anywhere
        loopback = is_loopback(listening.getsockname()[0])
        asyncio.run(_check(settings, url, catalog, loopback=loopback))
        services = open_services(settings, url, catalog)
        node = build_node(settings, services, partial(open_single, url.sqlalchemy, settings.schema))
        app = create_app(settings, services, node, loopback=loopback, connections=lambda: server.connections)
        config = uvicorn.Config(
            app,
            lifespan="on",
            http=WholeResponses,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=max(1, math.ceil(settings.grace.total_seconds())),
        )
        server = _Server(config, ready, ShutdownSignals(node, settings.grace), SilentConnections(settings.body_timeout))
        try:
            server.run(sockets=[listening])  # it raises the signal that ended it again
        finally:
            require_ends(node)


async def _check(settings: Settings, url: DatabaseUrl, catalog: Catalog, *, loopback: bool) -> None:
    services = open_services(settings, url, catalog)
    try:
        await require_schema(services, settings, url)
        await require_access(services, settings, loopback=loopback)
    finally:
        await services.database.dispose()


class _Server(uvicorn.Server):
    """Reports its URL once it serves. A repeated signal hurries its end but skips none of it."""

    def __init__(
        self, config: uvicorn.Config, ready: Callable[[str], None], signals: ShutdownSignals, silent: SilentConnections
    ) -> None:
        super().__init__(config)
        self._ready = ready
        self._signals = signals
        self._silent = silent
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started and sockets:
            spare_collections()
            host, port = sockets[0].getsockname()[:2]
            self._ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self.server_state.connections)

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # once a second
            self._silent.close(self.server_state.connections, time.monotonic())
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self._signals(sig) and self._loop is not None:
            self.force_exit = True  # uvicorn does so for a SIGINT alone
            self._loop.call_soon_threadsafe(self._hang_up)

    def _hang_up(self) -> None:
        """From Python 3.12 on a server that is closed waits for its connections."""
        for each in list(self.server_state.connections):
            each.transport.abort()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.force_exit:
            # uvicorn leaves the lifespan open then, and running jobs would wait for their leases to end
            await self.lifespan.shutdown()
