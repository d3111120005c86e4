"""What a failure is worth: one table of exit codes, and the one line that tells it."""

import json
import os
import re
import traceback
from collections.abc import Mapping
from typing import Any, Final

import typer

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
    errors.AccessKeyNotFoundError: FAILED,
    errors.AlreadyRunningError: USAGE,
    errors.AuditTimeoutError: FAILED,
    errors.CommitFailedError: FAILED,
    errors.ContextError: FAILED,
    errors.DeclarationError: USAGE,
    errors.ForbiddenError: FAILED,
    errors.IdempotencyKeyReusedError: FAILED,
    errors.InvalidInputError: USAGE,
    errors.JobCancelledError: FAILED,
    errors.JobConflictError: FAILED,
    errors.JobFailedError: FAILED,
    errors.JobNotFoundError: FAILED,
    errors.JobSessionError: FAILED,
    errors.LeftBehindError: FAILED,
    errors.NotJsonError: USAGE,
    errors.NotRunningError: USAGE,
    errors.NotStorableError: FAILED,
    errors.PreconditionError: FAILED,
    errors.ProcessDiedError: FAILED,
    errors.PurgeRefusedError: FAILED,
    errors.ResultNotJsonError: FAILED,
    errors.ResultTooLargeError: FAILED,
    errors.SettingsError: USAGE,
    errors.UnauthorizedError: FAILED,
    errors.UnavailableError: UNREACHABLE,
    errors.UnknownQuestionError: USAGE,
    errors.UnknownQueueError: USAGE,
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
        said = _of_input(error) if isinstance(error, InvalidInputError) else str(error)
        return code_of(type(error)) or FAILED, _kebab(type(error).__name__), said
    if (message := getattr(error, "format_message", None)) is not None:  # typer's own, which has no public name
        return USAGE, "usage", _with_hint(error, str(message()).removeprefix("Invalid value: "))
    # of a database's error only what the server said: the rest is a page of SQL
    said = " ".join(f"{type(error).__name__}: {getattr(error, 'orig', error)}".split())
    return FAILED, "unexpected", f"unexpected {said} (JOBTRAIL_LOG_LEVEL=DEBUG shows the traceback)"


def _of_input(error: InvalidInputError) -> str:
    """By the names that were written, not as pointers into a body."""
    names = (flaw.pointer.removeprefix("/args").removeprefix("/") for flaw in error.flaws)
    return "; ".join(
        f"{name}: {flaw.detail}" if name else flaw.detail for name, flaw in zip(names, error.flaws, strict=True)
    )


def code_of(kind: type[BaseException]) -> int | None:
    """What the table says of this error or the nearest of its parents."""
    return next((CODES[parent] for parent in kind.__mro__ if parent in CODES), None)


def _with_hint(error: Exception, message: str) -> str:
    path = getattr(getattr(error, "ctx", None), "command_path", "jobtrail")
    return f"{' '.join(message.split()).rstrip('.')} (see `{path} --help`)"


def _kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name.removesuffix("Error")).lower()
