"""How access keys look outside: never with what they are compared with."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from jobtrail.api.schemas import Shape
from jobtrail.job.access import Scope
from jobtrail.job.key import KeyRecord, State


class AccessKey(Shape):
    """A key without its secret, which nobody can read any more."""

    id: UUID
    name: Annotated[str, Field(description="Of the caller, which is `key:NAME`; several keys may have one name.")]
    prefix: Annotated[str, Field(description="The key begins with `jt_PREFIX_`.")]
    scopes: list[Scope]
    state: Annotated[State, Field(description="Now, by the database's clock.")]
    created_at: datetime
    created_by: str
    expires_at: Annotated[datetime | None, Field(description="null: never.")]
    revoked_at: datetime | None
    revoked_by: str | None
    last_used_at: Annotated[datetime | None, Field(description="To the minute; null: never.")]


class AccessKeyList(Shape):
    """In the order in which they were made, revoked and expired ones too."""

    items: list[AccessKey]


class NewAccessKey(AccessKey):
    """With the key itself, this once."""

    key: Annotated[str, Field(description="Send it as `Authorization: Bearer KEY`. It is never shown again.")]


def of_key(record: KeyRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "name": record.name,
        "prefix": record.prefix,
        "scopes": record.scopes,
        "state": record.state,
        "created_at": record.created_at,
        "created_by": record.created_by,
        "expires_at": record.expires_at,
        "revoked_at": record.revoked_at,
        "revoked_by": record.revoked_by,
        "last_used_at": record.last_used_at,
    }
