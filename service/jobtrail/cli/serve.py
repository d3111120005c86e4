"""`jobtrail serve` and `jobtrail work`: processes that run jobs until a signal stops them."""

import asyncio
import json
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from typing import Annotated, Final

import typer
import uvloop

from jobtrail import errors, wiring
from jobtrail.cli.command import Json, configured_to_stay, opened, require_tasks
from jobtrail.db.engine import open_single
from jobtrail.db.url import DatabaseUrl
from jobtrail.jobs.services import Services, require_rights_at_start
from jobtrail.settings import Settings
from jobtrail.task.catalog import Catalog
from jobtrail.worker.node import Node
from jobtrail.worker.shutdown_signals import ShutdownSignals

_NAMED: Final = 10
"""Tasks that `work` lists by name."""


def serve(as_json: Json = False) -> None:
    """Run the service, its API and its jobs, until Ctrl-C; a second Ctrl-C does not wait for what runs.

    Says where it serves, once it does; the log goes to standard error.
    """
    from jobtrail import app  # noqa: PLC0415 - `work` needs no web framework

    settings = configured_to_stay()

    def ready(url: str) -> None:
        only = "\nIt only accepts jobs, since JOBTRAIL_SLOTS is 0: `jobtrail work` runs them"
        text = f"Jobtrail serves at {url}; how to call it: {url}/docs" + (only if settings.only_accepts else "")
        typer.echo(json.dumps({"url": url}) if as_json else text)

    # The server shuts down first and raises the signal again afterwards, for the handler that was there before.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        app.serve(settings, ready=ready)


def work(
    queue: Annotated[list[str] | None, typer.Option(help="Take jobs of this queue only; may be repeated.")] = None,
    slots: Annotated[int | None, typer.Option(help="How many async tasks at once, on the event loop.")] = None,
    threads: Annotated[int | None, typer.Option(help="How many def tasks at once, in threads.")] = None,
    processes: Annotated[int | None, typer.Option(help="How many tasks at once in processes of their own.")] = None,
    as_json: Json = False,
) -> None:
    """Run jobs without serving HTTP, until Ctrl-C; a second Ctrl-C does not wait for what runs.

    What is not said here is said by JOBTRAIL_QUEUES, JOBTRAIL_SLOTS, JOBTRAIL_THREADS and JOBTRAIL_PROCESSES.
    Says what it works on, once it does; the log goes to standard error.
    """
    given = {"queues": tuple(queue or ()) or None, "slots": slots, "threads": threads, "processes": processes}
    settings = configured_to_stay(**{name: value for name, value in given.items() if value is not None})

    def ready(node: Node) -> None:
        slots, names = node.worker.slots, node.tasks
        which = f"queues {', '.join(settings.queues)}" if settings.queues else "all queues"
        tasks = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        text = (
            f"Jobtrail works on {which}: {slots['loop']} slots, {slots['thread']} threads, {slots['process']} "
            f"processes; tasks {tasks}; node {node.id}; Ctrl-C stops it"
        )
        document = {"node": str(node.id), "queues": list(settings.queues), "tasks": names, "slots": slots}
        typer.echo(json.dumps(document) if as_json else text)

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        catalog = wiring.load_catalog(settings.tasks)
        require_tasks(catalog)
        available = {"loop": settings.slots, "thread": settings.threads, "process": settings.processes}
        if not any(available[task.runs_in] for task in catalog):
            raise errors.SettingsError(
                "JOBTRAIL_SLOTS, JOBTRAIL_THREADS, JOBTRAIL_PROCESSES: no task has a place to run in: say --slots 4 "
                'for async def, --threads 4 for def, --processes 2 for runs_in="process"'
            )
        with wiring.reach(settings) as url, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_work(settings, url, catalog, ready=ready))


async def _work(settings: Settings, url: DatabaseUrl, catalog: Catalog, *, ready: Callable[[Node], None]) -> None:
    """Run a node until a signal asks to stop.

    Raises SettingsError, UnavailableError, before any job is run; UnavailableError, when ends could not be recorded.
    """
    stop = asyncio.Event()
    async with opened(settings, url, catalog) as command:
        await wiring.require_schema(command.services, settings, url)
        await require_rights_at_start(command.services)
        node = wiring.build_node(settings, command.services, partial(open_single, url.sqlalchemy, settings.schema))
        with _metrics(settings, command.services), _signals_ask(stop, ShutdownSignals(node, settings.grace)):
            node.start()
            try:
                wiring.spare_collections()
                ready(node)
                await stop.wait()
            finally:
                await node.stop(settings.grace.total_seconds())
        wiring.require_ends(node)


def _metrics(settings: Settings, services: Services) -> AbstractContextManager[None]:
    if settings.metrics_port is None:
        return nullcontext()
    from jobtrail.events.metrics import process_metrics  # noqa: PLC0415 - only this needs its library

    return process_metrics(services).served(settings.host, settings.metrics_port)


@contextmanager
def _signals_ask(stop: asyncio.Event, signals: ShutdownSignals) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def on_signal(number: int, _frame: object) -> None:
        signals(number)
        loop.call_soon_threadsafe(stop.set)

    # not the loop's own way, which would leave the process without any handler afterwards
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
