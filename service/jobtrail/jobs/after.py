"""Jobs that come after others: pending → pending, due now, once all of their parents succeeded; else → cancelled.

An edge is a parent that a child waits for; the table of the jobs makes them (`follow` of the migrations). They are
looked at after the commit in which a parent ended, never within: two parents that end at once do not see each other.
The node that ended one does so at once, which is a hint; each node looks for ended parents every few seconds, which is
what no child is forgotten by.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from jobtrail.db.engine import Database
from jobtrail.db.errors import FAILURES, reason
from jobtrail.db.group_commit import in_batches
from jobtrail.errors import FieldError, InvalidInputError, UnavailableError
from jobtrail.jobs.cancel import Cancellation, cancel_rows
from jobtrail.jobs.services import Services
from jobtrail.records import Job, NewJob
from jobtrail.status import Status

log = logging.getLogger(__name__)

BATCH: Final = 500
"""Children of one commit, and parents of one look, at most."""

_PATIENCE: Final = 0.5
"""Seconds that the caller of a submit waits for what is committed anyway."""

# After a purge only its birth tells who submitted a job.
_UNKNOWN: Final = text("""
SELECT u.id FROM unnest(CAST(:parents AS uuid[])) AS u(id)
 WHERE NOT EXISTS (SELECT FROM jobtrail.jobs j
                    WHERE j.id = ANY(ARRAY[u.id]) AND j.created_by = coalesce(:only_of, j.created_by))
   AND NOT EXISTS (SELECT FROM jobtrail.transitions t
                    WHERE t.job_id = ANY(ARRAY[u.id]) AND t.seq = 1 AND t.actor = coalesce(:only_of, t.actor))
""")


async def require_parents(
    connection: AsyncConnection, rows: Iterable[tuple[str, NewJob]], *, only_of: str | None
) -> None:
    """Refuse rows that come after a job of which nothing is known, or which is not `only_of`'s. With each row comes the
    pointer to it.

    Raises InvalidInputError.
    """
    places = [(f"{pointer}/after/{place}", parent) for pointer, row in rows for place, parent in enumerate(row.after)]
    if not places:
        return
    asked = {"parents": list({parent for _, parent in places}), "only_of": only_of}
    unknown = set((await connection.execute(_UNKNOWN, asked)).scalars())
    if unknown:
        raise InvalidInputError(
            [FieldError(place, f"no job has the id {parent}") for place, parent in places if parent in unknown]
        )


# Where most edges are of one parent, the planner takes it for any.
_BY_INDEX: Final = text(
    "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true)"
)

_CHILDREN: Final = text("""
SELECT DISTINCT e.child FROM unnest(CAST(:parents AS uuid[])) AS p(id) CROSS JOIN LATERAL (
       SELECT child FROM jobtrail.edges WHERE parent = p.id AND child > :after ORDER BY child LIMIT :most) e
 ORDER BY e.child LIMIT :most
""")

# In the order of their ids, and waiting for each: of two hints that skip what the other has locked, both may leave it.
_LOCK: Final = text("""
SELECT j.id FROM unnest(CAST(:children AS uuid[])) AS u(id) JOIN jobtrail.jobs j ON j.id = ANY(ARRAY[u.id])
 WHERE j.waits AND j.status || '' = 'pending'
 ORDER BY j.id FOR NO KEY UPDATE OF j
""")

# A statement of its own, since the one before does not see what was committed while it waited.
_JUDGE: Final = text("""
WITH parents AS MATERIALIZED (
    SELECT id, jobtrail.outcome_of(id) AS outcome FROM unnest(CAST(:parents AS uuid[])) AS p(id)
), ended AS MATERIALIZED (
    SELECT e.child, e.parent, p.outcome FROM jobtrail.edges e JOIN parents p ON p.id = e.parent
     WHERE e.child = ANY(CAST(:children AS uuid[])) AND p.outcome NOT IN ('pending', 'running')
), fulfilled AS (
    DELETE FROM jobtrail.edges e USING ended
     WHERE e.child = ended.child AND e.parent = ended.parent AND ended.outcome = 'succeeded'
)
SELECT DISTINCT ON (child) child, parent, outcome FROM ended ORDER BY child, outcome = 'succeeded', parent
""")

_RELEASE: Final = text("""
UPDATE jobtrail.jobs j
   SET waits = false, run_at = greatest(j.due_at, statement_timestamp()), due_at = NULL, seq = j.seq + 1,
       moved_by = 'job ' || u.parent, move_reason = 'after: all succeeded'
  FROM unnest(CAST(:children AS uuid[]), CAST(:parents AS uuid[])) AS u(child, parent)
 WHERE j.id = ANY(ARRAY[u.child]) AND NOT EXISTS (SELECT FROM jobtrail.edges e WHERE e.child = u.child)
