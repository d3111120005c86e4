"""The command `jobtrail`: reads one verb, loads its module, tells its failure in a line."""

import importlib
import inspect
import io
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from jobtrail.cli import exits

# A verb's module is imported when the verb is run: `jobtrail ls` does not wait for the web framework.
VERBS: Final = {
    "demo": ("demo", "Try it out: a service with sample jobs, on a database of its own."),
    "serve": ("serve", "Run the service, its API and its jobs, until Ctrl-C."),
    "work": ("serve", "Run jobs without serving HTTP, until Ctrl-C."),
    "migrate": ("database", "Bring the schema of the database to the revision of this version."),
    "submit": ("submit", "Store a job; a node that knows its task runs it."),
    "ls": ("jobs", "List jobs, newest first."),
    "show": ("jobs", "Show a job: args, result, error with traceback, history."),
    "cancel": ("moves", "Cancel a pending job, or ask a running one to stop; with filters: many of them."),
    "retry": ("moves", "Put a failed or cancelled job back to pending; with filters: many of them."),
    "pause": ("pauses", "Start no more jobs of a queue or a task; without an option: list what is paused."),
    "resume": ("pauses", "Start the jobs of a paused queue or task again."),
    "audit": ("audit", "Answer a question about what happened; without a name: list the questions."),
    "keys": ("keys", "Make, list and revoke the access keys of the service."),
    "purge": ("moves", "Remove once what has expired."),
    "url": ("database", 'Print the URL of the database, for psql "$(jobtrail url)".'),
    "doctor": ("doctor", "Say what is wrong with this set-up, and how to mend it."),
}


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int:
    """Returns the exit code; raises nothing that can be told in a line."""
    signal.signal(signal.SIGTERM, _leave)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    code: object
    try:
        code = _APP(args=_checked(argv) or ["--help"], prog_name="jobtrail", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        code = exits.BROKEN_PIPE
    except KeyboardInterrupt:
        code = exits.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last place that can tell it in a line
        code = exits.tell(error, as_json="--json" in argv)
    if code == exits.BROKEN_PIPE:
        # the interpreter flushes once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code if isinstance(code, int) else exits.DONE


def _checked(argv: Sequence[str]) -> list[str]:
    """Raises BadParameter for bytes that are not text, which would be refused later in some other words."""
    for number, word in enumerate(argv, 1):
        if not word.isascii() and word.encode(errors="replace") != word.encode(errors="surrogateescape"):
            raise typer.BadParameter(f"the word {number} of the command is not UTF-8")
    return list(argv)


def _leave(_signal: int, _frame: object) -> None:
    """As an exception, so that what was begun is cleaned up: an embedded server stops with its last user."""
    sys.exit(exits.TERMINATED)


class _Verbs(TyperGroup):
    """Lists the verbs by their summaries alone; loads the one that is run."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise typer.Exit(exits.BROKEN_PIPE) from None

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if name is None or command is None:
            return name, command, rest
        module, summary = VERBS[name]
        verb = getattr(importlib.import_module(f"jobtrail.cli.{module}"), name)
        if isinstance(verb, typer.Typer):  # it has verbs of its own
            verb.info.help = summary
            return name, typer.main.get_command(verb), rest
        alone = typer.Typer(add_completion=False)
        alone.command(name, help=inspect.getdoc(verb) or summary)(verb)
        return name, typer.main.get_command(alone), rest


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"jobtrail {version('jobtrail')}")
        raise typer.Exit


def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Jobs that survive a restart: every job is one PostgreSQL row that you can watch, retry and audit.

    Settings come from JOBTRAIL_ variables and from .env in the current folder.
    With --json a verb writes one JSON document.
    Exit codes: 0 done, 1 failed, 2 usage or settings, 3 database unreachable.
    """


_APP: Final = typer.Typer(cls=_Verbs, callback=_options, pretty_exceptions_enable=False)
for _name, (_, _summary) in VERBS.items():
    _APP.command(_name, help=_summary)(lambda: None)
