"""running stays running: how far its attempt has come, as the task says. The move is none, so `seq` stays."""

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from jobtrail.store.transitions.fence import execute, fenced, in_order, keys
from jobtrail.store.transitions.renew import Held


class Said(NamedTuple):
    """`progress` is JSON text."""

    id: UUID
    attempt: int
    progress: str


_REPORT: Final = fenced("progress = u.progress", arrays={"progress": "jsonb"}, returning="j.id, j.attempt")


async def report(connection: AsyncConnection, said: Sequence[Said], *, node: UUID) -> Collection[Held]:
    """Those whose rows have it now; the others are no longer ours, or somebody holds their rows."""
    said = in_order(said)
    parameters = {**keys(said, node), "progress": [each.progress for each in said]}
    return {Held(row.id, row.attempt) for row in await execute(connection, _REPORT, parameters)}