RETURNING j.id
""")

_DROP: Final = text("DELETE FROM jobtrail.edges WHERE child = ANY(CAST(:children AS uuid[]))")


class ReleasedChildren(NamedTuple):
    """Whether any job was released, and the jobs that were cancelled, which others may have waited for."""

    is_any: bool
    cancelled: Sequence[UUID]


async def release_of(database: Database, parents: Sequence[UUID]) -> bool:
    """Release, or cancel, the jobs that waited for these parents, and what waited for the cancelled ones; whether any
    was released. A parent that has not ended changes nothing.
    """
    is_any = False
    while parents:
        found = await _release_children(database, parents)
        is_any |= found.is_any
        parents = found.cancelled
    return is_any


async def _release_children(database: Database, parents: Sequence[UUID]) -> ReleasedChildren:
    """Batch by batch, by their ids, so that one which still waits for another parent is met once."""
    is_any, cancelled, after = False, list[UUID](), UUID(int=0)

    async def step(most: int) -> bool:
        nonlocal is_any, after
        async with database.transaction() as session:
            asked = {"parents": list(parents), "after": after, "most": most}
            await session.execute(_BY_INDEX)
            children = (await session.execute(_CHILDREN, asked)).scalars().all()
            locked = (await session.execute(_LOCK, {"children": list(children)})).scalars().all() if children else ()
            released = await _judge(session, locked, parents) if locked else ReleasedChildren(False, ())
        is_any |= released.is_any
        cancelled.extend(released.cancelled)
        after = children[-1] if children else after
        return len(children) == most

    await in_batches(step, most=BATCH)
    return ReleasedChildren(is_any, cancelled)


_WORDS: Final = {"failed": "failed", "cancelled": "was cancelled", "unknown": "is unknown"}


async def _judge(session: AsyncSession, children: Sequence[UUID], parents: Sequence[UUID]) -> ReleasedChildren:
    """Cancel those of these children, which are locked, that have a parent without success; release those that wait for
    none of their parents any more.
    """
    judged = (await session.execute(_JUDGE, {"children": list(children), "parents": list(parents)})).all()
    hopeless = [
        Cancellation(child, f"job {parent}", f"after: {parent} {_WORDS[outcome]}")
        for child, parent, outcome in judged
        if outcome != Status.SUCCEEDED
    ]
    if hopeless:
        await cancel_rows(await session.connection(), hopeless)
        await session.execute(_DROP, {"children": [each.id for each in hopeless]})
    fulfilled = [(child, parent) for child, parent, outcome in judged if outcome == Status.SUCCEEDED]
    if not fulfilled:
        return ReleasedChildren(False, [each.id for each in hopeless])
    free, last = zip(*fulfilled, strict=True)
    moved = await session.execute(_RELEASE, {"children": list(free), "parents": list(last)})
    return ReleasedChildren(bool(moved.all()), [each.id for each in hopeless])


async def release_group(database: Database, parents: Sequence[UUID]) -> Sequence[bool]:
    """`release_of` for parents that ended together."""
    return [await release_of(database, parents)] * len(parents)


async def hint(services: Services, parents: Sequence[UUID]) -> bool:
    """As `release_of`, for parents that ended just now, or may have; what the database refuses is left to `sweep`."""
    group = services.group(release_group)
    try:
        return any(await asyncio.gather(*map(group.put, parents)))
    except (UnavailableError, *FAILURES) as error:
        log.debug("jobs that come after others are released later: %s", reason(error))
        return False


async def hint_of(services: Services, rows: Iterable[NewJob | Job]) -> None:
    """`hint` for the parents of rows that were committed just now: one of them may have ended before that commit.

    Gives up soon, and leaves the rest to `sweep`: other children of a parent may be locked for long.
    """
    if parents := {parent for row in rows for parent in row.after}:
        services.has_edges.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                if await hint(services, list(parents)):
                    services.database.hints.send()


# Hops through the distinct parents, one index probe each: of one parent many may wait.
_ENDED: Final = text("""
WITH RECURSIVE parents AS (
    (SELECT parent FROM jobtrail.edges ORDER BY parent LIMIT 1)
    UNION ALL
    SELECT n.parent FROM parents p CROSS JOIN LATERAL (
        SELECT parent FROM jobtrail.edges WHERE parent > p.parent ORDER BY parent LIMIT 1) n
)
SELECT p.parent FROM parents p
 WHERE NOT EXISTS (
       SELECT FROM jobtrail.jobs j WHERE j.id = ANY(ARRAY[p.parent]) AND j.status || '' IN ('pending', 'running'))
""")

# Of children that were cancelled by hand meanwhile; one that is retried gets edges anew.
_CLEAN: Final = text("""
DELETE FROM jobtrail.edges e USING (
       SELECT child, parent FROM jobtrail.edges
        WHERE parent = ANY(CAST(:parents AS uuid[])) AND NOT EXISTS (
              SELECT FROM jobtrail.jobs j WHERE j.id = ANY(ARRAY[child]) AND j.waits AND j.status || '' = 'pending')
          FOR UPDATE SKIP LOCKED) old
 WHERE e.child = old.child AND e.parent = old.parent
""")


async def sweep(services: Services) -> bool:
    """Release what waits for parents that have ended, whoever ended them; whether anything was released.

    Any node may do so at any time.
    """
    database = services.database
    async with database.autocommit() as connection:
        parents = (await connection.execute(_ENDED)).scalars().all()
    is_any = False
    for start in range(0, len(parents), BATCH):
        some = parents[start : start + BATCH]
        is_any |= await release_of(database, some)
        async with database.autocommit() as connection:
            await connection.execute(_CLEAN, {"parents": list(some)})
    return is_any
