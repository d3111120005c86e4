"""Refusals of the service as errors of Python, by the types of their problems (RFC 9457).

A type that `errors` has a class for is an error of that class, as it would be without HTTP in between.
"""

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote
from uuid import UUID

import httpx

from jobtrail import errors
from jobtrail.errors import FieldError, JobtrailError

KINDS: Final[Mapping[str, type[JobtrailError]]] = {
    "unauthorized": errors.UnauthorizedError,
    "forbidden": errors.ForbiddenError,
    "job-not-found": errors.JobNotFoundError,
    "batch-not-found": errors.BatchNotFoundError,
    "schedule-not-found": errors.ScheduleNotFoundError,
    "job-conflict": errors.JobConflictError,
    "job-finished": errors.JobFinishedError,
    "schedule-busy": errors.ScheduleBusyError,
    "invalid-input": errors.InvalidInputError,
    "invalid-arguments": errors.InvalidArgumentsError,
    "unknown-task": errors.UnknownTaskError,
    "idempotency-key-reused": errors.IdempotencyKeyReusedError,
    "limit-full": errors.LimitFullError,
    "backlog-full": errors.BacklogFullError,
    "too-many-waiting": errors.OverloadedError,
    "unavailable": errors.UnavailableError,
    "overloaded": errors.UnavailableError,
    "too-many-streams": errors.UnavailableError,
    "outcome-unknown": errors.OutcomeUnknownError,
}

LONGEST_PAUSE: Final = 60
"""Seconds to the next request that an answer is believed."""

_GATEWAY: Final = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)

_IN_PATH: Final = re.compile(r"/(jobs|batches|schedules)/([^/]+)(?:/[a-z]+)?$")


class ApiError(JobtrailError):
    """A refusal, or an answer that is none of Jobtrail's. `status` is that of HTTP; `type` the last part of the
    problem's type, or empty.
    """

    def __init__(
        self, status: int, type_: str, title: str, detail: str, errors: Sequence[FieldError], trace_id: str | None
    ) -> None:
        self.status: Final = status
        self.type: Final = type_
        self.title: Final = title
        self.detail: Final = detail
        self.flaws = errors
        self.trace_id: Final = trace_id
        super().__init__(f"{status} {title}" + (f": {detail}" if detail else ""))

    @property
    def errors(self) -> Sequence[FieldError]:
        return self.flaws


def require(response: httpx.Response) -> None:
    """Raises the error of an answer that is no success. Its class's facts are set where the answer tells them, else
    None.
    """
    if response.is_success:
        return
    said = _problem(response)
    type_, detail = str(said.get("type") or "").rpartition("/")[2], str(said.get("detail") or "")
    flaws, trace_id = _flaws(said.get("errors")), said.get("trace_id")
    kind = KINDS.get(type_)
    if kind is None and response.status_code in _GATEWAY:
        raise lost(response.request, f"a gateway answered {response.status_code}", retry_after_of(response))
    if kind is None:
        title = str(said.get("title") or response.reason_phrase)
        raise ApiError(response.status_code, type_, title, detail, flaws, None if trace_id is None else str(trace_id))
    error = kind.__new__(kind, detail)  # its own words, instead of those of __init__
    vars(error).update(_facts(kind, response, said), flaws=flaws)
    error.add_note(f"answered with {response.status_code}, trace id {trace_id}")
    raise error


def alien(response: httpx.Response, what: str) -> ApiError:
    """The error of an answer that is not the service's."""
    detail = f"{response.request.url} answers, but {what}: is it the address of a Jobtrail, with /v1?"
    return ApiError(response.status_code, "", "Not an answer of Jobtrail", detail, (), None)


def lost(request: httpx.Request, reason: str, retry_after: int) -> errors.UnavailableError:
    """The error of a request that may have been carried out."""
    what = f"{request.method} {request.url}: {reason}"
    if request.method == "GET":
        return errors.UnavailableError(what, retry_after)
    error = errors.OutcomeUnknownError(what)
    vars(error)["retry_after"] = retry_after
    return error


def retry_after_of(response: httpx.Response) -> int:
    """Seconds; 1 where the answer does not say."""
    said = response.headers.get("Retry-After", "")
    return min(int(said), LONGEST_PAUSE) if re.fullmatch("[0-9]{1,9}", said) else 1


def _problem(response: httpx.Response) -> Mapping[str, Any]:
    """Empty for an answer that is none."""
    if response.headers.get("Content-Type", "").partition(";")[0] != "application/problem+json":
        return {}
    try:
        said = response.json()
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _flaws(said: object) -> Sequence[FieldError]:
    """What is none, as a proxy may have its own of the same name, is left out."""
    found = [each for each in said if isinstance(each, dict)] if isinstance(said, list) else []
    return [FieldError(str(each.get("pointer")), str(each.get("detail"))) for each in found]


def _facts(kind: type[JobtrailError], response: httpx.Response, said: Mapping[str, Any]) -> dict[str, Any]:
    named = inspect.signature(kind).parameters.values()
    facts: dict[str, Any] = {each.name: None for each in named if each.kind is each.POSITIONAL_OR_KEYWORD}
    if found := _IN_PATH.search(response.request.url.path):
        noun, name = found[1], unquote(found[2])
        fact = {"jobs": "job_id", "batches": "batch_id", "schedules": "name"}[noun]
        facts |= {fact: name if noun == "schedules" else _id(name)} if fact in facts else {}
    if "job_id" in said:
        facts["job_id"] = _id(str(said["job_id"]))
    if issubclass(kind, errors.UnavailableError):
        facts["retry_after"] = retry_after_of(response)
    return facts


def _id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
