"""Problems (RFC 9457): the answer that an error becomes."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from fastapi.exceptions import HTTPException as FastAPIHTTPException
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from jobtrail import errors
from jobtrail.api import links
from jobtrail.api.access import challenge
from jobtrail.api.headers import complete, trace_of
from jobtrail.api.problem_types import (
    INTERNAL,
    OF_STATUS,
    PROBLEM_TYPES,
    BodyTooSlowError,
    ProblemType,
    TooManyConnectionsError,
)
from jobtrail.errors import FieldError, JobtrailError
from jobtrail.ids import new_trace_id
from jobtrail.task.storable import MAX_FLAWS, clip, step, visible

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"


def type_of(error: Exception) -> ProblemType:
    """The type of the closest class in the table; a status without a type of ours is `about:blank`."""
    if isinstance(error, HTTPException):
        return OF_STATUS.get(error.status_code) or ProblemType(error.status_code, "", _phrase(error.status_code), "")
    return next(PROBLEM_TYPES[each] for each in type(error).__mro__ if each in PROBLEM_TYPES)


def is_for_the_host(request: Request, error: Exception) -> bool:
    """True if the app has a handler of its own for a class that is nearer to the error than any of ours."""
    for each in type(error).__mro__:
        if each in PROBLEM_TYPES or each in (HTTPException, FastAPIHTTPException):
            return False
        if each in request.app.exception_handlers:
            return True
    return False


def answer(request: Request, error: Exception) -> Response:
    """The problem that the caller gets. An unexpected error goes to the log, and only there, with its traceback."""
    kind, trace_id = type_of(error), trace_of(request) or new_trace_id()
    if kind is INTERNAL:
        log.error("%s %s failed", request.method, request.scope["path"], exc_info=error, extra={"trace_id": trace_id})
    flaws = _flaws(error)
    content: dict[str, object] = {
        "type": links.path(request, links.PROBLEM, slug=kind.slug) if kind.slug else "about:blank",
        "title": kind.title,
        "status": kind.status,
        "detail": _detail(error, kind, flaws),
        "instance": quote(request.scope["path"], errors="replace"),
        "trace_id": trace_id,
    }
    if isinstance(error, errors.OutcomeUnknownError) and error.job_id is not None:
        content["job_id"] = str(error.job_id)
    if kind.status == HTTPStatus.UNPROCESSABLE_ENTITY:
        content["errors"] = [{"pointer": clip(flaw.pointer, 1000), "detail": clip(flaw.detail, 1000)} for flaw in flaws]
    response = Response(to_json(content), kind.status, {**_headers(request, error), "X-Trace-Id": trace_id}, MEDIA_TYPE)
    complete(response.raw_headers, request)
    return response


def _detail(error: Exception, kind: ProblemType, flaws: Sequence[FieldError]) -> str:
    match error:
        case errors.InvalidInputError() | RequestValidationError():
            first, more = flaws[0], len(flaws) - 1
            return clip(f"{first.pointer or 'the body'}: {first.detail}", 2000) + (
                f" (and {more} more)" if more else ""
            )
        case HTTPException():
            said: object = error.detail  # a host's own may be any JSON
            return clip(said) if isinstance(said, str) else kind.title
        case _:
            return kind.meaning if kind is INTERNAL else clip(str(error)) or kind.meaning


def _flaws(error: Exception) -> Sequence[FieldError]:
    match error:
        case JobtrailError():
            return error.flaws
        case RequestValidationError():
            return [_flaw(each) for each in error.errors()[:MAX_FLAWS]]
        case _:
            return ()


def _flaw(found: Mapping[str, Any]) -> FieldError:
    """An error of pydantic, at the place where the caller wrote it."""
    where, *steps = found["loc"]
    detail = str(found["msg"]).removeprefix("Value error, ")
    match where, steps:
        case "body", _:
            return FieldError("".join(map(step, steps)), detail)
        case "query", [name, *_]:
            return FieldError(f"?{visible(str(name))}", detail)
        case "path", [name, *_]:
            return FieldError(f"{{{name}}}", detail)
        case _:
            return FieldError(f"{visible(str(steps[0] if steps else where))}:", detail)


def _headers(request: Request, error: Exception) -> Mapping[str, str]:
    match error:
        case errors.UnauthorizedError() | errors.ForbiddenError():
            return {"WWW-Authenticate": challenge(request, error)}
        case TooManyConnectionsError():
            return {"Retry-After": str(error.retry_after), **_goodbye(request)}
        case errors.UnavailableError():
            return {"Retry-After": str(error.retry_after)}
        case BodyTooSlowError():
            return _goodbye(request)
        case HTTPException():
            return error.headers or {}
        case _:
            return {}


def _goodbye(request: Request) -> Mapping[str, str]:
    """HTTP/2 has other words for it, and forbids these (RFC 9113, section 8.2.2)."""
    return {"Connection": "close"} if request.scope["http_version"].startswith("1") else {}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "The request was refused"
