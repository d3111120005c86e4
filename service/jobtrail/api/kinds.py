"""Every kind of problem, and which error is of which kind: the one table between errors and HTTP."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from fastapi.exceptions import RequestValidationError
from starlette.requests import ClientDisconnect

from jobtrail.api.errors import (
    BodyTooLargeError,
    BodyTooSlowError,
    ContentTypeError,
    NotThisMachineError,
    ProblemNotFoundError,
    TaskNotFoundError,
    TooManyConnectionsError,
)
from jobtrail.job import errors


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
    413,
    "body-too-large",
    "The body is too large",
    "Nothing was stored. Keep large data elsewhere and pass its address.",
)
_INVALID: Final = Kind(
    422,
    "invalid-input",
    "The request does not say what the call needs",
    "Nothing was stored or changed. Each entry of `errors` says where and what: a JSON pointer leads into the body, "
    "`?name` is a query parameter, `{name}` a part of the path and `Name:` a header.",
)
INTERNAL: Final = Kind(
    500, "internal-error", "The service failed", "A mistake of the service. Its log has the trace id of this answer."
)

KINDS: Final[Mapping[type[Exception], Kind]] = {
    errors.NotJsonError: Kind(
        400,
        "not-json",
        "The body is not JSON",
        "`detail` says in which line and column it stops being JSON (RFC 8259).",
    ),
    ClientDisconnect: Kind(400, "incomplete-body", "The body broke off", "Less arrived than was announced."),
    errors.UnauthorizedError: Kind(
        401,
        "unauthorized",
        "An access key is needed",
        "Send a valid one as `Authorization: Bearer KEY`; `jobtrail keys create` makes one. Why a key is refused is "
        "not told: it may be wrong, expired or revoked.",
    ),
    errors.ForbiddenError: Kind(
        403, "forbidden", "The caller may not do this", "`detail` names the scope that its key lacks."
    ),
    NotThisMachineError: Kind(
        403,
        "not-this-machine",
        "Only this machine is served",
        "Nobody is asked for an access key while there is none, so only requests are taken that were made for "
        "`localhost` or 127.0.0.1, by the headers Host and Origin. `jobtrail keys create` makes a key and ends this.",
    ),
    errors.AccessKeyNotFoundError: Kind(404, "key-not-found", "No such access key", "`GET /keys` lists them."),
    errors.JobNotFoundError: Kind(
        404,
        "job-not-found",
        "No such job",
        "It never existed, or it was purged; its transitions may still be there. To a key that may only submit, the "
        "jobs of others do not exist.",
    ),
    TaskNotFoundError: Kind(404, "task-not-found", "No such task", "No task of that name is known here."),
    errors.UnknownQueueError: Kind(
        404, "queue-not-found", "No such queue", "No node names it, no task goes there, and no job is in it."
    ),
    ProblemNotFoundError: Kind(404, "problem-not-found", "No such kind of problem", "`GET /problems` lists them."),
    errors.UnknownQuestionError: Kind(404, "question-not-found", "No such audit question", "`detail` names them all."),
    BodyTooSlowError: Kind(
        408, "body-too-slow", "The body took too long", "Nothing was stored. The connection is closed; send it again."
    ),
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
    errors.OverloadedError: Kind(
        429,
        "too-many-waiting",
        "Too many submits are waiting",
        "Nothing was stored. Try again after the seconds of Retry-After.",
    ),
    errors.AuditTimeoutError: Kind(
        504, "audit-timeout", "The question took too long", "It was ended. Narrow it with its parameters and ask again."
    ),
    errors.UnavailableError: Kind(
        503,
        "unavailable",
        "The service cannot do this now",
        "The database did not answer, or this process is shutting down. Nothing was stored. Try again after the "
        "seconds of Retry-After.",
    ),
    errors.OutcomeUnknownError: Kind(
        503,
        "outcome-unknown",
        "It is not known whether this was done",
        "The database did not answer after the request was sent to it, so it may have been carried out. `job_id`, if "
        "given, is that of the job which may be stored: ask for it before you send the request again. With an "
        "Idempotency-Key a repeat is safe, and so it is for what is no new job.",
    ),
    TooManyConnectionsError: Kind(
        503,
        "overloaded",
        "Too many connections are open",
        "Nothing was done, and the connection is closed. Try again after the seconds of Retry-After.",
    ),
    Exception: INTERNAL,
}

OF_STATUS: Final = {kind.status: kind for kind in (_NOT_FOUND, _METHOD, _TOO_LARGE, _INVALID, INTERNAL)}
"""For errors that the framework raises itself."""

BY_SLUG: Final = {kind.slug: kind for kind in sorted({*KINDS.values(), *OF_STATUS.values()})}
