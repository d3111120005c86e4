"""Problems (RFC 9457): the table that says which error has which status and type, and the answer that it becomes.

First the errors that only HTTP can bring; `errors` has the others.
"""

import http.client
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from fastapi.exceptions import HTTPException as FastAPIHTTPException
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from jobtrail import errors
from jobtrail.api import links
from jobtrail.api.headers import complete, trace_id_of
from jobtrail.ops.webhooks import WebhookNotFoundError
from jobtrail.task.storable import MAX_FLAWS, clip, step, visible

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"


class BodyTooLargeError(errors.JobtrailError):
    """The body is longer than `limit` bytes; it was not read to its end."""

    def __init__(self, limit: int) -> None:
        self.limit: Final = limit
        super().__init__(f"the body is longer than the limit of {limit} bytes")


class ContentTypeError(errors.JobtrailError):
    """The body is not announced as JSON."""

    def __init__(self, content_type: str | None) -> None:
        self.content_type: Final = content_type
        said = "the header Content-Type is missing" if content_type is None else f"this is {content_type!r:.200}"
        super().__init__(f"the body must be application/json: {said}")


class TaskNotFoundError(errors.UnknownTaskError):
    """The path names a task that is not registered here."""


@contextmanager
def task_in_path() -> Iterator[None]:
    """A task that the path names, and not the body."""
    try:
        yield
    except errors.UnknownTaskError as error:
        raise TaskNotFoundError(error.name, error.near) from None


class ProblemNotFoundError(errors.JobtrailError):
    """The path names no kind of problem."""

    def __init__(self, slug: str) -> None:
        self.slug: Final = slug
        super().__init__(f"there is no such kind of problem: {slug!r:.200}; the list is one level up")


