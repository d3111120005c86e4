"""Nodes, the processes that run jobs: since when, which tasks and queues, how full."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, NamedTuple
from uuid import UUID

from pydantic import Field
from sqlalchemy import Column, Double, Integer, Interval, Table, Text, Uuid, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from jobtrail.db.tables import TEXTS, TIME, Json, metadata
from jobtrail.jobs.services import Services
from jobtrail.task.catalog import Known
from jobtrail.task.storable import dump


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """One process that runs jobs; a fresh id per start."""

    id: UUID
    host: str
    pid: int
    version: str
    queues: Annotated[Sequence[str], Field(description="Empty: all of them.")]
    tasks: Annotated[Sequence[str], Field(description="Those that it has slots for.")]
    slots: Annotated[Mapping[str, int], Field(description="How many jobs at once, in the loop, a thread or a process.")]
    started_at: datetime
    heartbeat_at: datetime
    running: int = 0
    left_behind: Annotated[int, Field(description="Tasks that did not end when told to, and still take a slot.")] = 0
    stale_ends: Annotated[int, Field(description="Ends of attempts that were refused, since its start.")] = 0
    lease: Annotated[timedelta, Field(exclude=True)] = timedelta(seconds=30)
    loop_lag: Annotated[
        float, Field(description="Seconds that its event loop let others wait at most, shortly before its heartbeat.")
    ] = 0.0
    is_living: Annotated[bool, Field(exclude=True)] = True

    def serves(self, task: str, queue: str) -> bool:
        """Whether it is alive and takes jobs of the task from the queue."""
        return self.is_living and task in self.tasks and (not self.queues or queue in self.queues)


TABLE: Final = Table(
    "nodes",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("version", Text, nullable=False),
    Column("queues", TEXTS, nullable=False),
    Column("tasks", TEXTS, nullable=False),
    Column("slots", Json, nullable=False),
    Column("started_at", TIME, nullable=False, server_default=text("clock_timestamp()")),
    Column("heartbeat_at", TIME, nullable=False, server_default=text("clock_timestamp()")),
    Column("left_behind", Integer, nullable=False, server_default=text("0")),
    Column("stale_ends", Integer, nullable=False, server_default=text("0")),
    Column("lease", Interval, nullable=False, server_default=text("'30 seconds'")),
    Column("loop_lag", Double, nullable=False, server_default=text("0")),
    Column("steady_since", TIME, nullable=False, server_default=text("clock_timestamp()")),
    Column("modules", Json(none_as_null=True)),
    Column("declares", Json(none_as_null=True)),
    info={"rights": "SELECT, INSERT, UPDATE, DELETE"},
)


class Counts(NamedTuple):
    """What does not go well in a process: tasks that did not end when told to and still take a slot, ends that were
    refused since its start, and for how many seconds its event loop let others wait of late.
    """

    left_behind: int = 0
    stale_ends: int = 0
    loop_lag: float = 0.0


_NONE: Final = Counts()

# By the database's clock alone, so that a node that slept notices it too. The first beat counts as a quarter of a
# lease of being heard of: in the rest those are back who lost the database while this node was started. (An unlucky one
# needs 0.6 of a lease: two tries of nearly a third each, or one of them and the pause between two beats.)
_BEAT: Final = text("""
INSERT INTO jobtrail.nodes AS n (
       id, host, pid, version, queues, tasks, slots, left_behind, stale_ends, loop_lag, lease, steady_since,
       modules, declares)
VALUES (:id, :host, :pid, :version, CAST(:queues AS text[]), CAST(:tasks AS text[]), CAST(:slots AS jsonb),
        :left_behind, :stale_ends, :loop_lag, CAST(:lease AS interval),
        clock_timestamp() - CAST(:lease AS interval) / 4, CAST(:modules AS jsonb), CAST(:declares AS jsonb))
ON CONFLICT (id) DO UPDATE SET heartbeat_at = clock_timestamp(),
       left_behind = excluded.left_behind, stale_ends = excluded.stale_ends, loop_lag = excluded.loop_lag,
       steady_since = CASE WHEN n.heartbeat_at < clock_timestamp() - n.lease / 2
                           THEN clock_timestamp() ELSE n.steady_since END
""")

LIVING: Final = "heartbeat_at > clock_timestamp() - greatest(lease, interval '60 s')"
"""Condition on a row of `nodes`: the node is alive. It beats several times in its lease. A lease may be shorter than a
database is away while it restarts, so a minute is allowed in any case.

`stuck_jobs.sql` says the same with a parameter. Its jobs are lost by their own leases, and its row is forgotten later.
"""

_LEAVE: Final = text("DELETE FROM jobtrail.nodes WHERE id = :id")

_ALL: Final = text(f"""
SELECT n.id, n.host, n.pid, n.version, n.queues, n.tasks, CAST(n.slots AS text) AS slots, n.started_at, n.heartbeat_at,
       (SELECT count(*) FROM jobtrail.jobs j WHERE j.status = 'running' AND j.node_id = n.id) AS running,
       n.left_behind, n.stale_ends, n.lease, n.loop_lag, {LIVING} AS is_living
  FROM jobtrail.nodes n ORDER BY n.started_at, n.id
""").columns(slots=Json)


_KNOWN: Final = text(f"""
SELECT host, CAST(modules AS text) AS modules FROM jobtrail.nodes
 WHERE modules IS NOT NULL AND id <> :except_of AND {LIVING}
 ORDER BY started_at, id
""").columns(modules=Json)


async def beat(connection: AsyncConnection, node: dict[str, Any], counts: Counts = _NONE) -> None:
    """Say that this node is alive; the first beat enters it. `node`: the columns up to `slots`, `lease`, `modules`,
    `declares`.
    """
    texts = {name: dump(node.get(name, {})) for name in ("slots", "modules", "declares")}
    await connection.execute(_BEAT, {**node, **counts._asdict(), **texts})


async def leave(connection: AsyncConnection, node_id: Any) -> None:
    await connection.execute(_LEAVE, {"id": node_id})


async def all_nodes(session: AsyncSession) -> Sequence[NodeRecord]:
    """Those too that died and are not forgotten yet."""
    return [NodeRecord(*row) for row in (await session.execute(_ALL)).all()]


async def known(session: AsyncSession, *, except_of: UUID | None = None) -> Sequence[Known]:
    """What living nodes know their tasks by; those of the release before do not say it."""
    return [Known(*row) for row in await session.execute(_KNOWN, {"except_of": except_of or UUID(int=0)})]


async def read_nodes(services: Services) -> Sequence[NodeRecord]:
    async with services.session() as session:
        return await all_nodes(session)


async def is_served(services: Services, task: str, queue: str) -> bool:
    """Whether a living node takes jobs of the task from the queue."""
    return any(node.serves(task, queue) for node in await read_nodes(services))
