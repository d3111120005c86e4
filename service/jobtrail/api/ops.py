"""The calls about an operator's nouns: nodes, pauses, limits, audit questions and access keys. Of each noun the rows of
its calls, what they take and answer, and the calls themselves. Those of schedules are in `schedules`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Body
from pydantic import ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from jobtrail import errors
from jobtrail.api import problems, schemas
from jobtrail.api.context import ApiContext
from jobtrail.api.openapi import OF_BODY, OF_DATABASE
from jobtrail.api.query import Reason, once
from jobtrail.api.representation import answer
from jobtrail.api.route import OPERATE, READ, Row
from jobtrail.callers import SCOPES, Scope
from jobtrail.ops import audit, keys, limits, nodes, pauses
from jobtrail.ranges import MAX_NUMBER
from jobtrail.records import shown
from jobtrail.task.submission import Documented, Moment, Seconds, seconds

Node: Final = schemas.of_record(nodes.NodeRecord, "Node")
NodeList: Final = schemas.list_of(Node, "NodeList", "By their start.")

Pause: Final = schemas.of_record(pauses.Pause, "Pause")
PauseList: Final = schemas.list_of(Pause, "PauseList", "Queues first, then tasks, by name.")


class PauseBody(Documented):
    """Why; the whole body may be left out."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[Reason | None, Field(description="For whoever wonders why nothing runs.")] = None


_PAUSES: Final[schemas.Examples] = {
    "why": {"summary": "With a reason", "value": {"reason": "the provider is down"}},
}

Limit: Final = schemas.of_record(limits.LimitRecord, "Limit")
LimitList: Final = schemas.list_of(Limit, "LimitList", "By key, at most 1,000.")


class LimitBody(Documented):
    """The number that holds instead of the declared one."""

    model_config = ConfigDict(extra="forbid")

    number: Annotated[
        float,
        Field(
            strict=True, ge=0, le=MAX_NUMBER, allow_inf_nan=False, description="Of jobs at once, or of a rate's cost."
        ),
    ]


_LIMITS: Final[schemas.Examples] = {"pause": {"summary": "Start no more jobs of the key", "value": {"number": 0}}}

_Parameter: Final[Any] = schemas.of_record(audit.Parameter, "QuestionParameter")
Question: Final = schemas.of_record(audit.Question, "Question", parameters=list[_Parameter])
QuestionList: Final = schemas.list_of(Question, "QuestionList", "All the audit questions.")


class Answer(schemas.Shape):
    """Rows as objects, their keys in the order of `columns`."""

    name: str
    columns: list[str]
    items: list[dict[str, Any]]


AccessKey: Final = schemas.of_record(keys.KeyRecord, "AccessKey")
AccessKeyList: Final = schemas.list_of(
    AccessKey, "AccessKeyList", "In the order in which they were made, revoked and expired ones too."
)


class NewAccessKey(AccessKey):  # type: ignore[misc, valid-type] # made from the record
    """With the key itself, this once."""

    key: Annotated[str, Field(description="Send it as `Authorization: Bearer KEY`. It is never shown again.")]


class KeyBody(Documented):
    """A key that is wanted. Without an end it lives until it is revoked."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "not": {
                "properties": {"expires_in": {"type": "number"}, "expires_at": {"type": "string"}},
                "required": ["expires_in", "expires_at"],
            }
        },
    )

    name: Annotated[
        str, Field(strict=True, pattern=keys.NAME_PATTERN, description="Of the caller, which will be `key:NAME`.")
    ]
    scopes: Annotated[
        list[Scope], Field(min_length=1, max_length=len(SCOPES), description="What it may do: any of these.")
    ]
    expires_in: Annotated[
        Annotated[Seconds, Field(ge=keys.MIN_LIFE, le=keys.MAX_LIFE)] | None, Field(description="Seconds from now.")
    ] = None
    expires_at: Annotated[
        Moment | None, Field(description="Instead: a time in the next ten years (RFC 3339 with a zone).")
    ] = None


_KEYS: Final[schemas.Examples] = {
    "submit": {
        "summary": "For a program that submits, for 90 days",
        "value": {"name": "shop", "scopes": ["submit"], "expires_in": 7_776_000},
    }
}


def rows(context: ApiContext) -> Sequence[Row]:
    calls = OpsRoutes(context)
    paused = (errors.UnknownQueueError, problems.TaskNotFoundError, *OF_DATABASE)
    limited = (errors.InvalidInputError, errors.LimitNotFoundError, *OF_DATABASE)
    asked = (errors.UnknownQuestionError, errors.InvalidInputError, *OF_DATABASE, errors.AuditTimeoutError)
    return [
        Row(READ, "GET", "/nodes", calls.list_nodes, 200, NodeList, "nodes", "List the nodes", OF_DATABASE),
        Row(READ, "GET", "/pauses", calls.list_pauses, 200, PauseList, "pauses", "List what is paused", OF_DATABASE),
        Row(OPERATE, "PUT", "/pauses/{kind}/{name}", calls.put_pause, 200, Pause, "pauses",
            "Pause a queue or a task", (*OF_BODY, *paused)),
        Row(OPERATE, "DELETE", "/pauses/{kind}/{name}", calls.delete_pause, 204, None, "pauses",
            "Resume a queue or a task", (errors.InvalidInputError, *paused)),
        Row(READ, "GET", "/limits", calls.list_limits, 200, LimitList, "limits", "List the limits in use", OF_DATABASE),
        Row(READ, "GET", "/limits/{key:path}", calls.get_limit, 200, Limit, "limits", "Read a limit", limited),
        Row(OPERATE, "PUT", "/limits/{key:path}", calls.put_limit, 200, Limit, "limits",
            "Override the number of a limit", (*OF_BODY, *OF_DATABASE)),
        Row(OPERATE, "DELETE", "/limits/{key:path}", calls.delete_limit, 204, None, "limits",
            "Let the declared number hold again", (errors.InvalidInputError, *OF_DATABASE)),
        Row(READ, "GET", "/audit", calls.list_questions, 200, QuestionList, "audit", "List the audit questions"),
        Row(READ, "GET", "/audit/{name}", calls.ask, 200, Answer, "audit", "Ask an audit question", asked),
    ]  # fmt: skip


def rows_of_keys(context: ApiContext) -> Sequence[Row]:
    """Never among a host's routes: a host knows its callers by itself."""
    calls = OpsRoutes(context)
    revokes = (errors.InvalidInputError, errors.AccessKeyNotFoundError, *OF_DATABASE)
    return [
        Row(OPERATE, "GET", "/keys", calls.list_keys, 200, AccessKeyList, "keys", "List the access keys", OF_DATABASE),
        Row(OPERATE, "POST", "/keys", calls.create_key, 201, NewAccessKey, "keys", "Make an access key",
            (*OF_BODY, *OF_DATABASE)),
        Row(OPERATE, "DELETE", "/keys/{key_id}", calls.revoke_key, 204, None, "keys", "Revoke an access key", revokes),
    ]  # fmt: skip


