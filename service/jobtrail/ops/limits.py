"""Limits, by key: the number that holds instead of the declared one, how many run, and how many wait.

A number comes with the task that declares it, so that no deploy has to write one; only an override is stored. It is
read under the lock of each claim, and counts from its commit on. 0 pauses a key: what runs goes on.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

from pydantic import Field
from sqlalchemy import Column, Index, Numeric, Table, Text, TextClause, text

from jobtrail.db.engine import Database
from jobtrail.db.group_commit import in_batches
from jobtrail.db.tables import TIME, metadata
from jobtrail.errors import FieldError, InvalidInputError, LimitNotFoundError
from jobtrail.jobs.services import Services
from jobtrail.ranges import MAX_LIMIT_KEY, MAX_NUMBER
from jobtrail.task.storable import check

log = logging.getLogger(__name__)

_BATCH: Final = 5000

MOST: Final = 1000
"""Keys of a list, and jobs of a key that are counted."""


@dataclass(frozen=True, slots=True)
class LimitRecord:
    """A key of limits or rates."""

    key: str
    number: Annotated[
        float | None, Field(description="As declared with one of its jobs; null: no unfinished job has the key.")
    ]
    per: Annotated[float | None, Field(description="Seconds, of a rate; null: it limits how many run at once.")]
    override: Annotated[float | None, Field(description="The number that holds instead; 0 pauses the key.")]
    running: int
    waiting: Annotated[int, Field(description=f"Pending jobs, due or not; counted up to {MOST}.")]
    changed_at: Annotated[datetime | None, Field(description="When the override was set.")]
    changed_by: str | None


TABLE: Final = Table(
    "limits",
    metadata,
    Column("key", Text, primary_key=True),
    Column("override", Numeric),
    Column("changed_at", TIME, nullable=False, server_default=text("clock_timestamp()")),
    Column("changed_by", Text, nullable=False, server_default=text("session_user")),
    Index("ix_limits_override", "key", postgresql_where=text("override IS NOT NULL")),
    info={"rights": "SELECT, INSERT, UPDATE, DELETE"},
)

SPENT: Final = Table(
    "rate_spent",
    metadata,
    Column("key", Text, primary_key=True),
    Column("slice", TIME, primary_key=True),
    Column("cost", Numeric, nullable=False),
    Column("until", TIME, nullable=False),
    info={"rights": "SELECT, INSERT, UPDATE, DELETE"},
)

# The lanes are the distinct keys of pending jobs together, one probe of their index each.
_FOUND: Final = text("""
WITH RECURSIVE lanes AS (
    (SELECT limit_keys AS lane, limit_terms AS terms FROM jobtrail.jobs
      WHERE status = 'pending' AND limit_keys IS NOT NULL ORDER BY limit_keys LIMIT 1)
    UNION ALL
    SELECT n.lane, n.terms FROM lanes l CROSS JOIN LATERAL (
        SELECT limit_keys AS lane, limit_terms AS terms FROM jobtrail.jobs
         WHERE status = 'pending' AND limit_keys IS NOT NULL AND limit_keys > l.lane ORDER BY limit_keys LIMIT 1) n
), waiting AS (
    SELECT k AS key, t AS terms, c.number
      FROM (SELECT lane, terms FROM lanes LIMIT 20000) l
     CROSS JOIN LATERAL (
           SELECT count(*) AS number FROM (
               SELECT FROM jobtrail.jobs WHERE status = 'pending' AND limit_keys IS NOT NULL AND limit_keys = l.lane
                LIMIT :most) w) c
     CROSS JOIN LATERAL ROWS FROM (unnest(l.lane), jsonb_array_elements(l.terms)) AS u(k, t)
), running AS (
    SELECT k AS key, t AS terms
      FROM jobtrail.jobs j CROSS JOIN LATERAL ROWS FROM (
           unnest(j.limit_keys), jsonb_array_elements(j.limit_terms)) AS u(k, t)
     WHERE j.status = 'running' AND j.limit_keys IS NOT NULL
), used AS (
    SELECT key, min((terms ->> 'number')::float8) AS number, min((terms ->> 'per')::float8) AS per,
           sum(runs)::int AS running, least(sum(waits), :most)::int AS waiting
      FROM (SELECT key, terms, 0 AS runs, number AS waits FROM waiting
            UNION ALL SELECT key, terms, 1, 0 FROM running) both_of
     WHERE key IS NOT NULL GROUP BY key
), overridden AS (
    SELECT key, override::float8 AS override, changed_at, changed_by FROM jobtrail.limits WHERE override IS NOT NULL
)
SELECT key, u.number, u.per, o.override, coalesce(u.running, 0), coalesce(u.waiting, 0), o.changed_at, o.changed_by
  FROM used u FULL JOIN overridden o USING (key)
 WHERE CAST(:key AS text) IS NULL OR key = :key
 ORDER BY key LIMIT :most
