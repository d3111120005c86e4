"""The processes that run jobs: who, since when, which tasks and queues, how full."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from jobtrail.job.record import NodeRecord
from jobtrail.job.storable import dump

_BEAT: Final = text("""
INSERT INTO jobtrail.nodes (id, host, pid, version, queues, tasks, slots)
VALUES (:id, :host, :pid, :version, CAST(:queues AS text[]), CAST(:tasks AS text[]), CAST(:slots AS jsonb))
ON CONFLICT (id) DO UPDATE SET heartbeat_at = clock_timestamp()
""")

_LEAVE: Final = text("DELETE FROM jobtrail.nodes WHERE id = :id")

_ALL: Final = text("""
SELECT n.id, n.host, n.pid, n.version, n.queues, n.tasks, n.slots, n.started_at, n.heartbeat_at,
       (SELECT count(*) FROM jobtrail.jobs j WHERE j.status = 'running' AND j.node_id = n.id) AS running
  FROM jobtrail.nodes n ORDER BY n.started_at, n.id
""").columns(slots=JSONB)


async def beat(connection: AsyncConnection, node: dict[str, Any]) -> None:
    """Say that this node is alive; the first beat enters it. `node` has the columns up to `slots`."""
    await connection.execute(_BEAT, {**node, "slots": dump(node["slots"])})


async def leave(connection: AsyncConnection, node_id: Any) -> None:
    await connection.execute(_LEAVE, {"id": node_id})


async def all_nodes(session: AsyncSession) -> Sequence[NodeRecord]:
    return [NodeRecord(*row) for row in (await session.execute(_ALL)).all()]
