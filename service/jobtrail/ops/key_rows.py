"""Access keys in the database: stored, listed, revoked, found by their prefix.

A row that was written in psql counts as one of ours.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.db.engine import Database
from jobtrail.ids import new_job_id
from jobtrail.ops.key_text import MAX_LIFE, KeyRecord, NewKey


class KeyRow(NamedTuple):
    """The facts that verify a key. `lives_for` in seconds, None: for ever; `is_stale`: last used a minute ago."""

    id: UUID
    name: str
    hash: bytes
    scopes: Sequence[str]
    is_revoked: bool
    lives_for: float | None
    is_stale: bool


class Found(NamedTuple):
    """The key of a prefix, if there is one; and whether there is any key at all, revoked and expired ones too."""

    key: KeyRow | None
    any_keys: bool


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

_ALL: Final = text(f"SELECT {_RECORD} FROM jobtrail.keys ORDER BY created_at, id")

# The first to revoke it stays in the row.
_REVOKE: Final = text(f"""
UPDATE jobtrail.keys
   SET revoked_at = coalesce(revoked_at, clock_timestamp()), revoked_by = coalesce(revoked_by, :actor)
 WHERE id = CAST(:id AS uuid) OR prefix = CAST(:prefix AS text)
RETURNING {_RECORD}
""")

_ANY: Final = text("SELECT EXISTS (SELECT FROM jobtrail.keys)")

_LOOK_UP: Final = text("""
SELECT EXISTS (SELECT FROM jobtrail.keys), k.id, k.name, k.hash, k.scopes, k.revoked_at IS NOT NULL,
       CAST(extract(epoch FROM k.expires_at - clock_timestamp()) AS float8),
       coalesce(k.last_used_at < clock_timestamp() - interval '1 minute', true)
  FROM unnest(CAST(:prefixes AS text[])) WITH ORDINALITY AS asked(prefix, place)
  LEFT JOIN jobtrail.keys k ON k.prefix = asked.prefix
 ORDER BY asked.place
""")

# A locked row is left as it is: no caller waits for this.
_SAY_USED: Final = text("""
UPDATE jobtrail.keys SET last_used_at = clock_timestamp()
 WHERE id = (SELECT id FROM jobtrail.keys
              WHERE id = :id AND coalesce(last_used_at < clock_timestamp() - interval '1 minute', true)
                FOR UPDATE SKIP LOCKED)
""")


async def put(
    session: AsyncSession,
    new: NewKey,
    *,
    name: str,
    scopes: Sequence[str],
    actor: str,
    expires_at: datetime | None,
    lives_for: timedelta | None,
    no_longer: timedelta | None,
) -> KeyRecord | None:
    """The row, in the caller's transaction; None if its end is not in the ten years to come."""
    parameters = {
        "id": new_job_id(), "name": name, "prefix": new.prefix, "hash": new.hash, "scopes": list(scopes),
        "actor": actor, "expires_at": expires_at, "lives_for": lives_for,
        "no_longer": no_longer, "longest": timedelta(seconds=MAX_LIFE),
    }  # fmt: skip
    row = (await session.execute(_PUT, parameters)).one_or_none()
    return None if row is None else KeyRecord(*row)


async def all_keys(session: AsyncSession) -> Sequence[KeyRecord]:
    """In the order in which they were made, revoked and expired ones too."""
    return [KeyRecord(*row) for row in (await session.execute(_ALL)).all()]


async def revoke(
    session: AsyncSession, *, key_id: UUID | None = None, prefix: str | None = None, actor: str
) -> KeyRecord | None:
    """The row as it is afterwards, in the caller's transaction; None if there is no such key."""
    row = (await session.execute(_REVOKE, {"id": key_id, "prefix": prefix, "actor": actor})).one_or_none()
    return None if row is None else KeyRecord(*row)


async def any_keys(session: AsyncSession) -> bool:
    """True if there is any key."""
    return bool((await session.execute(_ANY)).scalar_one())


async def look_up_group(database: Database, prefixes: Sequence[str]) -> Sequence[Found]:
    """The key of each prefix."""
    async with database.autocommit() as connection:
        rows = (await connection.execute(_LOOK_UP, {"prefixes": list(prefixes)})).all()
    return [Found(None if row.id is None else KeyRow(*row[1:]), row[0]) for row in rows]


async def say_used(database: Database, key_id: UUID) -> None:
    """Sets `last_used_at`, at most once a minute."""
    async with database.autocommit() as connection:
        await connection.execute(_SAY_USED, {"id": key_id})
