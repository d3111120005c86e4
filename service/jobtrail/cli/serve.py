"""The service, from the command line."""

import json
import signal
from contextlib import suppress

import typer

from jobtrail import app
from jobtrail.cli.errand import Json, configured_to_stay


def serve(as_json: Json = False) -> None:
    """Run the service, its API and its jobs, until Ctrl-C; a second Ctrl-C does not wait for what runs.

    Says where it serves, once it does; the log goes to standard error.
    """
    settings = configured_to_stay()
    # The server shuts down first and raises the signal again afterwards, for whoever was there before.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        app.serve(settings, ready=lambda url: _say(url, only_accepts=settings.only_accepts, as_json=as_json))


def _say(url: str, *, only_accepts: bool, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"url": url}))
        return
    typer.echo(f"Jobtrail serves at {url}; how to call it: {url}/docs")
    if only_accepts:
        typer.echo("It only accepts jobs, since JOBTRAIL_SLOTS is 0: `jobtrail work` runs them")
