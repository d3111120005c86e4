"""`jobtrail demo`: the service with sample jobs, begun, shown and left running."""

import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import typer

from jobtrail import app, logs, settings
from jobtrail.job.context import TASK_LOGGER
from jobtrail.job.errors import SettingsError
from jobtrail.settings import EMBEDDED, Settings
from jobtrail.wiring import embedded, locate

LEASE: Final = timedelta(seconds=5)
GRACE: Final = timedelta(seconds=5)
"""Shorter than a service's: who kills or stops the demo to see its jobs survive should not have to wait for long."""


def demo() -> None:
    """Start a service with sample jobs, on an embedded PostgreSQL unless JOBTRAIL_DATABASE_URL names another; show
    how they move, and what to try; serve until Ctrl-C.
    """
    _require_extras()
    from jobtrail.cli.tour import Tour  # noqa: PLC0415 - what it imports belongs to the extra

    chosen = choose()
    logs.configure(chosen.log_format, chosen.log_level, chosen.redact)
    _tell_unknown_variables()
    logging.getLogger(TASK_LOGGER).addFilter(lambda _failed: False)  # a failed job has a line of its own here
    # The server shuts down first and raises the signal again afterwards: to stop by `kill` is as clean as by Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    typer.echo(f"Jobtrail demo on {_name_database(chosen)}")
    with _surroundings() as mail:
        tour = Tour(chosen, mail)
        try:
            app.serve(chosen, ready=tour.begin)
        except KeyboardInterrupt:
            if not tour.has_begun:
                raise
    if tour.error is not None:
        raise tour.error
    typer.echo("Stopped. The jobs stay where they are: start again, and they are there.")


def _require_extras() -> None:
    if not (find_spec("aiosmtpd") and find_spec("httpx")):
        raise SettingsError('the demo is not installed: pip install "jobtrail[embedded,demo]"')


def choose() -> Settings:
    """The operator's settings, with the sample tasks. DATABASE_URL may be a host app's own: it is not tried out on."""
    said = settings.load()
    given: dict[str, object] = {"tasks": ("jobtrail.demo", *said.tasks)}
    if "database_url" not in said.model_fields_set:
        given["database_url"] = EMBEDDED
    if "lease" not in said.model_fields_set and said.poll_every < LEASE:
        given["lease"] = LEASE
    if "grace" not in said.model_fields_set:
        given["grace"] = GRACE
    if "log_level" not in said.model_fields_set:
        given["log_level"] = "ERROR"  # a failed attempt is a warning, and the tour shows it in a line of its own
    return settings.load(**given)


def _tell_unknown_variables() -> None:
    for line in settings.unknown_variables(os.environ):
        if not line.startswith("JOBTRAIL_DEMO_"):
            typer.echo(line, err=True)


def _name_database(chosen: Settings) -> str:
    if chosen.database_url == EMBEDDED:
        return f"the embedded PostgreSQL in {embedded(chosen).folder}; its first start takes some seconds"
    return locate(chosen).shown


@contextmanager
def _surroundings() -> Iterator[socket.socket]:
    """What the sample tasks work with, said to them in the environment: documents, and where mail is caught."""
    from jobtrail.demo.documents import make_samples  # noqa: PLC0415 - the same

    with TemporaryDirectory(prefix="jobtrail-samples-") as samples, socket.create_server(("127.0.0.1", 0)) as mail:
        make_samples(Path(samples))
        os.environ["JOBTRAIL_DEMO_SAMPLES"] = samples
        os.environ["JOBTRAIL_DEMO_MAIL_PORT"] = str(mail.getsockname()[1])
        yield mail
