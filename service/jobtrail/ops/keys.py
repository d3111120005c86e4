"""Access keys: made, listed, revoked, and verified with each request.

A key is `jt_PREFIX_SECRET`. The prefix finds its row and may be shown; of the rest only a hash is kept. A row that was
written in psql counts as one of ours.
"""

import base64
import hashlib
import logging
import re
import secrets
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import Field
from sqlalchemy import Column, LargeBinary, Table, Text, Uuid, text

from jobtrail import errors, ids, ranges
from jobtrail.callers import SCOPES, Scope
from jobtrail.db.tables import TEXTS, TIME, metadata
from jobtrail.jobs.services import Services

log = logging.getLogger(__name__)

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.:@-]{0,99}$"
MIN_LIFE: Final = 1
MAX_LIFE: Final = ranges.MAX_TTL
"""Seconds; longer is for ever, or a mistake."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key without its secret, which nobody can read any more."""

    id: UUID
    name: Annotated[str, Field(description="Of the caller, which is `key:NAME`; several keys may have one name.")]
    prefix: Annotated[str, Field(description="The key begins with `jt_PREFIX_`.")]
    scopes: Sequence[Scope]
    state: Annotated[Literal["active", "expired", "revoked"], Field(description="Now, by the database's clock.")]
    created_at: datetime
    created_by: str
    expires_at: Annotated[datetime | None, Field(description="null: never.")]
    revoked_at: datetime | None
    revoked_by: str | None
    last_used_at: Annotated[datetime | None, Field(description="To the minute; null: never.")]


TABLE: Final = Table(
    "keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False, unique=True),
    Column("hash", LargeBinary, nullable=False),
    Column("scopes", TEXTS, nullable=False),
    Column("created_at", TIME, nullable=False, server_default=text("clock_timestamp()")),
    Column("created_by", Text, nullable=False, server_default=text("session_user")),
    Column("expires_at", TIME),
    Column("revoked_at", TIME),
    Column("revoked_by", Text),
    Column("last_used_at", TIME),
    info={"rights": "SELECT, INSERT, UPDATE"},
)

_RECORD: Final = """
id, name, prefix, scopes,
CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= clock_timestamp() THEN 'expired' ELSE 'active' END,
created_at, created_by, expires_at, revoked_at, revoked_by, last_used_at
"""

# One time for the whole statement: "for ten years" must be within ten years from now.
_PUT: Final = text(f"""
INSERT INTO jobtrail.keys (id, name, prefix, hash, scopes, created_at, created_by, expires_at)
SELECT :id, :name, :prefix, :hash, :scopes, statement_timestamp(), :actor, ends.at
  FROM (SELECT least(coalesce(CAST(:expires_at AS timestamptz), statement_timestamp() + CAST(:lives_for AS interval)),
                     statement_timestamp() + CAST(:no_longer AS interval))) AS ends(at)
 WHERE ends.at IS NULL
    OR ends.at > statement_timestamp() AND ends.at <= statement_timestamp() + CAST(:longest AS interval)
RETURNING {_RECORD}
""")


async def create_key(
    services: Services,
    name: str,
    scopes: Sequence[Scope],
    *,
    by: str,
    expires_at: datetime | None = None,
    lives_for: timedelta | None = None,
    no_longer: timedelta | None = None,
) -> tuple[KeyRecord, str]:
    """The key's row, and its text, which cannot be read again. Several keys may have one name: they are one
    caller, so that a key can be replaced while both work. `no_longer`: it ends by then, whatever else was said.

    Raises InvalidInputError with pointers to name, scopes, expires_at and expires_in, and UnavailableError.
    """
    if flaws := flaws_of(name, scopes, expires_at, lives_for):
        raise errors.InvalidInputError(flaws)
    new = make()
    in_order = [scope for scope in SCOPES if scope in scopes]
    parameters = {
        "id": ids.new_job_id(), "name": name, "prefix": new.prefix, "hash": new.hash, "scopes": in_order, "actor": by,
        "expires_at": expires_at, "lives_for": lives_for, "no_longer": no_longer,
        "longest": timedelta(seconds=MAX_LIFE),
    }  # fmt: skip
    async with services.transaction() as session:
        row = (await session.execute(_PUT, parameters)).one_or_none()
    if row is None:
        how = "write a time that is to come, at most ten years ahead"
        raise errors.InvalidInputError([errors.FieldError("/expires_at", how)])
    services.has_keys.set()
    log.info("access key made", extra={"prefix": new.prefix, "key_name": name, "scopes": in_order, "by": by})
    return KeyRecord(*row), new.text


