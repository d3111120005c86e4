"""The service, from the command line."""

import signal
import sys

from jobtrail import app, logs
from jobtrail.cli import exits, output
from jobtrail.cli.errand import Json
from jobtrail.settings import load


def serve(as_json: Json = False) -> None:
    """Run the service, its API and its jobs, until Ctrl-C; a second Ctrl-C does not wait for what runs."""
    settings = load()
    logs.configure(settings.log_format, settings.log_level)
    # The server shuts down first and raises the signal again afterwards, for whoever was there before.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(exits.DONE))

    def ready(url: str) -> None:
        if as_json:
            output.print_json({"url": url})
        else:
            typer.echo(f"Jobtrail serves at {url}; how to call it: {url}/docs")
        sys.stdout.flush()

    try:
        app.serve(settings, ready=ready)
    except KeyboardInterrupt:
        sys.exit(exits.DONE)
