"""The services and the node that are open while a Jobtrail runs."""

import asyncio
import inspect
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import Request

from jobtrail import errors, ranges, wiring
from jobtrail.callers import SCOPES, Caller
from jobtrail.db.engine import open_single
from jobtrail.db.host_engine import lend_single
from jobtrail.db.url import normalize
from jobtrail.events.hub import Hub
from jobtrail.jobs.services import Services, look_at_start
from jobtrail.redaction import Redaction
from jobtrail.settings import Settings, load, unknown_variables
from jobtrail.task.catalog import Catalog
from jobtrail.task.task import Task
from jobtrail.worker.attempts import Hook
from jobtrail.worker.node import Node
from jobtrail.worker.shutdown_signals import ShutdownSignals, hear_first

log = logging.getLogger(__name__)

Who = Callable[[Request], str | Caller]
"""The caller of a request as the host knows it: a name, or a name with its scopes."""

APP: Final = Caller("app", frozenset(SCOPES))
"""The caller of what the app submits itself."""

HOW_TO_START: Final = (
    "hand its lifespan over, FastAPI(lifespan=trail.lifespan), or enter it in the lifespan that you have; the lifespan "
    "of a mounted app never runs, and TestClient runs one only as `with TestClient(app) as client:`"
)


@dataclass(frozen=True, slots=True)
class Parts:
    """Arguments of a Jobtrail. `settings` None: those of the environment; `engine` None: one of our own; `tasks` None:
    all that are imported when it starts.
    """

    settings: Settings | None
    engine: AsyncEngine | None
    tasks: Sequence[Task[..., Any]] | None
    who: Who | None
    on_attempt_end: Hook | None

    def __post_init__(self) -> None:
        """Raises TypeError."""
        settings: object = self.settings
        if not isinstance(settings, Settings | None):
            raise TypeError(f"settings: {type(settings).__name__} is no Settings; write Settings(database_url=…)")
        who: object = self.who
        if who is not None and (not callable(who) or inspect.iscoroutinefunction(who)):
            raise TypeError("who: it takes a plain function of the request, which gives a name or a Caller at once")
        if self.on_attempt_end is not None and not callable(self.on_attempt_end):
            raise TypeError(f"on_attempt_end: {type(self.on_attempt_end).__name__} is no function of an AttemptEnd")

    def load(self) -> Settings:
        """The settings that hold. With a host's engine its URL counts, whatever JOBTRAIL_DATABASE_URL says."""
        named = {}
        if self.engine is not None:
            named["database_url"] = normalize(self.engine.url.render_as_string(hide_password=False)).libpq
        if self.settings is not None:
            return self.settings.model_copy(update=named)
        settings = load(**named)
        for line in unknown_variables(os.environ):
            log.warning("%s", line)
        return settings

    def caller(self, request: Request, unnamed: Caller = APP) -> Caller:
        """The caller by `who`, else `unnamed`, whose scopes a mere name gets. Raises TypeError."""
        if self.who is None:
            return unnamed
        found = self.who(request)
        name: object = found.name if isinstance(found, Caller) else found
        if not isinstance(name, str) or not 1 <= len(name) <= ranges.MAX_NAME or not name.isprintable():
            raise TypeError(
                f"Jobtrail(who=…) gave {name!r:.300}: it gives a name of 1 to {ranges.MAX_NAME} printable characters"
            )
        return found if isinstance(found, Caller) else Caller(name, unnamed.scopes)


@dataclass
class Opened:
    """`node` is None where jobs are submitted only."""

    parts: Parts
    settings: Settings
    services: Services
    node: Node | None
    redaction: Redaction
    is_closed: bool = False
    has_warned: bool = False
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    def require_loop(self) -> None:
        """Raises RuntimeError in another event loop, by which connections of this one would break."""
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:  # a thread without one
            return
        if running is not self.loop:
            raise RuntimeError(
                "this Jobtrail runs in another event loop: await this in an `async def` endpoint, or from a thread "
                "call `asyncio.run_coroutine_threadsafe(…, loop).result()` with the loop of the app"
            )

    def still(self) -> Services:
        """Raises NotRunningError once it is closed: its pool would open connections that are never closed. Raises as
        `require_loop`.
        """
        self.require_loop()
        if self.is_closed:
            raise errors.NotRunningError(
                "the Jobtrail that submitted this job has ended; ask another one for the job, by its id"
            )
        return self.services

    def accepting(self) -> bool:
        return self.node is None or self.node.accepting()

    def launch(self, job_id: UUID, task: str, queue: str) -> None:
        if self.node is not None:
            self.node.launch(job_id, task, queue)
        else:
            self.services.database.hints.send(queue)


@dataclass
class _Process:
    """One Jobtrail at a time: `Jobs` of an endpoint finds it by being in the same process."""

    made_at: str | None = None
    opened: Opened | None = None

    def release(self) -> None:
        self.made_at = self.opened = None


_process: Final = _Process()


def current() -> Opened:
    """The one that is open in this process. Raises NotRunningError."""
    if _process.opened is None:
        raise errors.NotRunningError(f"no Jobtrail is running in this process: {HOW_TO_START}")
    return _process.opened


@asynccontextmanager
async def opening(parts: Parts, *, made_at: str, runs: bool) -> AsyncIterator[Opened]:
    """Raises AlreadyRunningError, SettingsError, DeclarationError, UnavailableError before anything runs."""
    settings = parts.load()
    if _process.made_at is not None:
        raise errors.AlreadyRunningError(
            f"a Jobtrail, made at {_process.made_at}, runs in this process: use that one instead of the one made "
            f"at {made_at}, since a process has one"
        )
    async with AsyncExitStack() as stack:
        stack.callback(_process.release)
        _process.made_at = made_at
        services, leases = await _connect(parts, settings, stack)
        stack.push_async_callback(services.once(Hub).stop)
        await look_at_start(services)
        node = wiring.build_node(settings, services, leases, parts.on_attempt_end) if runs else None
        opened = Opened(parts, settings, services, node, Redaction(settings.redact))
        stack.callback(setattr, opened, "is_closed", True)
        if node is not None:
            node.start()
            stack.enter_context(hear_first(ShutdownSignals(node, settings.grace)))
            stack.push_async_callback(node.stop, settings.grace.total_seconds())
        _process.opened = opened
        yield opened


async def _connect(
    parts: Parts, settings: Settings, stack: AsyncExitStack
) -> tuple[Services, Callable[[], AsyncEngine]]:
    """The services, on a database whose schema fits, and the way to a connection for leases."""
    # the tasks of JOBTRAIL_TASKS first: it makes the current folder importable
    named = wiring.load_catalog(settings.tasks) if settings.tasks else ()
    modules = list(sys.modules.values())
    catalog = Catalog.from_modules(modules) if parts.tasks is None else Catalog.of([*named, *parts.tasks])
    command = "jobtrail migrate"
    if parts.engine is not None:
        url = wiring.locate(settings)
        services = wiring.lend_services(settings, parts.engine, catalog)
        leases = partial(lend_single, parts.engine, settings.schema)
        command = f"JOBTRAIL_DATABASE_URL={url.shown} {command}"
    else:
        # an embedded server is started and stopped by programs, which must not hold up a host's loop
        reached = ExitStack()
        url = await asyncio.to_thread(reached.enter_context, wiring.reach(settings))
        stack.push_async_callback(asyncio.to_thread, reached.close)
        services = wiring.open_services(settings, url, catalog)
        leases = partial(open_single, url.sqlalchemy, settings.schema)
    stack.push_async_callback(services.database.dispose)
    await wiring.require_schema(services, settings, url, command=command)
    return services, leases