@dataclass(frozen=True)
class OpsRoutes:
    """/nodes, /pauses, /limits, /audit and /keys."""

    context: ApiContext

    async def list_nodes(self) -> Response:
        """The processes that run jobs: since when, which tasks and queues, how full."""
        return answer({"items": [shown(node) for node in await nodes.read_nodes(self.context.services)]})

    async def list_pauses(self) -> Response:
        """What is paused: by whom, since when and why."""
        return answer({"items": await pauses.read_pauses(self.context.services)})

    async def put_pause(
        self,
        request: Request,
        kind: pauses.PauseKind,
        name: str,
        wanted: Annotated[PauseBody | None, Body(openapi_examples=_PAUSES)] = None,
    ) -> Response:
        """No more jobs of the queue or the task are started, on any node; those that run go on.

        What is paused already stays as it is, with who did it first and why.
        """
        reason, by = wanted.reason if wanted else None, self.context.access.caller(request).name
        with problems.task_in_path():
            return answer(await pauses.pause(self.context.services, kind, name, by=by, reason=reason))

    async def delete_pause(self, request: Request, kind: pauses.PauseKind, name: str) -> Response:
        """Its jobs are started again, within about a second. The same for what was not paused."""
        with problems.task_in_path():
            await pauses.resume(self.context.services, kind, name, by=self.context.access.caller(request).name)
        return Response(status_code=204)

    async def list_limits(self) -> Response:
        """The keys that unfinished jobs have, and those whose number is overridden."""
        return answer({"items": await limits.read_limits(self.context.services)})

    async def get_limit(self, key: str) -> Response:
        """One key: its number, the override, how many run and wait."""
        return answer(await limits.read_limit(self.context.services, key))

    async def put_limit(
        self, request: Request, key: str, wanted: Annotated[LimitBody, Body(openapi_examples=_LIMITS)]
    ) -> Response:
        """The number holds for this key on all nodes, within about a second, until the override is removed. What runs
        goes on.
        """
        by = self.context.access.caller(request).name
        return answer(await limits.override_limit(self.context.services, key, wanted.number, by=by))

    async def delete_limit(self, request: Request, key: str) -> Response:
        """The number that the task declares holds again. The same for a key without an override."""
        await limits.restore_limit(self.context.services, key, by=self.context.access.caller(request).name)
        return Response(status_code=204)

    async def list_questions(self) -> Response:
        """What can be asked, with its parameters and its SQL."""
        return answer({"items": [shown(each) for each in audit.questions().values()]})

    async def ask(self, request: Request, name: str) -> Response:
        """The answer to one question, read only and within a time limit. Parameters are given as `?name=value`."""
        asked = audit.question(name)
        given = once(request, [each.name for each in asked.parameters])
        async with self.context.services.session() as session:
            try:
                found = await audit.ask(session, asked, given)
            except errors.InvalidInputError as error:
                flaws = [errors.FieldError(f"?{flaw.pointer[1:]}", flaw.detail) for flaw in error.flaws]
                raise errors.InvalidInputError(flaws) from None
        return answer({"name": name, "columns": found.columns, "items": found.items()})

    async def list_keys(self) -> Response:
        """Every key that was ever made, and who made and revoked it; never a key itself."""
        return answer({"items": await keys.list_keys(self.context.services)})

    async def create_key(self, request: Request, wanted: Annotated[KeyBody, Body(openapi_examples=_KEYS)]) -> Response:
        """The answer holds the key, this once. A caller gives no scope that it lacks, and no end later than its own."""
        caller = self.context.access.caller(request)
        for scope in wanted.scopes:  # else who may operate could make itself a key to submit with
            if not caller.may((scope,)):
                raise errors.ForbiddenError(caller.name, (scope,))
        record, text = await keys.create_key(
            self.context.services,
            wanted.name,
            wanted.scopes,
            by=caller.name,
            expires_at=wanted.expires_at,
            lives_for=seconds(wanted.expires_in),
            no_longer=seconds(caller.lives_for),
        )
        return answer({**shown(record), "key": text}, 201)

    async def revoke_key(self, request: Request, key_id: UUID) -> Response:
        """It is refused everywhere within a second; its row stays. The same for one that is revoked already."""
        await keys.revoke_key(self.context.services, key_id, by=self.context.access.caller(request).name)
        return Response(status_code=204)
