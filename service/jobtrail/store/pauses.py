"""What may not be started for now, and the names of queues and tasks that the database has heard of.

A row that was written in psql counts as one of ours: whoever claims looks at the table.
"""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.job.record import Pause, PauseKind

# The update changes nothing: it makes the row that is there already the answer, in the same statement.
_PUT: Final = text("""
INSERT INTO jobtrail.pauses (kind, name, paused_by, reason) VALUES (:kind, :name, :actor, :reason)
ON CONFLICT (kind, name) DO UPDATE SET reason = jobtrail.pauses.reason
RETURNING kind, name, paused_at, paused_by, reason
""")

_REMOVE: Final = text("DELETE FROM jobtrail.pauses WHERE kind = :kind AND name = :name RETURNING name")

_ALL: Final = text("SELECT kind, name, paused_at, paused_by, reason FROM jobtrail.pauses ORDER BY kind, name")

# Hops through the queues of pending jobs, one index probe each, as a claim does. Ended jobs have no index by queue or
# task, so of them only the newest speak.
_QUEUES: Final = text("""
WITH RECURSIVE waiting AS (
    (SELECT queue FROM jobtrail.jobs WHERE status = 'pending' ORDER BY queue, priority LIMIT 1)
    UNION ALL
    SELECT n.queue FROM waiting w CROSS JOIN LATERAL (
        SELECT queue FROM jobtrail.jobs WHERE status = 'pending' AND queue > w.queue ORDER BY queue, priority LIMIT 1) n
)
SELECT queue FROM waiting
UNION SELECT queue FROM jobtrail.jobs WHERE status = 'running'
UNION SELECT queue FROM (SELECT queue FROM jobtrail.jobs ORDER BY created_at DESC, id DESC LIMIT :newest) latest
UNION SELECT unnest(queues) FROM jobtrail.nodes
UNION SELECT name FROM jobtrail.pauses WHERE kind = 'queue'
""")

_TASKS: Final = text("""
SELECT task FROM jobtrail.jobs WHERE status = 'running'
UNION SELECT task FROM (SELECT task FROM jobtrail.jobs ORDER BY created_at DESC, id DESC LIMIT :newest) latest
UNION SELECT unnest(tasks) FROM jobtrail.nodes
UNION SELECT name FROM jobtrail.pauses WHERE kind = 'task'
""")

_WAITS: Final = text("SELECT EXISTS (SELECT FROM jobtrail.jobs WHERE status = 'pending' AND task = :task)")

NEWEST: Final = 1000
"""How many of the newest jobs are asked for their queue and task."""


async def put(session: AsyncSession, kind: PauseKind, name: str, *, actor: str, reason: str | None) -> Pause:
    """The pause, in the caller's transaction; one that is there already stays as it is."""
    parameters = {"kind": kind, "name": name, "actor": actor, "reason": reason}
    return Pause(*(await session.execute(_PUT, parameters)).one())


async def remove(session: AsyncSession, kind: PauseKind, name: str) -> bool:
    """Whether there was such a pause."""
    gone = await session.execute(_REMOVE, {"kind": kind, "name": name})
    return gone.one_or_none() is not None


async def all_pauses(session: AsyncSession) -> Sequence[Pause]:
    """Queues first, then tasks, by name."""
    return [Pause(*row) for row in (await session.execute(_ALL)).all()]


async def known_queues(session: AsyncSession) -> set[str]:
    """Queues that a node names, that have unfinished jobs, that the newest jobs were in, or that are paused."""
    return set((await session.execute(_QUEUES, {"newest": NEWEST})).scalars())


async def known_tasks(session: AsyncSession) -> set[str]:
    """Tasks that a node knows, that run, that the newest jobs are of, or that are paused; for the rest ask `waits`."""
    return set((await session.execute(_TASKS, {"newest": NEWEST})).scalars())


async def waits(session: AsyncSession, task: str) -> bool:
    """Whether any pending job is of this task. It may read the whole backlog to say no."""
    return bool((await session.execute(_WAITS, {"task": task})).scalar_one())
