"""Reads one verb, imports its module, runs it, and reports a failure as one line and an exit code."""

import importlib
import inspect
import io
import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from jobtrail import errors

# A verb's module is imported when the verb is run: `jobtrail ls` does not wait for the web framework.
VERBS: Final = {
    "demo": ("demo", "Try it out: a service with sample jobs, on a database of its own."),
    "serve": ("serve", "Run the service, its API and its jobs, until Ctrl-C."),
    "work": ("serve", "Run jobs without serving HTTP, until Ctrl-C."),
    "migrate": ("database", "Bring the schema of the database to the revision of this version."),
    "submit": ("submit", "Store a job; a node that knows its task runs it."),
    "ls": ("jobs", "List jobs, newest first."),
    "show": ("jobs", "Show a job: args, result, error with traceback, history."),
    "tail": ("tail", "Follow what happens to all jobs, or to those of a filter, until Ctrl-C."),
    "cancel": ("moves", "Cancel a pending job, or ask a running one to stop; with filters: many of them."),
    "retry": ("moves", "Put a failed or cancelled job back to pending; with filters: many of them."),
    "pause": ("ops", "Start no more jobs of a queue or a task; without an option: list what is paused."),
    "resume": ("ops", "Start the jobs of a paused queue or task again."),
    "schedules": ("schedules", "Jobs at certain times: list, show, put, pause, resume, run, delete."),
    "limits": ("ops", "List the limits in use; override the number of one, or let its own hold again."),
    "audit": ("ops", "Answer a question about what happened; without a name: list the questions."),
    "webhooks": ("webhooks", "Receivers that are told what becomes of jobs: list, put, rotate, delete."),
    "keys": ("ops", "Make, list and revoke the access keys of the service."),
    "batches": ("ops", "Show, cancel or retry the jobs of a batch."),
    "purge": ("moves", "Remove once what has expired."),
    "url": ("database", 'Print the URL of the database, for psql "$(jobtrail url)".'),
    "stats": ("stats", "How much waits, runs and ended in the last hour, and whether an alarm rings."),
    "doctor": ("doctor", "Say what is wrong with this set-up, and how to mend it."),
}

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
INTERRUPTED: Final = 128 + 2
BROKEN_PIPE: Final = 128 + 13
TERMINATED: Final = 128 + 15

_CALLERS_MISTAKES: Final = (
    errors.AlreadyRunningError,
    errors.DeclarationError,
    errors.InvalidInputError,
    errors.NotJsonError,
    errors.NotRunningError,
    errors.SettingsError,
    errors.UnknownQuestionError,
    errors.UnknownQueueError,
    errors.UnknownTaskError,
)
"""Exit with USAGE; any other error of ours, but for an unreachable database, means that the verb failed."""


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int:
    """Returns the exit code. A verb that returns False has failed and said so; one that raises is reported here."""
    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        found: int | None = _APP(args=_checked(argv) or ["--help"], prog_name="jobtrail", standalone_mode=False)
        sys.stdout.flush()
    except (BrokenPipeError, _ReaderGoneError):
        # the interpreter flushes once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last place that can report it in a line
        return _report(error, as_json="--json" in argv)
    if isinstance(found, bool):
        return DONE if found else FAILED
    return found or DONE  # typer has made an exit code of Ctrl-C


def _terminate(_signal: int, _frame: object) -> None:
    """As an exception, so that what was begun is cleaned up: an embedded server stops with its last user."""
    sys.exit(TERMINATED)


def _checked(argv: Sequence[str]) -> list[str]:
    """Raises BadParameter for bytes that are not text, which would be refused later in some other words."""
    for number, word in enumerate(argv, 1):
        if not word.isascii() and word.encode(errors="replace") != word.encode(errors="surrogateescape"):
            raise typer.BadParameter(f"the word {number} of the command is not UTF-8")
    return list(argv)


def _report(error: Exception, *, as_json: bool) -> int:
    """Writes one line to standard error, as JSON if asked for. Returns the exit code."""
    code, kind, detail = _explain(error)
    if os.environ.get("JOBTRAIL_LOG_LEVEL", "").upper() == "DEBUG":
        traceback.print_exception(error)
    if as_json:
        document: dict[str, Any] = {"type": kind, "detail": detail}
        if isinstance(error, errors.InvalidInputError):
            document["errors"] = [{"pointer": flaw.pointer, "detail": flaw.detail} for flaw in error.flaws]
        typer.echo(json.dumps({"error": document}, ensure_ascii=False), err=True)
    else:
        typer.echo("\n".join(f"jobtrail: {line}" for line in detail.splitlines()), err=True)
    return code


def _explain(error: Exception) -> tuple[int, str, str]:
    """Exit code, type and detail."""
    if isinstance(error, errors.JobtrailError):
        code = USAGE if isinstance(error, _CALLERS_MISTAKES) else FAILED
        if isinstance(error, errors.UnavailableError) and not isinstance(error, errors.OverloadedError):
            code = UNREACHABLE
        detail = str(error)
        if isinstance(error, errors.InvalidInputError):
            places = [(_written(flaw.pointer), flaw.detail) for flaw in error.flaws]
            detail = "; ".join(f"{name}: {flaw}" if name else flaw for name, flaw in places)
        kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(error).__name__.removesuffix("Error")).lower()
        return code, kind, detail
    if (message := getattr(error, "format_message", None)) is not None:  # typer's own, which has no public name
        path = getattr(getattr(error, "ctx", None), "command_path", "jobtrail")
        detail = " ".join(str(message()).removeprefix("Invalid value: ").split()).rstrip(".")
        return USAGE, "usage", f"{detail} (see `{path} --help`)"
    # of a database's error only the server's own words: the rest is a page of SQL
    detail = " ".join(f"{type(error).__name__}: {getattr(error, 'orig', error)}".split())
    return FAILED, "unexpected", f"unexpected {detail} (JOBTRAIL_LOG_LEVEL=DEBUG shows the traceback)"


_WRITTEN: Final = {
    "{name}": "NAME", "name": "NAME", "task": "TASK", "url": "URL", "key": "KEY", "number": "--set",
    "tags": "--tag", "tasks": "--task", "scopes": "--scope", "statuses": "--status", "expires_in": "--expires",
    "Idempotency-Key:": "--idempotency-key",
}  # fmt: skip
"""Fields of requests that have another name on the command line."""


def _written(pointer: str) -> str:
    """A place in a request, as it is written on the command line: KEY of KEY=VALUE, or an option."""
    field, _, rest = pointer.removeprefix("/").partition("/")
    if field in ("", "args"):
        return rest
    return _WRITTEN.get(field, f"--{field.replace('_', '-')}")


class _ReaderGoneError(Exception):
    """A broken pipe, by a name that typer does not make an exit code of its own of."""


class _Verbs(TyperGroup):
    """Lists the verbs by their summaries alone; imports the one that is run."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise _ReaderGoneError from None

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


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"jobtrail {version('jobtrail')}")
        raise typer.Exit


def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
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
