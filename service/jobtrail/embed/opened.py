"""What is open while a Jobtrail runs: the database, the tasks, and a node if jobs run here."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import Request

from jobtrail.db.engine import open_single
from jobtrail.db.host_engine import lend_single
from jobtrail.db.url import DatabaseUrl, normalize
from jobtrail.errors import AlreadyRunningError, NotRunningError
from jobtrail.jobs.services import Services, look_at_start
from jobtrail.ops.access import Caller
from jobtrail.redaction import Redaction
from jobtrail.settings import Settings
from jobtrail.task.catalog import Catalog
from jobtrail.task.task import Task
from jobtrail.wiring import build_node, lend_desk, load_catalog, open_desk, reach, require_schema
from jobtrail.worker.node import Node
from jobtrail.worker.run import Hook
from jobtrail.worker.shutdown_signals import ShutdownSignals, hear_first

log = logging.getLogger(__name__)

Who = Callable[[Request], str | Caller]
"""The caller of a request, as the host knows it: a name, or a name and what it may see."""

HOW_TO_START: Final = (
    "hand its lifespan over, FastAPI(lifespan=trail.lifespan), or enter it in the lifespan that you have; the lifespan "
    "of a mounted app never runs, and TestClient runs one only as `with TestClient(app) as client:`"
)


@dataclass
class Opened:
    """`node` is None where jobs are submitted only."""

    settings: Settings
    services: Services
    node: Node | None
    who: Callable[[Request], Caller]
    redaction: Redaction
    is_closed: bool = False
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _warned: set[str] = field(default_factory=set)

    def still(self) -> Services:
        """Raises NotRunningError once it is closed: what is used then would open connections that nobody closes."""
        if self.is_closed:
            raise NotRunningError(
                "the Jobtrail that submitted this job has ended; ask another one for the job, by its id"
            )
        return self.services

    def accepting(self) -> bool:
        return self.node is None or self.node.accepting()

    def launch(self, job_id: UUID, task: str, queue: str) -> None:
        if self.node is not None:
            self.node.launch(job_id, task, queue)

    def warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            log.warning("%s", message)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a Jobtrail is made of. `engine` None: one of our own; `tasks` None: whatever is imported."""

    settings: Settings
    engine: AsyncEngine | None
    tasks: Sequence[Task[..., Any]] | None
    who: Callable[[Request], Caller]
    on_attempt_end: Hook | None = None


@asynccontextmanager
async def opening(parts: Parts, *, made_at: str, runs: bool) -> AsyncIterator[Opened]:
    """Raises AlreadyRunningError, SettingsError, DeclarationError, UnavailableError before anything runs."""
    async with AsyncExitStack() as stack:
        stack.enter_context(_process.taken(made_at))
        services, url, settings, leases = await stack.enter_async_context(_database(parts))
        # a variable that nobody set says nothing of a host's own engine
        variable = "" if parts.engine is None else f"JOBTRAIL_DATABASE_URL={url.shown} "
        await require_schema(services, settings, url, command=f"{variable}jobtrail migrate")
        await look_at_start(services)
        node = build_node(settings, services, leases, parts.on_attempt_end) if runs else None
        opened = Opened(settings, services, node, parts.who, Redaction(settings.redact))
        stack.callback(setattr, opened, "is_closed", True)
        if node is not None:
            node.start()
            stack.enter_context(hear_first(ShutdownSignals(node, settings.grace)))
            stack.push_async_callback(node.stop, settings.grace.total_seconds())
        _process.opened = opened
        yield opened


def current() -> Opened:
    """What is open in this process. Raises NotRunningError."""
    if _process.opened is None:
        raise NotRunningError(f"no Jobtrail is running in this process: {HOW_TO_START}")
    return _process.opened


class _Process:
    """One Jobtrail at a time: `Jobs` of an endpoint knows its own by being in the same process."""

    def __init__(self) -> None:
        self.opened: Opened | None = None
        self._made_at: str | None = None

    @contextmanager
    def taken(self, made_at: str) -> Iterator[None]:
        if self._made_at is not None:
            raise AlreadyRunningError(
                f"a Jobtrail, made at {self._made_at}, runs in this process: use that one instead of the one made "
                f"at {made_at}, since a process has one"
            )
        self._made_at = made_at
        try:
            yield
        finally:
            self._made_at = self.opened = None


_process: Final = _Process()


@asynccontextmanager
async def _database(parts: Parts) -> AsyncIterator[tuple[Services, DatabaseUrl, Settings, Callable[[], AsyncEngine]]]:
    """The verbs' side, its database's URL, the settings that hold there, and the way to a connection for leases."""
    settings = parts.settings
    # the tasks of JOBTRAIL_TASKS first: it makes the current folder importable
    named = load_catalog(settings.tasks) if settings.tasks else ()
    modules = list(sys.modules.values())
    catalog = Catalog.from_modules(modules) if parts.tasks is None else Catalog.of([*named, *parts.tasks])
    async with AsyncExitStack() as stack:
        if parts.engine is not None:
            services, url = lend_desk(settings, parts.engine, catalog), url_of(parts.engine)
            settings = settings.model_copy(update={"database_url": url.libpq})  # so that it is no embedded one
            leases = partial(lend_single, parts.engine, settings.schema)
        else:
            # an embedded server is started and stopped by programs, which must not hold up a host's loop
            reached = ExitStack()
            url = await asyncio.to_thread(reached.enter_context, reach(settings))
            stack.push_async_callback(asyncio.to_thread, reached.close)
            services = open_desk(settings, url, catalog)
            leases = partial(open_single, url.sqlalchemy, settings.schema)
        stack.push_async_callback(services.database.dispose)
        yield services, url, settings, leases


def url_of(engine: AsyncEngine) -> DatabaseUrl:
    """For messages, and to tell an embedded database, which is ours to migrate, from the host's."""
    return normalize(engine.url.render_as_string(hide_password=False))
