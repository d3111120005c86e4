"""`jobtrail demo`: the service with sample jobs, begun, shown and left running."""

import logging
import os
import signal
import socket
import sys
import sysconfig
from collections.abc import Callable
from datetime import timedelta
from importlib.metadata import metadata
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import typer

from jobtrail import app, errors, logs, settings, wiring
from jobtrail.cli import output
from jobtrail.settings import EMBEDDED, Settings
from jobtrail.task.context import TASK_LOGGER

SHORT: Final = timedelta(seconds=5)
"""Lease and grace, unless they are set: to see a job survive a kill or a stop should not take long."""

_WIDE: Final = 100
"""Columns from which on a line is cut rather than folded."""


def demo() -> None:
    """Start a service with sample jobs, on an embedded PostgreSQL unless JOBTRAIL_DATABASE_URL names another; show
    how they move, and what to try; serve until Ctrl-C.
    """
    if not (find_spec("aiosmtpd") and find_spec("httpx")):
        raise errors.SettingsError('the demo is not installed: pip install "jobtrail[embedded,demo]"')
    from jobtrail.demo.tour import Tour  # noqa: PLC0415 - what it imports belongs to the extra

    chosen = choose()
    logs.configure(chosen.log_format, chosen.log_level, chosen.redact)
    logging.getLogger(TASK_LOGGER).addFilter(lambda _failed: False)  # a failed job has a line of its own here
    for line in settings.unknown_variables(os.environ):
        typer.echo(line, err=True)
    # The server shuts down first and raises the signal again afterwards: to stop by `kill` is as clean as by Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if chosen.database_url == EMBEDDED:
        place = f"the embedded PostgreSQL in {wiring.embedded(chosen).folder}; its first start takes some seconds"
    else:
        place = wiring.locate(chosen).shown
    typer.echo(f"Jobtrail demo on {place}")
    with TemporaryDirectory(prefix="jobtrail-samples-") as samples, socket.create_server(("127.0.0.1", 0)) as mail:
        make_samples(Path(samples))
        os.environ["JOBTRAIL_DEMO_SAMPLES"] = samples
        os.environ["JOBTRAIL_DEMO_MAIL_PORT"] = str(mail.getsockname()[1])
        tour = Tour(chosen, samples, mail, screen())
        try:
            app.serve(chosen, ready=tour.begin)
        except KeyboardInterrupt:
            if tour.going is None:
                raise
    if tour.error is not None:
        raise tour.error
    typer.echo("Stopped. The jobs stay where they are: start again, and they are there.")


def choose() -> Settings:
    """The operator's settings, with the sample tasks. DATABASE_URL may be a host app's own: it is not tried out on."""
    own = settings.load()
    ours: dict[str, object] = {
        "database_url": EMBEDDED,
        "lease": SHORT if own.poll_every < SHORT else own.lease,
        "grace": SHORT,
        "log_level": "ERROR",  # a failed attempt is a warning, and the tour shows it in a line of its own
    }
    given = {name: value for name, value in ours.items() if name not in own.model_fields_set}
    return settings.load(tasks=("jobtrail.demo", *own.tasks), **given)


def make_samples(folder: Path) -> None:
    """Documents that every installation has at hand: Jobtrail's own description and the licence of Python."""
    described = metadata("jobtrail").json
    (folder / "README.md").write_text(str(described.get("description") or described["summary"]), encoding="utf-8")
    licence = Path(sysconfig.get_path("stdlib")) / "LICENSE.txt"
    text = licence.read_text(encoding="utf-8") if licence.is_file() else sys.copyright
    (folder / "python-licence.txt").write_text(text, encoding="utf-8")


def screen() -> Callable[[str], None]:
    """Shows a line: coloured, and in one row where there is room; into a pipe as it is."""
    if not output.is_terminal():
        return typer.echo
    from rich.console import Console  # noqa: PLC0415 - into a pipe it is never needed
    from rich.text import Text  # noqa: PLC0415 - the same

    console = Console(highlight=False)

    def show(line: str) -> None:
        text = Text(line)
        is_remark = text.highlight_regex(r"survived a .*|(?<=: )if that is gone, .*", "bold magenta") > 0
        for status, style in output.STYLES.items():
            text.highlight_regex(rf"(?<=→ ){status}\b|(?<=  ){status}(?=   +\d)", style)
        if console.width < _WIDE or is_remark:
            console.print(text, soft_wrap=True)
        else:
            console.print(text, no_wrap=True, overflow="ellipsis")

    return show
