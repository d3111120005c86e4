"""The bodies that calls about jobs take, each with the examples that the documentation shows."""

from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field, StrictBool, field_validator

from jobtrail.api.query import Filters, Reason
from jobtrail.api.schemas import AnyAction, Examples
from jobtrail.jobs.bulk import Action
from jobtrail.ranges import MAX_BATCH
from jobtrail.task.submission import WHOLE, Documented, Submission

_LEAST: Final = {"task": "send_email", "args": {"to": "ann@example.org"}}

SUBMISSIONS: Final[Examples] = {
    "least": {"summary": "A task and its arguments", "value": _LEAST},
    "all": {
        "summary": "Everything that can be said",
        "value": {
            **_LEAST,
            "queue": "mail",
            "priority": 7,
            "tags": ["customer:42"],
            "run_at": "2030-01-31T12:00:00Z",
            "ttl": 86400,
            "timeout": 30,
            "max_attempts": 5,
        },
    },
}

AMENDMENTS: Final[Examples] = {
    "keep": {"summary": "Keep the row for ever", "value": {"ttl": None}},
    "later": {"summary": "Not before a time", "value": {"run_at": "2030-01-31T12:00:00Z"}},
}


class Batch(Documented):
    """Jobs that are stored together or not at all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    jobs: Annotated[list[Submission], Field(min_length=1, max_length=MAX_BATCH)]


BATCHES: Final[Examples] = {
    "two": {"summary": "Two jobs, both or none", "value": {"jobs": [_LEAST, {**_LEAST, "priority": 9}]}}
}


class CancelBody(Documented):
    """Why; the whole body may be left out."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[Reason | None, Field(description="Kept in the row and the history.")] = None


class RetryBody(Documented):
    """Nothing can be said of a retry; what is said all the same would be taken for done."""

    model_config = ConfigDict(extra="forbid")


_LISTS: Final = ("status", "task", "queue", "tag", "trace_id", "schedule")
_TIMES: Final = ("created_after", "created_before")


def _name_something(said: dict[str, Any]) -> None:
    """Says in JSON Schema what the validators ask for."""
    for name in _LISTS:
        said["properties"][name]["minItems"] = 1
    times = [{"properties": {name: {"type": "string"}}, "required": [name]} for name in _TIMES]
    # an anyOf of its own would be read as alternatives without a type
    said["if"] = {"not": {"anyOf": [*({"required": [name]} for name in _LISTS), *times]}}
    said["then"] = {"not": {}}


class BulkFilter(Documented, Filters):
    """Which jobs, as in the list; it must name something."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_name_something)

    @field_validator(*_LISTS)
    @classmethod
    def _names_one(cls, values: list[str]) -> list[str]:
        if not values:
            raise ValueError("an empty list would mean any: name one at least, or leave the field out")
        return values


def _fitting(action: Action) -> dict[str, Any]:
    """The JSON Schema of what fits this action."""
    filters = {"properties": {"status": {"items": {"enum": [str(each) for each in action.statuses]}}}}
    return {"properties": {"filter": filters, **({} if action is Action.CANCEL else {"reason": {"type": "null"}})}}


# not as alternatives: a generator of clients would make a model of each, and of two filters of one name
_OF_ACTION: Final[dict[str, Any]] = {
    "if": {"properties": {"action": {"const": str(Action.CANCEL)}}},
    "then": _fitting(Action.CANCEL),
    "else": _fitting(Action.RETRY),
}

MOST_MOVED: Final = 10_000
"""Jobs of one call, so that its answer comes within seconds."""


class BulkBody(Documented):
    """What to do with which jobs. `limit` jobs at most are changed, the oldest first; call again for the rest."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=_OF_ACTION)

    action: AnyAction
    filter: BulkFilter
    dry_run: Annotated[StrictBool, Field(description="Only count.")] = False
    reason: Annotated[Reason | None, Field(description="Of a cancel: kept in the rows and the history.")] = None
    limit: Annotated[int, Field(strict=True, ge=1, le=MOST_MOVED, description="How many jobs at most."), WHOLE] = (
        MOST_MOVED
    )


BULKS: Final[Examples] = {
    "count": {
        "summary": "How many would be retried",
        "value": {"action": "retry", "filter": {"status": ["failed"], "task": ["send_email"]}, "dry_run": True},
    },
    "cancel": {
        "summary": "Cancel what waits in a queue",
        "value": {"action": "cancel", "filter": {"status": ["pending"], "queue": ["mail"]}, "reason": "sent by hand"},
    },
}
