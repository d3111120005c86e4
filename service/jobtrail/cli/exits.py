"""What a failure is worth: one table of exit codes, and the one line that tells it."""

import json
import os
import re
import sys
import traceback
from collections.abc import Mapping
from typing import Any, Final

from jobtrail.job import errors
from jobtrail.job.errors import InvalidInputError, JobtrailError

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
INTERRUPTED: Final = 128 + 2
BROKEN_PIPE: Final = 128 + 13
TERMINATED: Final = 128 + 15

CODES: Final[Mapping[type[JobtrailError], int]] = {
    errors.AuditTimeoutError: FAILED,
    errors.DeclarationError: USAGE,
    errors.IdempotencyKeyReusedError: FAILED,
    errors.InvalidInputError: USAGE,
    errors.JobConflictError: FAILED,
    errors.JobNotFoundError: FAILED,
    errors.NotJsonError: USAGE,
    errors.PreconditionError: FAILED,
    errors.ResultNotJsonError: FAILED,
    errors.ResultTooLargeError: FAILED,
    errors.SettingsError: USAGE,
    errors.UnavailableError: UNREACHABLE,
    errors.UnknownQuestionError: USAGE,
    errors.UnknownTaskError: USAGE,
}


def tell(error: Exception, *, as_json: bool) -> int:
    """One line on standard error, as JSON if asked for; the exit code."""
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
        return code_of(type(error)) or FAILED, _kebab(type(error).__name__), str(error)
    if (message := getattr(error, "format_message", None)) is not None:  # typer's own, which has no public name
        return USAGE, "usage", _with_hint(error, str(message()))
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return FAILED, "unexpected", f"unexpected {said} (JOBTRAIL_LOG_LEVEL=DEBUG shows the traceback)"


def code_of(kind: type[BaseException]) -> int | None:
    """What the table says of this error or the nearest of its parents."""
    return next((CODES[parent] for parent in kind.__mro__ if parent in CODES), None)


def _with_hint(error: Exception, message: str) -> str:
    path = getattr(getattr(error, "ctx", None), "command_path", "jobtrail")
    return f"{' '.join(message.split())} See `{path} --help`."


def _kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name.removesuffix("Error")).lower()
