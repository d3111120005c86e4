"""Many jobs in one call: those that a filter names."""

from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Body
from pydantic import ConfigDict, Field, StrictBool, field_validator
from starlette.requests import Request
from starlette.responses import Response

from jobtrail.api import representation
from jobtrail.api.context import ApiContext
from jobtrail.api.examples import BULKS
from jobtrail.api.query import Filters, Reason
from jobtrail.api.schemas import AnyAction
from jobtrail.api.submissions import refuse_while_closing
from jobtrail.errors import FieldError, InvalidInputError
from jobtrail.jobs.bulk import Action, bulk
from jobtrail.task.submission import WHOLE, Documented

MOST: Final = 10_000
"""Jobs of one call, so that its answer comes within seconds."""


_LISTS: Final = ("status", "task", "queue", "tag", "trace_id")
_TIMES: Final = ("created_after", "created_before")


def _name_something(said: dict[str, Any]) -> None:
    """Says in JSON Schema what the validators ask for."""
    for name in _LISTS:
        said["properties"][name]["minItems"] = 1
    times = [{"properties": {name: {"type": "string"}}, "required": [name]} for name in _TIMES]
    said["anyOf"] = [*({"required": [name]} for name in _LISTS), *times]


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
    """The JSON Schema of a body with this action."""
    statuses = {"items": {"enum": [str(each) for each in action.statuses]}}
    said = {"action": {"const": str(action)}, "filter": {"properties": {"status": statuses}}}
    return {"properties": said if action is Action.CANCEL else {**said, "reason": {"type": "null"}}}


class BulkBody(Documented):
    """What to do with which jobs. `limit` jobs at most are changed, the oldest first; call again for the rest."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"anyOf": [_fitting(action) for action in Action]}
    )

    action: AnyAction
    filter: BulkFilter
    dry_run: Annotated[StrictBool, Field(description="Only count.")] = False
    reason: Annotated[Reason | None, Field(description="Of a cancel: kept in the rows and the history.")] = None
    limit: Annotated[int, Field(strict=True, ge=1, le=MOST, description="How many jobs at most."), WHOLE] = MOST


@dataclass(frozen=True)
class BulkRoutes:
    """/jobs/bulk."""

    context: ApiContext

    async def move_jobs(self, request: Request, wanted: Annotated[BulkBody, Body(openapi_examples=BULKS)]) -> Response:
        """Cancels, or retries by hand, the jobs of a filter, in batches: each job as if it were named alone.

        `matched` jobs fitted the action when the call began. `changed` of them were moved, or asked to stop where they
        were running, and `remaining` are as they were: beyond the limit, or locked by somebody else.
        """
        action = Action(wanted.action)
        if action is Action.RETRY:
            refuse_while_closing(self.context)
            if wanted.reason is not None:
                raise InvalidInputError([FieldError("/reason", "only a cancel has a reason")])
        try:
            done = await bulk(
                self.context.services,
                action,
                wanted.filter.filter(),
                by=self.context.access.caller(request).name,
                reason=wanted.reason or None,
                dry_run=wanted.dry_run,
                most=wanted.limit,
            )
        except InvalidInputError as error:
            raise error.under("/filter") from None
        return representation.answer(representation.of_bulk(action, done, dry_run=wanted.dry_run))
