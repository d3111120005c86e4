"""A node without HTTP: it runs jobs that others accept."""

import asyncio
import json
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Annotated, Final

import typer

from jobtrail.cli.errand import Json, configured_to_stay, require_tasks
from jobtrail.db.engine import open_single
from jobtrail.job.catalog import Catalog
from jobtrail.job.database_url import DatabaseUrl
from jobtrail.job.errors import SettingsError
from jobtrail.jobs.services import require_rights_at_start
from jobtrail.settings import Settings
from jobtrail.wiring import build_node, load_catalog, open_desk, reach, require_ends, require_schema
from jobtrail.worker.node import Node
from jobtrail.worker.notice import Notice

_TOLD: Final = 10
"""Tasks that are told by name."""


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
    said = {"queues": tuple(queue or ()) or None, "slots": slots, "threads": threads, "processes": processes}
    settings = configured_to_stay(**{name: value for name, value in said.items() if value is not None})
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        _run(settings, as_json=as_json)


def _run(settings: Settings, *, as_json: bool) -> None:
    catalog = load_catalog(settings.tasks)
    require_tasks(catalog)
    _require_places(settings, catalog)
    with reach(settings) as url:
        asyncio.run(_work(settings, url, catalog, ready=lambda node: _say(node, settings.queues, as_json=as_json)))


def _require_places(settings: Settings, catalog: Catalog) -> None:
    places = {"loop": settings.slots, "thread": settings.threads, "process": settings.processes}
    if not any(places[task.runs_in] for task in catalog):
        raise SettingsError(
            "JOBTRAIL_SLOTS, JOBTRAIL_THREADS, JOBTRAIL_PROCESSES: no task has a place to run in: say --slots 4 for "
            'async def, --threads 4 for def, --processes 2 for runs_in="process"'
        )


async def _work(settings: Settings, url: DatabaseUrl, catalog: Catalog, *, ready: Callable[[Node], None]) -> None:
    """Until a signal asks to stop.

    Raises SettingsError, UnavailableError, before any job is run; UnavailableError, when ends could not be recorded.
    """
    stop = asyncio.Event()
    services = open_desk(settings, url, catalog)
    try:
        await require_schema(services, settings, url)
        await require_rights_at_start(services)
        node = build_node(settings, services, partial(open_single, url.sqlalchemy, settings.schema))
        with _signals_ask(stop, Notice(node, settings.grace)):
            node.start()
            try:
                ready(node)
                await stop.wait()
            finally:
                await node.stop(settings.grace.total_seconds())
        require_ends(node)
    finally:
        await services.database.dispose()


@contextmanager
def _signals_ask(stop: asyncio.Event, notice: Notice) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def signalled(which: int, _frame: object) -> None:
        notice(which)
        loop.call_soon_threadsafe(stop.set)

    # not the loop's own way, which would leave the process without any handler afterwards
    before = {which: signal.signal(which, signalled) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for which, there in before.items():
            signal.signal(which, there)


def _say(node: Node, queues: Sequence[str], *, as_json: bool) -> None:
    slots = node.worker.slots
    if as_json:
        typer.echo(json.dumps({"node": str(node.id), "queues": list(queues), "tasks": node.tasks, "slots": slots}))
        return
    which = f"queues {', '.join(queues)}" if queues else "all queues"
    places = f"{slots['loop']} slots, {slots['thread']} threads, {slots['process']} processes"
    tasks = ", ".join(node.tasks[:_TOLD]) + (f" and {len(node.tasks) - _TOLD} more" if len(node.tasks) > _TOLD else "")
    typer.echo(f"Jobtrail works on {which}: {places}; tasks {tasks}; node {node.id}; Ctrl-C stops it")
