"""Pauses: a queue or a task starts no more jobs until it is resumed. A running job goes on, a pending one waits.

A row that was written in psql counts as one of ours: a claim looks at the table.
"""

import difflib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from sqlalchemy import Column, Table, Text, text
from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.db.tables import TIME, metadata
from jobtrail.errors import UnknownQueueError, UnknownTaskError
from jobtrail.jobs.cancel import reason_of
from jobtrail.jobs.services import Services
from jobtrail.task.storable import check

log = logging.getLogger(__name__)

PauseKind = Literal["queue", "task"]


@dataclass(frozen=True, slots=True)
class Pause:
    """A queue or a task of which no job is started for now."""

    kind: PauseKind
    name: str
    paused_at: datetime
    paused_by: str
    reason: str | None


TABLE: Final = Table(
    "pauses",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("paused_at", TIME, nullable=False, server_default=text("clock_timestamp()")),
    Column("paused_by", Text, nullable=False, server_default=text("session_user")),
    Column("reason", Text),
    info={"rights": "SELECT, INSERT, UPDATE, DELETE"},
)

# The update changes nothing: it makes the row that is there already the answer, in the same statement.
_PUT: Final = text("""
INSERT INTO jobtrail.pauses (kind, name, paused_by, reason) VALUES (:kind, :name, :actor, :reason)
ON CONFLICT (kind, name) DO UPDATE SET reason = jobtrail.pauses.reason
RETURNING kind, name, paused_at, paused_by, reason
""")

_REMOVE: Final = text("DELETE FROM jobtrail.pauses WHERE kind = :kind AND name = :name RETURNING name")

_ALL: Final = text("SELECT kind, name, paused_at, paused_by, reason FROM jobtrail.pauses ORDER BY kind, name")


async def pause(services: Services, kind: PauseKind, name: str, *, by: str, reason: str | None = None) -> Pause:
    """The pause; for what is paused already the first one, unchanged. Claims that are under way may still start jobs.

    Raises InvalidInputError for a reason that cannot be kept, UnknownQueueError, UnknownTaskError, UnavailableError.
    """
    reason = reason_of(reason)
    async with services.transaction() as session:
        await _require_known(services, session, kind, name)
        parameters = {"kind": kind, "name": name, "actor": by, "reason": reason}
        found = Pause(*(await session.execute(_PUT, parameters)).one())
    log.info("paused", extra={kind: name, "by": by, "reason": reason})
    return found


async def resume(services: Services, kind: PauseKind, name: str, *, by: str) -> bool:
    """Whether it was paused. Nodes hear of it or poll: its jobs start within about a second. Raises as `pause`."""
    async with services.transaction() as session:
        await _require_known(services, session, kind, name)
        was_paused = (await session.execute(_REMOVE, {"kind": kind, "name": name})).one_or_none() is not None
    if was_paused:
        services.database.hints.send()
        log.info("resumed", extra={kind: name, "by": by})
    return was_paused


async def read_pauses(services: Services) -> Sequence[Pause]:
    async with services.session() as session:
        return await all_pauses(session)


async def all_pauses(session: AsyncSession) -> Sequence[Pause]:
    """Queues first, then tasks, by name."""
    return [Pause(*row) for row in await session.execute(_ALL)]


NEWEST: Final = 1000
"""How many of the newest jobs are asked for their queue and task."""

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

# To say no it may read the whole backlog, so it is asked last.
_WAITS: Final = text("SELECT EXISTS (SELECT FROM jobtrail.jobs WHERE status = 'pending' AND task = :task)")


async def _require_known(services: Services, session: AsyncSession, kind: PauseKind, name: str) -> None:
    """A misspelt name would pause nothing and look as if it did."""
    if kind == "queue":
        statement, own = _QUEUES, {task.queue for task in services.catalog}
    else:
        statement, own = _TASKS, set(services.catalog.names)
    known = own | set((await session.execute(statement, {"newest": NEWEST})).scalars())
    if name in known:
        return
    near = difflib.get_close_matches(name, sorted(known))
    if kind == "queue":
        raise UnknownQueueError(name, near)
    if check(name) or not (await session.execute(_WAITS, {"task": name})).scalar_one():
        raise UnknownTaskError(name, near)
