"""What the documentation says of headers and refusals."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from jobtrail.api.errors import BodyTooLargeError, ContentTypeError
from jobtrail.api.kinds import KINDS, Kind
from jobtrail.api.problems import MEDIA_TYPE
from jobtrail.job.errors import InvalidInputError, NotJsonError, UnavailableError

Responses = dict[int | str, dict[str, Any]]

OF_BODY: Final = (NotJsonError, BodyTooLargeError, ContentTypeError, InvalidInputError)
"""What a call with a body may answer."""

OF_DATABASE: Final = (UnavailableError,)

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
    "Link": {"description": 'The next page: rel="next".', "schema": _TEXT},
}

_PARAMETERS: Final[Mapping[str, str]] = {
    "Idempotency-Key": (
        'One job per caller and key, however often it is sent: `"k"` (RFC 8941) or bare, at most 255 characters.'
    ),
    "traceparent": "W3C Trace Context; its trace id becomes the job's. An invalid one is ignored.",
    "If-None-Match": "An ETag: 304 while the job is still the same.",
    "If-Match": "An ETag: 412 when the job has changed since.",
}


def parameters(names: Sequence[str]) -> dict[str, Any]:
    """Headers that a call reads, in the form of `openapi_extra`: as arguments each would cost every request a look."""
    listed = [{"name": name, "in": "header", "schema": _TEXT, "description": _PARAMETERS[name]} for name in names]
    return {"parameters": listed} if listed else {}


def headers(names: Sequence[str]) -> dict[str, Any]:
    return {name: HEADERS[name] for name in (*names, "X-Trace-Id")}


def refusals(errors: Sequence[type[Exception]]) -> Responses:
    """One entry for each status, naming the kinds of problem that come with it."""
    found: dict[int, list[Kind]] = {}
    for error in errors:
        kind = KINDS[error]
        found.setdefault(kind.status, []).append(kind)
    return {status: _refusal(status, kinds) for status, kinds in sorted(found.items())}


def _refusal(status: int, kinds: Sequence[Kind]) -> dict[str, Any]:
    retry = ("Retry-After",) if status == HTTPStatus.SERVICE_UNAVAILABLE else ()
    return {
        "description": "; ".join(f"{kind.title} (`{kind.slug}`)" for kind in dict.fromkeys(kinds)),
        "headers": headers(retry),
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/JobtrailProblem"}}},
    }
