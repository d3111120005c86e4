"""A fleet that nobody touches: what must be true of processes that lived all the time, and of how they end."""

import asyncio
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from chaos.checks import nodes_of
from chaos.fleet import Fleet
from chaos.scenario import Figure
from jobtrail.db.engine import GROUPS
from support.until import until

POOLS = GROUPS + 5 + 5 + 1 + 1
"""Connections of a process at most: for single statements, for transactions, for job sessions, for its leases, for
hints.
"""

CLIENTS = 40
"""Sockets of a process beside those: of its clients, of tasks, of its loops."""

RESCUED = """
SELECT count(*) FROM jobtrail.transitions
 WHERE reason = 'rescued' OR (from_status = 'running' AND error ->> 'type' = 'lost')
"""

OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'jobtrail'"
IDLE = f"{OURS} AND state LIKE 'idle in transaction%'"


@dataclass
class Lives:
    """The processes as they were when it began."""

    fleet: Fleet
    pids: Sequence[int]

    @classmethod
    def of(cls, fleet: Fleet) -> Self:
        return cls(fleet, [member.pid for member in fleet.members])

    async def figures(self, *, rescued: int | None = 0) -> list[Figure]:
        """When every job has ended. `rescued`: how many must be; None where a node may have been out of reach."""
        world = self.fleet.world
        same = [member.pid for member in self.fleet.members if not member.process.code.done()]
        nodes = len(set(nodes_of(world.folder)))
        held = await world.value(OURS)
        try:
            await until(lambda: _no(world.value(IDLE)), within=10)
            idle = 0  # a moment later a heartbeat may be in the midst of one
        except AssertionError:
            idle = await world.value(IDLE)
        sockets = max(_sockets(member.pid) for member in self.fleet.members)
        return [
            Figure("processes that did not live all the time", len(set(self.pids) - set(same)), 0),
            Figure("nodes more than processes", nodes - len(self.pids), 0),
            Figure("rescued though alive", await world.value(RESCUED), rescued),
            Figure("connections more than the pools hold", max(0, held - POOLS * len(self.pids)), 0),
            Figure("idle in a transaction", idle, 0),
            Figure("sockets of a process more than it has use for", max(0, sockets - POOLS - CLIENTS), 0),
            Figure("connections held at rest; most sockets of a process", f"{held}; {sockets}"),
        ]


async def stop_all(fleet: Fleet) -> list[Figure]:
    """SIGTERM to all of them; what they held must be gone with them."""
    for member in fleet.up:
        member.signal(signal.SIGTERM)
    ended = [await member.ended() for member in fleet.up]
    await asyncio.sleep(0.1)  # the server notices a moment later
    left = await fleet.world.value(OURS)
    return [
        Figure("processes that did not end by themselves", sum(code != 0 for code in ended), 0),
        Figure("connections left by those that ended", left, 0),
    ]


def _sockets(pid: int) -> int:
    links = [each.readlink() for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()]
    return sum(str(each).startswith("socket:") for each in links)


async def _no(count: object) -> bool:
    return not await count  # type: ignore[misc]