class BodyTooSlowError(errors.JobtrailError):
    """The body did not arrive within `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds: Final = seconds
        super().__init__(f"the body did not arrive within {seconds:g} s")


class NotThisMachineError(errors.JobtrailError):
    """While there are no access keys: a request that was not made for this machine, as its `header` tells."""

    def __init__(self, header: str, said: str) -> None:
        self.header: Final = header
        self.said: Final = said
        super().__init__(
            f"as long as there are no access keys only this machine is served, and {header} is {said!r:.200}: call it "
            "by localhost or 127.0.0.1, or make a key with `jobtrail keys create`, which every caller must send then"
        )


class TooManyConnectionsError(errors.UnavailableError):
    """More than `most` connections are open; this one is closed."""

    def __init__(self, most: int) -> None:
        self.most: Final = most
        super().__init__(f"more than {most} connections are open; this one is closed")


class TooManyStreamsError(errors.UnavailableError):
    """As many event streams are open as JOBTRAIL_STREAMS says."""

    def __init__(self, most: int) -> None:
        super().__init__(f"this process serves {most} event streams already (JOBTRAIL_STREAMS)")


class ProblemType(NamedTuple):
    """One type of problem. The last part of its `type` is `slug`, and `meaning` is what that page says."""

    status: int
    slug: str
    title: str
    meaning: str


_NOT_FOUND: Final = ProblemType(404, "not-found", "Nothing is here", "No call of this service has this path.")
_METHOD: Final = ProblemType(
    405, "method-not-allowed", "The path has no such method", "The header Allow names a method that the path has."
)
_TOO_LARGE: Final = ProblemType(
    413,
    "body-too-large",
    "The body is too large",
    "Nothing was stored. Keep large data elsewhere and pass its address.",
)
_INVALID: Final = ProblemType(
    422,
    "invalid-input",
    "The request does not say what the call needs",
    "Nothing was stored or changed. Each entry of `errors` says where and what: a JSON pointer leads into the body, "
    "`?name` is a query parameter, `{name}` a part of the path and `Name:` a header.",
)
INTERNAL: Final = ProblemType(
    500, "internal-error", "The service failed", "A mistake of the service. Its log has the trace id of this answer."
)

PROBLEM_TYPES: Final[Mapping[type[Exception], ProblemType]] = {
    errors.NotJsonError: ProblemType(400, "not-json", "The body is not JSON",
        "`detail` says in which line and column it stops being JSON (RFC 8259)."),
    ClientDisconnect: ProblemType(400, "incomplete-body", "The body broke off",
        "Less arrived than was announced."),
    errors.UnauthorizedError: ProblemType(401, "unauthorized", "An access key is needed",
        "Send a valid one as `Authorization: Bearer KEY`; `jobtrail keys create` makes one. Why a key is refused is"
        " not told: it may be wrong, expired or revoked."),
    errors.ForbiddenError: ProblemType(403, "forbidden", "The caller may not do this",
        "`detail` names the scope that its key lacks."),
    NotThisMachineError: ProblemType(403, "not-this-machine", "Only this machine is served",
        "Nobody is asked for an access key while there is none, so only requests are taken that were made for "
        "`localhost` or 127.0.0.1, by the headers Host and Origin. `jobtrail keys create` makes a key and ends "
        "this."),
    errors.LimitNotFoundError: ProblemType(404, "limit-not-found", "No such limit",
        "No unfinished job has this key, and its number is not overridden. A PUT may override any key's number."),
    errors.AccessKeyNotFoundError: ProblemType(404, "key-not-found", "No such access key",
        "`GET /keys` lists them."),
    errors.BatchNotFoundError: ProblemType(404, "batch-not-found", "No such batch",
        "It never existed, or it was done long ago. To a key that may only submit, those of others do not exist."),
    errors.JobNotFoundError: ProblemType(404, "job-not-found", "No such job",
        "It never existed, or it was purged; its transitions may still be there. To a key that may only submit, the"
        " jobs of others do not exist."),
    errors.ScheduleNotFoundError: ProblemType(404, "schedule-not-found", "No such schedule",
        "`GET /schedules` lists them."),
    TaskNotFoundError: ProblemType(404, "task-not-found", "No such task",
        "No task of that name is known here."),
    errors.UnknownQueueError: ProblemType(404, "queue-not-found", "No such queue",
        "No node names it, no task goes there, and no job is in it."),
    WebhookNotFoundError: ProblemType(404, "webhook-not-found", "No such webhook",
        "`GET /webhooks` lists them."),
    ProblemNotFoundError: ProblemType(404, "problem-not-found", "No such kind of problem",
        "`GET /problems` lists them."),
    errors.UnknownQuestionError: ProblemType(404, "question-not-found", "No such audit question",
        "`detail` names them all."),
    BodyTooSlowError: ProblemType(408, "body-too-slow", "The body took too long",
        "Nothing was stored. The connection is closed; send it again."),
    errors.JobConflictError: ProblemType(409, "job-conflict", "The job's status does not allow this",
        "Nothing was changed. Read the job again."),
    errors.JobFinishedError: ProblemType(409, "job-finished", "The job has ended",
        "It succeeded or failed: there is nothing left to cancel."),
    errors.ScheduleBusyError: ProblemType(409, "schedule-busy", "A job of the schedule has not ended",
        "Nothing was stored. `GET /schedules/NAME` shows its last jobs."),
    errors.PreconditionError: ProblemType(412, "precondition-failed", "It has changed",
        "Its ETag is not in If-Match any more. Read it again."),
    BodyTooLargeError: _TOO_LARGE,
    ContentTypeError: ProblemType(415, "not-json-content", "The body must be JSON",
        "Send it with `Content-Type: application/json`."),
    errors.InvalidInputError: _INVALID,
    RequestValidationError: _INVALID,
    errors.InvalidArgumentsError: ProblemType(422, "invalid-arguments", "The arguments do not fit the task",
        "Nothing was stored. The task's signature is its schema: see `GET /tasks/NAME`."),
    errors.UnknownTaskError: ProblemType(422, "unknown-task", "No such task",
        "Nothing was stored. `GET /tasks` lists the tasks of this process."),
    errors.IdempotencyKeyReusedError: ProblemType(422, "idempotency-key-reused",
        "The idempotency key came with another body",
        "Nothing was stored. A key belongs to one request; use a new key for a new job."),
    errors.LimitFullError: ProblemType(429, "limit-full", "A limit of the task is full",
        "Nothing was stored: the task does not wait for its limits. `detail` names the key; send it again later."),
    errors.BacklogFullError: ProblemType(429, "backlog-full", "Too many jobs are pending",
        "Nothing was stored: the queue or the limit key that `detail` names has as many pending jobs as it may have. "
        "Send it again later."),
    errors.OverloadedError: ProblemType(429, "too-many-waiting", "Too many submits are waiting",
        "Nothing was stored. Try again after the seconds of Retry-After."),
    errors.AuditTimeoutError: ProblemType(504, "audit-timeout", "The question took too long",
        "It was ended. Narrow it with its parameters and ask again."),
    errors.UnavailableError: ProblemType(503, "unavailable", "The service cannot do this now",
        "The database did not answer, or this process is shutting down. Nothing was stored. Try again after the "
        "seconds of Retry-After."),
    errors.OutcomeUnknownError: ProblemType(503, "outcome-unknown", "It is not known whether this was done",
        "The database did not answer after the request was sent to it, so it may have been carried out. `job_id`, "
        "if given, is that of the job which may be stored: ask for it before you send the request again. With an "
        "Idempotency-Key a repeat is safe, and so it is for what is no new job."),
    TooManyConnectionsError: ProblemType(503, "overloaded", "Too many connections are open",
        "Nothing was done, and the connection is closed. Try again after the seconds of Retry-After."),
    TooManyStreamsError: ProblemType(503, "too-many-streams", "Too many event streams are open",
        "Try again after the seconds of Retry-After, or ask another process."),
    Exception: INTERNAL,
}  # fmt: skip

OF_STATUS: Final = {each.status: each for each in (_NOT_FOUND, _METHOD, _TOO_LARGE, _INVALID, INTERNAL)}
"""For errors that the framework raises itself."""

BY_SLUG: Final = {each.slug: each for each in sorted({*PROBLEM_TYPES.values(), *OF_STATUS.values()})}


def type_of(error: Exception) -> ProblemType:
    """The type of the closest class in the table; a status without a type of ours is `about:blank`."""
    if isinstance(error, HTTPException):
        status = error.status_code
        title = http.client.responses.get(status, "The request was refused")
        return OF_STATUS.get(status) or ProblemType(status, "", title, "")
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
    kind, trace_id = type_of(error), trace_id_of(request)
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
    complete(response.raw_headers, request.scope)
    return response


def _detail(error: Exception, kind: ProblemType, flaws: Sequence[errors.FieldError]) -> str:
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


def _flaws(error: Exception) -> Sequence[errors.FieldError]:
    match error:
        case errors.JobtrailError():
            return error.flaws
        case RequestValidationError():
            return [_flaw(each) for each in error.errors()[:MAX_FLAWS]]
        case _:
            return ()


def _flaw(found: Mapping[str, Any]) -> errors.FieldError:
    """An error of pydantic, at the place where the caller wrote it."""
    where, *steps = found["loc"]
    detail = str(found["msg"]).removeprefix("Value error, ")
    match where, steps:
        case "body", _:
            return errors.FieldError("".join(map(step, steps)), detail)
        case "query", [name, *_]:
            return errors.FieldError(f"?{visible(str(name))}", detail)
        case "path", [name, *_]:
            return errors.FieldError(f"{{{name}}}", detail)
        case _:
            return errors.FieldError(f"{visible(str(steps[0] if steps else where))}:", detail)


def _headers(request: Request, error: Exception) -> Mapping[str, str]:
    found: Mapping[str, str] = {}
    match error:
        case errors.ForbiddenError():
            needed = f'error="insufficient_scope", scope="{error.needs[0]}"'
            found = {"WWW-Authenticate": f'Bearer realm="jobtrail", {needed}'}
        case errors.UnauthorizedError():  # RFC 6750, section 3: an error is named only to who sent a key
            sent = any(each.lower().startswith("bearer") for each in request.headers.getlist("authorization"))
            found = {"WWW-Authenticate": 'Bearer realm="jobtrail"' + (', error="invalid_token"' if sent else "")}
        case errors.UnavailableError():
            found = {"Retry-After": str(error.retry_after)}
        case HTTPException():
            found = error.headers or {}
        case _:
            pass
    if isinstance(error, BodyTooSlowError | TooManyConnectionsError) and request.scope["http_version"].startswith("1"):
        return {**found, "Connection": "close"}  # HTTP/2 forbids it (RFC 9113, section 8.2.2)
    return found
