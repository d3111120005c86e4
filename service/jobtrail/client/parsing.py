"""The records in the service's answers. What the service keeps to itself is a constant in them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Generic, TypeVar, cast
from uuid import UUID

import httpx
from pydantic import TypeAdapter, ValidationError

from jobtrail.client.problems import alien
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


def parsed(response: httpx.Response, reading: Callable[[Any], T]) -> T:
    """What `reading` makes of the JSON of an answer. Raises ApiError for an answer that is not the service's."""
    try:
        said = response.json()
    except (ValueError, RecursionError):
        raise alien(response, "not with JSON") from None
    try:
        return reading(said)
    except MISREAD as error:
        raise alien(response, f"not with what was asked for ({reason_of(error)})") from error


MISREAD: Final = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""How the reading of JSON of another shape ends; pydantic's ValidationError is a ValueError."""


def reason_of(error: Exception) -> str:
    """In a line, without the values."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
    return f"{type(error).__name__}: {error}"


def items_of(reading: Callable[[Any], T]) -> Callable[[Any], Sequence[T]]:
    """Reads the items of a list, each by `reading`."""
    return lambda said: [reading(each) for each in said["items"]]


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