""")

_PUT: Final = text("""
INSERT INTO jobtrail.limits AS l (key, override, changed_by) VALUES (:key, CAST(:number AS numeric), :actor)
ON CONFLICT (key) DO UPDATE
   SET override = excluded.override, changed_at = clock_timestamp(), changed_by = excluded.changed_by
""")

_REMOVE: Final = text("""
UPDATE jobtrail.limits SET override = NULL, changed_at = clock_timestamp(), changed_by = :actor
 WHERE key = :key AND override IS NOT NULL RETURNING key
""")


# A claim makes the row of a key anew where it is missing; the time is for what an operator took back.
_UNUSED: Final = text("""
DELETE FROM jobtrail.limits WHERE key = ANY(ARRAY(
    SELECT key FROM jobtrail.limits WHERE override IS NULL AND changed_at < statement_timestamp() - interval '1 hour'
     LIMIT :most FOR UPDATE SKIP LOCKED)) AND override IS NULL
""")

_SPENT_LONG_AGO: Final = text("""
DELETE FROM jobtrail.rate_spent WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM jobtrail.rate_spent WHERE until < statement_timestamp() LIMIT :most FOR UPDATE SKIP LOCKED))
""")


async def purge_limits(database: Database) -> None:
    """Remove rows of keys that nothing overrides, and costs that no rate counts any more, in batches."""
    for statement in (_UNUSED, _SPENT_LONG_AGO):

        async def step(most: int, statement: TextClause = statement) -> bool:
            async with database.autocommit() as connection:
                return (await connection.execute(statement, {"most": most})).rowcount == most

        await in_batches(step, most=_BATCH)


async def read_limits(services: Services) -> Sequence[LimitRecord]:
    """At most 1,000 keys that unfinished jobs have, or that have an override, in the order of their texts."""
    return await _read(services, None)


async def read_limit(services: Services, key: str) -> LimitRecord:
    """Raises LimitNotFoundError for a key that no unfinished job has and that has no override."""
    if check(key) or not (found := await _read(services, key)):
        raise LimitNotFoundError(key)
    return found[0]


async def override_limit(services: Services, key: str, number: float, *, by: str) -> LimitRecord:
    """Set the number of a key, whatever is declared, until the override is removed. Any key may have one, before its
    first job too. Raises InvalidInputError, UnavailableError.
    """
    if check(key) or not 1 <= len(key) <= MAX_LIMIT_KEY:
        raise InvalidInputError([FieldError("/key", f"a key is a text of 1 to {MAX_LIMIT_KEY} characters")])
    if not 0 <= number <= MAX_NUMBER:
        raise InvalidInputError([FieldError("/number", "write a number from 0 on; 0 pauses the key")])
    async with services.transaction() as session:
        await session.execute(_PUT, {"key": key, "number": number, "actor": by})
    log.info("limit overridden", extra={"key": key, "number": number, "by": by})
    return await read_limit(services, key)


async def restore_limit(services: Services, key: str, *, by: str) -> bool:
    """Let the declared number hold again; whether there was an override."""
    if check(key):
        return False
    async with services.transaction() as session:
        removed = (await session.execute(_REMOVE, {"key": key, "actor": by})).one_or_none() is not None
    if removed:
        log.info("limit restored", extra={"key": key, "by": by})
    return removed


async def _read(services: Services, key: str | None) -> Sequence[LimitRecord]:
    async with services.session() as session:
        return [LimitRecord(*row) for row in await session.execute(_FOUND, {"most": MOST, "key": key})]
