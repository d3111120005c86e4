"""Exit codes, and the one line on standard error that tells a failure."""

import json
import os
import re
import traceback
from typing import Any, Final

import typer

from jobtrail import errors
from jobtrail.errors import InvalidInputError, JobtrailError

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
INTERRUPTED: Final = 128 + 2
BROKEN_PIPE: Final = 128 + 13
TERMINATED: Final = 128 + 15

_USAGE: Final = (
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
"""The caller can correct these; any other error of ours but an unreachable database means that the verb failed."""


def code_of(error: JobtrailError) -> int:
    if isinstance(error, errors.UnavailableError):
        return UNREACHABLE
    return USAGE if isinstance(error, _USAGE) else FAILED


def tell(error: Exception, *, as_json: bool) -> int:
    """Write one line to standard error, as JSON if asked for; return the exit code."""
    code, name, detail = _read(error)
    if os.environ.get("JOBTRAIL_LOG_LEVEL", "").upper() == "DEBUG":
        traceback.print_exception(error)
    if as_json:
        told: dict[str, Any] = {"type": name, "detail": detail}
        if isinstance(error, InvalidInputError):
            told["errors"] = [{"pointer": flaw.pointer, "detail": flaw.detail} for flaw in error.flaws]
        typer.echo(json.dumps({"error": told}, ensure_ascii=False), err=True)
    else:
        typer.echo("\n".join(f"jobtrail: {line}" for line in detail.splitlines()), err=True)
    return code


def _read(error: Exception) -> tuple[int, str, str]:
    """Exit code, type and detail."""
    if isinstance(error, JobtrailError):
        kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(error).__name__.removesuffix("Error")).lower()
        return code_of(error), kind, _of_input(error) if isinstance(error, InvalidInputError) else str(error)
    if (message := getattr(error, "format_message", None)) is not None:  # typer's own, which has no public name
        path = getattr(getattr(error, "ctx", None), "command_path", "jobtrail")
        words = " ".join(str(message()).removeprefix("Invalid value: ").split()).rstrip(".")
        return USAGE, "usage", f"{words} (see `{path} --help`)"
    # of a database's error only what the server said: the rest is a page of SQL
    said = " ".join(f"{type(error).__name__}: {getattr(error, 'orig', error)}".split())
    return FAILED, "unexpected", f"unexpected {said} (JOBTRAIL_LOG_LEVEL=DEBUG shows the traceback)"


def _of_input(error: InvalidInputError) -> str:
    """By the names that were written, not as pointers into a body."""
    names = (flaw.pointer.removeprefix("/args").removeprefix("/") for flaw in error.flaws)
    return "; ".join(
        f"{name}: {flaw.detail}" if name else flaw.detail for name, flaw in zip(names, error.flaws, strict=True)
    )
