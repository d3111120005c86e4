"""Headers and refusals in the OpenAPI description."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI

from jobtrail import errors
from jobtrail.api import problems
from jobtrail.api.headers import IDEMPOTENCY_KEY, IDEMPOTENCY_PATTERN
from jobtrail.callers import Scope

Responses = dict[int | str, dict[str, Any]]

OF_BODY: Final = (
    errors.NotJsonError,
    problems.BodyTooSlowError,
    problems.BodyTooLargeError,
    problems.ContentTypeError,
    errors.InvalidInputError,
)
"""Refusals of a call with a body."""

OF_DATABASE: Final = (errors.UnavailableError,)

OF_SUBMIT: Final = (
    *OF_BODY,
    errors.UnknownTaskError,
    errors.InvalidArgumentsError,
    errors.LimitFullError,
    errors.BacklogFullError,
    errors.OverloadedError,
    *OF_DATABASE,
)

_OF_KEYS: Final = (errors.UnauthorizedError, errors.ForbiddenError, problems.NotThisMachineError)

_NEVER_CLOSED: Final = "/health/live"

_SCHEME: Final = "accessKey"
_SCHEMES: Final = {
    _SCHEME: {
        "type": "http",
        "scheme": "bearer",
        "description": "An access key, made with `jobtrail keys create`. Each call names the scopes of which it takes "
        "one; `operate` includes `read`. On loopback nobody is asked as long as there are no keys.",
    }
}

_TEXT: Final = {"type": "string"}

HEADERS: Final[Mapping[str, dict[str, Any]]] = {
    "X-Trace-Id": {
        "description": "The trace id of the caller's traceparent, else a new one; the log and problems name it.",
        "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    },
    "Location": {"description": "The address of the job.", "schema": {"type": "string", "format": "uri"}},
    "Retry-After": {"description": "Seconds after which to look or try again.", "schema": {"type": "integer"}},
    "Idempotency-Replayed": {"description": "The job was there already.", "schema": {"const": "true"}},
    "ETag": {"description": "Changes with anything of the job.", "schema": _TEXT},
    "WWW-Authenticate": {"description": "The scheme, and what was wrong (RFC 6750, section 3).", "schema": _TEXT},
    "Preference-Applied": {"description": "How long the answer could wait: wait=N.", "schema": _TEXT},
    "Link": {"description": 'The next page: rel="next".', "schema": _TEXT},
}

_WITH_STATUS: Final[Mapping[int, Sequence[str]]] = {
    401: ("WWW-Authenticate",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}

_FORMS: Final[Mapping[str, dict[str, Any]]] = {IDEMPOTENCY_KEY: {**_TEXT, "pattern": IDEMPOTENCY_PATTERN}}

_PARAMETERS: Final[Mapping[str, str]] = {
    "Idempotency-Key": (
        'One job per caller and key, however often it is sent: `"k"` (RFC 8941) or bare, at most 255 characters.'
    ),
    "traceparent": "W3C Trace Context; its trace id becomes the job's. An invalid one is ignored.",
    "If-None-Match": "An ETag: 304 while the job is still the same.",
    "Prefer": "wait=N (RFC 7240): answer when the job has ended, or after N seconds, at most 30.",
    "Last-Event-ID": "The id of the last event of the stream before: this one goes on after it.",
    "If-Match": "An ETag: 412 when the job has changed since.",
}


def parameters(names: Sequence[str]) -> dict[str, Any]:
    """Headers that a call reads, in the form of `openapi_extra`: as arguments each would cost every request a look."""
    listed = [
        {"name": name, "in": "header", "schema": _FORMS.get(name, _TEXT), "description": _PARAMETERS[name]}
        for name in names
    ]
    return {"parameters": listed} if listed else {}


def headers(names: Sequence[str]) -> dict[str, Any]:
    return {name: HEADERS[name] for name in (*names, "X-Trace-Id")}


def security(needs: Sequence[Scope]) -> dict[str, Any]:
    """In the form of `openapi_extra`: alternatives, of which each names one scope (OpenAPI 3.1, section 4.8.30)."""
    return {"security": [{_SCHEME: [scope]} for scope in needs]} if needs else {}


def refuses_alone(needs: Sequence[Scope], path: str) -> Sequence[type[Exception]]:
    """Refusals of the stand-alone service before a call is looked at."""
    return (*(_OF_KEYS if needs else ()), *(() if path == _NEVER_CLOSED else (problems.TooManyConnectionsError,)))


def tell_of_keys(app: FastAPI) -> None:
    """FastAPI learns of security from dependencies, which would cost each request a look."""
    told = app.openapi

    def openapi() -> dict[str, Any]:
        described = told()
        described.setdefault("components", {})["securitySchemes"] = _SCHEMES
        return described

    app.openapi = openapi  # type: ignore[method-assign]  # the documented way to say more


def refusals(of: Sequence[type[Exception]]) -> Responses:
    """One entry for each status, naming the kinds of problem that come with it."""
    found: dict[int, list[problems.ProblemType]] = {}
    for error in of:
        kind = problems.PROBLEM_TYPES[error]
        found.setdefault(kind.status, []).append(kind)
    return {status: _refusal(status, kinds) for status, kinds in sorted(found.items())}


def _refusal(status: int, kinds: Sequence[problems.ProblemType]) -> dict[str, Any]:
    return {
        "description": "; ".join(f"{kind.title} (`{kind.slug}`)" for kind in dict.fromkeys(kinds)),
        "headers": headers(_WITH_STATUS.get(status, ())),
        "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/JobtrailProblem"}}},
    }
