"""The service, from the command line."""

import json
import logging
import os
import signal
import sys

import typer

from jobtrail import app, logs
from jobtrail.cli import exits
from jobtrail.cli.errand import Json
from jobtrail.settings import load, unknown_variables

log = logging.getLogger(__name__)


def serve(as_json: Json = False) -> None:
    """Run the service, its API and its jobs, until Ctrl-C; a second Ctrl-C does not wait for what runs.

    Says where it serves, once it does; the log goes to standard error.
    """
    settings = load()
    logs.configure(settings.log_format, settings.log_level)
    for line in unknown_variables(os.environ):
        log.warning("%s", line)
    # The server shuts down first and raises the signal again afterwards, for whoever was there before.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(exits.DONE))
    try:
        app.serve(settings, ready=lambda url: _say(url, as_json=as_json))
    except KeyboardInterrupt:
        sys.exit(exits.DONE)


def _say(url: str, *, as_json: bool) -> None:
    typer.echo(json.dumps({"url": url}) if as_json else f"Jobtrail serves at {url}; how to call it: {url}/docs")