def flaws_of(
    name: str, scopes: Collection[str], expires_at: datetime | None, lives_for: timedelta | None
) -> list[errors.FieldError]:
    """All that is wrong with a wish for a key, except for what only the database's clock can tell."""
    found = []
    if not re.fullmatch(NAME_PATTERN, name):
        found.append(
            errors.FieldError("/name", "write 1 to 100 letters, digits and _ . : @ -, a letter or digit first")
        )
    if not scopes or not set(scopes) <= set(SCOPES):
        how = "write what the key may do: read, submit, operate, or several of them"
        found.append(errors.FieldError("/scopes", how))
    if expires_at is not None and lives_for is not None:
        found.append(errors.FieldError("/expires_at", "say it once: a time or a duration"))
    if lives_for is not None and not timedelta(seconds=MIN_LIFE) <= lives_for <= timedelta(seconds=MAX_LIFE):
        found.append(errors.FieldError("/expires_in", "a key lives for 1 second to ten years"))
    return found


async def list_keys(services: Services) -> Sequence[KeyRecord]:
    """In the order in which they were made, revoked and expired ones too."""
    statement = text(f"SELECT {_RECORD} FROM jobtrail.keys ORDER BY created_at, id")
    async with services.session() as session:
        return [KeyRecord(*row) for row in await session.execute(statement)]


# The first to revoke it stays in the row.
_REVOKE: Final = text(f"""
UPDATE jobtrail.keys
   SET revoked_at = coalesce(revoked_at, clock_timestamp()), revoked_by = coalesce(revoked_by, :actor)
 WHERE id = CAST(:id AS uuid) OR prefix = CAST(:prefix AS text)
RETURNING {_RECORD}
""")


async def revoke_key(services: Services, written: UUID | str, *, by: str) -> KeyRecord:
    """The key as it is afterwards; one that is revoked already stays as it is, with who did it first.

    `written` is the key's id, its prefix, its beginning or all of it.
    Raises AccessKeyNotFoundError, in which no secret is, and UnavailableError.
    """
    key_id, prefix = _named(written)
    if key_id is None and prefix is None:
        raise errors.AccessKeyNotFoundError(shown(str(written)))
    async with services.transaction() as session:
        row = (await session.execute(_REVOKE, {"id": key_id, "prefix": prefix, "actor": by})).one_or_none()
    if row is None:
        raise errors.AccessKeyNotFoundError(prefix or str(key_id))
    record = KeyRecord(*row)
    log.info("access key revoked", extra={"prefix": record.prefix, "key_name": record.name, "by": by})
    return record


async def any_keys(services: Services) -> bool:
    """True if there is any, revoked and expired ones too: to revoke the last one opens nothing.

    Raises UnavailableError.
    """
    async with services.session() as session:
        return bool((await session.execute(text("SELECT EXISTS (SELECT FROM jobtrail.keys)"))).scalar_one())


_TEXT: Final = re.compile(r"jt_([a-z2-7]{12})_[A-Za-z0-9_-]{43}")
_BEGINNING: Final = re.compile(r"(?:jt_)?([a-z2-7]{12})(?:_.*)?", re.DOTALL)
_SHOWN: Final = len("jt_") + 12


@dataclass(frozen=True, slots=True)
class NewKey:
    """`text` is for its owner alone, and shown once; `hash` is what stays."""

    text: str = field(repr=False)
    prefix: str
    hash: bytes = field(repr=False)


def make() -> NewKey:
    """60 random bits to be found by, and 256 that are secret."""
    prefix = base64.b32encode(secrets.token_bytes(8)).decode().lower()[:12]
    text = f"jt_{prefix}_{secrets.token_urlsafe(32)}"
    return NewKey(text, prefix, digest(text))


def parse(text: str) -> str | None:
    """The prefix of what has the form of a key, else None. Reads no more of a long text than a key is long."""
    written = _TEXT.fullmatch(text)
    return written and written[1]


def digest(text: str) -> bytes:
    """32 bytes. A slow hash is for passwords, which can be guessed: 2**256 secrets cannot be tried."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


def shown(written: str) -> str:
    """As much of a text as may be repeated: should a key be in it, its secret is not."""
    return written if len(written) <= _SHOWN else f"{written[:_SHOWN]}…"


def _named(written: UUID | str) -> tuple[UUID | None, str | None]:
    """The id or the prefix in whatever an operator has of a key."""
    if isinstance(written, UUID):
        return written, None
    if (found := _BEGINNING.fullmatch(written)) is not None:
        return None, found[1]
    with suppress(ValueError):
        return UUID(written), None
    return None, None
