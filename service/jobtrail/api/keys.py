"""Access keys over HTTP: listing, making, revoking."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Final
from uuid import UUID

from fastapi import Body
from fastapi.openapi.models import Example
from pydantic import ConfigDict, Field
from pydantic.config import JsonDict
from starlette.requests import Request
from starlette.responses import Response

from jobtrail.api import representation
from jobtrail.api.context import ApiContext
from jobtrail.errors import ForbiddenError
from jobtrail.ops.access import SCOPES, Caller, Scope
from jobtrail.ops.keys import MAX_LIFE, MIN_LIFE, NAME_PATTERN, create_key, list_keys, revoke_key
from jobtrail.records import shown
from jobtrail.task.submission import Documented, Moment, Seconds, seconds

EXAMPLES: Final[dict[str, Example]] = {
    "submit": {
        "summary": "For a program that submits, for 90 days",
        "value": {"name": "shop", "scopes": ["submit"], "expires_in": 7_776_000},
    }
}


_ENDS_TWICE: Final[JsonDict] = {
    "properties": {"expires_in": {"type": "number"}, "expires_at": {"type": "string"}},
    "required": ["expires_in", "expires_at"],
}


class KeyBody(Documented):
    """A key that is wanted. Without an end it lives until it is revoked."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"not": _ENDS_TWICE})

    name: Annotated[
        str, Field(strict=True, pattern=NAME_PATTERN, description="Of the caller, which will be `key:NAME`.")
    ]
    scopes: Annotated[
        list[Scope], Field(min_length=1, max_length=len(SCOPES), description="What it may do: any of these.")
    ]
    expires_in: Annotated[
        Annotated[Seconds, Field(ge=MIN_LIFE, le=MAX_LIFE)] | None, Field(description="Seconds from now.")
    ] = None
    expires_at: Annotated[
        Moment | None, Field(description="Instead: a time in the next ten years (RFC 3339 with a zone).")
    ] = None


@dataclass(frozen=True)
class KeyRoutes:
    """/keys."""

    context: ApiContext

    async def list_keys(self) -> Response:
        """Every key that was ever made, and who made and revoked it; never a key itself."""
        return representation.answer({"items": await list_keys(self.context.services)})

    async def create_key(
        self, request: Request, wanted: Annotated[KeyBody, Body(openapi_examples=EXAMPLES)]
    ) -> Response:
        """The answer holds the key, this once. A caller gives no scope that it lacks, and no end later than its own."""
        caller = self.context.access.caller(request)
        _refuse_to_give(caller, wanted.scopes)
        record, text = await create_key(
            self.context.services,
            wanted.name,
            wanted.scopes,
            by=caller.name,
            expires_at=wanted.expires_at,
            lives_for=seconds(wanted.expires_in),
            no_longer=seconds(caller.lives_for),
        )
        return representation.answer({**shown(record), "key": text}, 201)

    async def revoke_key(self, request: Request, key_id: UUID) -> Response:
        """It is refused everywhere within a second; its row stays. The same for one that is revoked already."""
        await revoke_key(self.context.services, key_id, by=self.context.access.caller(request).name)
        return Response(status_code=204)


def _refuse_to_give(caller: Caller, scopes: Collection[Scope]) -> None:
    """Else who may operate could make itself a key to submit with."""
    for scope in scopes:
        if not caller.may((scope,)):
            raise ForbiddenError(caller.name, (scope,))
