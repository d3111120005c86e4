"""Who rescues others in tests."""

from datetime import timedelta
from typing import Final
from uuid import UUID

from support.database import Place

JUDGE: Final = UUID(int=1)

_SEAT = """
INSERT INTO jobtrail.nodes (id, host, pid, version, queues, tasks, slots, heartbeat_at, lease, steady_since)
VALUES ($1, 'judge', 1, 'test', '{}', '{}', '{}', 'infinity', $2, '-infinity')
ON CONFLICT (id) DO UPDATE SET lease = excluded.lease
"""


async def judge(place: Place, lease: timedelta = timedelta(0)) -> UUID:
    """A node that was never away, and so may rescue at once; after a start of PostgreSQL it waits for `lease`."""
    await place.psql.execute(_SEAT, JUDGE, lease)
    return JUDGE
