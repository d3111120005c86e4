"""Questions of a doctor to the database: about the server, and about jobs and nodes that look abandoned."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.ops.nodes import NodeRecord


class Server(NamedTuple):
    """`version_num` as PostgreSQL counts, 150004 for 15.4; `connections` that those who are no superuser may have."""

    version_num: int
    version: str
    connections: int
    connected: int
    is_standby: bool
    is_read_only: bool = False
    encoding: str = "UTF8"


class Stranded(NamedTuple):
    """Pending jobs of one task in one queue that no living node takes."""

    task: str
    queue: str
    jobs: int


class Lapsed(NamedTuple):
    """Jobs that are `running` although their lease ran out; `since` is when the first of them did."""

    node_id: UUID
    jobs: int
    since: datetime


class Holder(NamedTuple):
    """A backend whose transaction has locked a cursor of the feed, and since when: None where the role may not see that
    of another one.
    """

    pid: int
    application: str
    since: datetime | None


_SERVER: Final = text("""
SELECT current_setting('server_version_num')::int, current_setting('server_version'),
       current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'), pg_is_in_recovery(),
       current_setting('transaction_read_only') = 'on', current_setting('server_encoding')
""")

# The backlog may be long, its tasks are few.
_PENDING: Final = text("""
SELECT task, queue, count(*) AS jobs FROM jobtrail.jobs
 WHERE status = 'pending' GROUP BY task, queue ORDER BY jobs DESC, task, queue
""")

_LAPSED: Final = text("""
SELECT node_id, count(*), min(lease_until) FROM jobtrail.jobs
 WHERE status = 'running' AND lease_until < clock_timestamp()
 GROUP BY node_id ORDER BY min(lease_until)
""")


_HOLDER: Final = text("""
SELECT a.pid, a.application_name, a.xact_start
  FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.granted AND l.mode <> 'AccessShareLock' AND l.relation = to_regclass('jobtrail.feed_cursors')
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND coalesce(a.xact_start, '-infinity') < clock_timestamp() - CAST(:longer AS interval)
 ORDER BY a.xact_start NULLS LAST LIMIT 1
""")


async def server(session: AsyncSession) -> Server:
    return Server(*(await session.execute(_SERVER)).one())


async def stranded(session: AsyncSession, nodes: Sequence[NodeRecord]) -> Sequence[Stranded]:
    """What none of the nodes serves; the most jobs first."""
    pending = [Stranded(*row) for row in await session.execute(_PENDING)]
    return [each for each in pending if not any(node.serves(each.task, each.queue) for node in nodes)]


async def lapsed(session: AsyncSession) -> Sequence[Lapsed]:
    return [Lapsed(*row) for row in await session.execute(_LAPSED)]


async def holder(session: AsyncSession, longer: timedelta = timedelta(seconds=10)) -> Holder | None:
    """The one that has held a cursor of the feed for longest, if for longer than `longer`, as no node does mostly."""
    row = (await session.execute(_HOLDER, {"longer": longer})).one_or_none()
    return None if row is None else Holder(*row)
