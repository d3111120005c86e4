"""Every error that can leave over HTTP, and the answer it becomes (RFC 9457). The one table is KINDS."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from jobtrail.api import links
from jobtrail.api.errors import BodyTooLargeError, ContentTypeError, TaskNotFoundError
from jobtrail.api.headers import trace_of
from jobtrail.job import errors
from jobtrail.job.errors import Flaw
from jobtrail.job.pointer import step, visible
from jobtrail.job.storable import MAX_FLAWS, clip
from jobtrail.job.trace import new_trace_id

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"


class Kind(NamedTuple):
    """One kind of problem; its slug is the last part of its type, and `meaning` is what that page says."""

    status: int
    slug: str
    title: str
    meaning: str


_NOT_FOUND: Final = Kind(404, "not-found", "Nothing is here", "No call of this service has this path.")
_METHOD: Final = Kind(
    405, "method-not-allowed", "The path has no such method", "The header Allow names a method that the path has."
)
_TOO_LARGE: Final = Kind(
    413, "body-too-large", "The body is too large", "Nothing was stored. Keep large data elsewhere and pass its address."
)
_INVALID: Final = Kind(
    422,
    "invalid-input",
    "The request does not say what the call needs",
    "Nothing was stored or changed. Each entry of `errors` says where and what: a JSON pointer leads into the body, "
    "`?name` is a query parameter, `{name}` a part of the path and `Name:` a header.",
)
_INTERNAL: Final = Kind(
    500, "internal-error", "The service failed", "A mistake of the service. Its log has the trace id of this answer."
)

KINDS: Final[Mapping[type[Exception], Kind]] = {
    errors.NotJsonError: Kind(
        400, "not-json", "The body is not JSON", "`detail` says in which line and column it stops being JSON (RFC 8259)."
    ),
    ClientDisconnect: Kind(400, "incomplete-body", "The body broke off", "Less arrived than was announced."),
    errors.JobNotFoundError: Kind(
        404, "job-not-found", "No such job", "It never existed, or it was purged; its transitions may still be there."
    ),
    TaskNotFoundError: Kind(404, "task-not-found", "No such task", "This process has no task of that name."),
    errors.UnknownQuestionError: Kind(404, "question-not-found", "No such audit question", "`detail` names them all."),
    errors.JobConflictError: Kind(
        409, "job-conflict", "The job's status does not allow this", "Nothing was changed. Read the job again."
    ),
    errors.JobFinishedError: Kind(
        409, "job-finished", "The job has ended", "It succeeded or failed: there is nothing left to cancel."
    ),
    errors.PreconditionError: Kind(
        412, "precondition-failed", "The job has changed", "Its ETag is not in If-Match any more. Read it again."
    ),
    BodyTooLargeError: _TOO_LARGE,
    ContentTypeError: Kind(
        415, "not-json-content", "The body must be JSON", "Send it with `Content-Type: application/json`."
    ),
    errors.InvalidInputError: _INVALID,
    RequestValidationError: _INVALID,
    errors.InvalidArgumentsError: Kind(
        422,
        "invalid-arguments",
        "The arguments do not fit the task",
        "Nothing was stored. The task's signature is its schema: see `GET /tasks/NAME`.",
    ),
    errors.UnknownTaskError: Kind(
        422, "unknown-task", "No such task", "Nothing was stored. `GET /tasks` lists the tasks of this process."
    ),
    errors.IdempotencyKeyReusedError: Kind(
        422,
        "idempotency-key-reused",
        "The idempotency key came with another body",
        "Nothing was stored. A key belongs to one request; use a new key for a new job.",
    ),
    errors.UnavailableError: Kind(
        503,
        "unavailable",
        "The service cannot do this now",
        "The database did not answer, or this process is shutting down. Try again after the seconds of Retry-After; "
        "with an Idempotency-Key a repeat is safe.",
    ),
    Exception: _INTERNAL,
}

OF_STATUS: Final = {kind.status: kind for kind in (_NOT_FOUND, _METHOD, _TOO_LARGE, _INVALID, _INTERNAL)}
"""For errors that the framework raises itself."""


def by_slug() -> Mapping[str, Kind]:
    return {kind.slug: kind for kind in sorted({*KINDS.values(), *OF_STATUS.values()})}


def kind_of(error: Exception) -> Kind:
    """The kind of the closest class in KINDS; a status without a kind of ours has the type `about:blank`."""
    if isinstance(error, HTTPException):
        return OF_STATUS.get(error.status_code) or Kind(error.status_code, "", _phrase(error.status_code), "")
    return next(KINDS[each] for each in type(error).__mro__ if each in KINDS)


def answer(request: Request, error: Exception) -> Response:
    """The problem that the caller gets. What nobody expected goes to the log, and only there, with its traceback."""
    kind, trace_id = kind_of(error), trace_of(request) or new_trace_id()
    if kind is _INTERNAL:
        log.error("%s %s failed", request.method, request.scope["path"], exc_info=error, extra={"trace_id": trace_id})
    content: dict[str, object] = {
        "type": links.path(request, links.PROBLEM, slug=kind.slug) if kind.slug else "about:blank",
        "title": kind.title,
        "status": kind.status,
        "detail": _detail(error, kind),
        "instance": quote(request.scope["path"], errors="replace"),
        "trace_id": trace_id,
    }
    if kind.status == HTTPStatus.UNPROCESSABLE_ENTITY:
        content["errors"] = [
            {"pointer": clip(flaw.pointer, 1000), "detail": clip(flaw.detail, 1000)} for flaw in _flaws(error)
        ]
    headers = {**_headers(error), "X-Trace-Id": trace_id}
    return Response(to_json(content), kind.status, headers, MEDIA_TYPE)


def _detail(error: Exception, kind: Kind) -> str:
    if kind is _INTERNAL:
        return kind.meaning
    if isinstance(error, HTTPException):
        return clip(error.detail) if isinstance(error.detail, str) else kind.title
    flaws = _flaws(error)
    if not flaws:
        return clip(str(error)) or kind.meaning
    more = f" (and {len(flaws) - 1} more)" if len(flaws) > 1 else ""
    return clip(f"{flaws[0].pointer}: {flaws[0].detail}" if flaws[0].pointer else flaws[0].detail, 2000) + more


def _flaws(error: Exception) -> Sequence[Flaw]:
    match error:
        case errors.InvalidInputError():
            return error.flaws
        case RequestValidationError():
            return [_flaw(each) for each in error.errors()[:MAX_FLAWS]]
        case TaskNotFoundError():
            return ()
        case errors.UnknownTaskError():
            return (Flaw("/task", str(error)),)
        case errors.IdempotencyKeyReusedError():
            return (Flaw("Idempotency-Key:", str(error)),)
        case _:
            return ()


def _flaw(found: Mapping[str, Any]) -> Flaw:
    """What pydantic found, at the place where the caller wrote it."""
    where, *steps = found["loc"]
    detail = str(found["msg"]).removeprefix("Value error, ")
    match where, steps:
        case "body", _:
            return Flaw("".join(map(step, steps)), detail)
        case "query", [name, *_]:
            return Flaw(f"?{visible(str(name))}", detail)
        case "path", [name, *_]:
            return Flaw(f"{{{name}}}", detail)
        case _:
            return Flaw(f"{visible(str(steps[0] if steps else where))}:", detail)


def _headers(error: Exception) -> Mapping[str, str]:
    match error:
        case errors.UnavailableError():
            return {"Retry-After": str(error.retry_after)}
        case HTTPException():
            return error.headers or {}
        case _:
            return {}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "The request was refused"
