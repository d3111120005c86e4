"""The records in the service's answers. What the service keeps to itself is a constant in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar, cast
from uuid import UUID

import httpx
from pydantic import TypeAdapter

from jobtrail.client.problems import ApiError
from jobtrail.records import Job, Transition
from jobtrail.task.schedule import Detail, Schedule

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Part of a list; `next_cursor` leads to the next one, None on the last."""

    items: Sequence[T]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Moved:
    """What came of a call for many jobs: `matched` were those that it fitted, `remaining` are as they were."""

    matched: int
    changed: int
    remaining: int


def json_of(response: httpx.Response) -> Any:
    """Raises ApiError for an answer that is not the service's."""
    try:
        return response.json()
    except ValueError:
        detail = f"{response.request.url} answers, but not with JSON: is it the address of a Jobtrail, with /v1?"
        raise ApiError(response.status_code, "", "Not an answer of Jobtrail", detail, (), None) from None


def read(record: type[T], values: Mapping[str, Any]) -> T:
    """Fields that this version does not know are left out."""
    kind: Any = record
    return cast("T", _adapter(kind).validate_python(values))


def job_of(values: Mapping[str, Any]) -> Job:
    return read(Job, {"seq": 0, "args": {}, "result": None, **values})


def transition_of(job_id: UUID | str, values: Mapping[str, Any]) -> Transition:
    return read(Transition, {"job_id": job_id, **values})


def schedule_of(values: Mapping[str, Any]) -> Schedule:
    return read(Schedule, {"resumed_at": None, "edition": 0, **values})


def detail_of(values: Mapping[str, Any]) -> Detail:
    found = {"schedule": schedule_of(values), "last_jobs": [job_of(each) for each in values["last_jobs"]]}
    return read(Detail, {**values, **found})


@cache
def _adapter(record: Any) -> TypeAdapter[Any]:
    return TypeAdapter(record)
