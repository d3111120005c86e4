"""Jobs that outlive the process that ran them: what they wait for, and when they run again."""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil
from typing import Any, Final

import httpx

from jobtrail.cli.watch import ENDS
from jobtrail.job.outcome import LOST

MOST: Final = 20
"""Jobs whose waiting is told; of the others only that they run again."""

_LATE: Final = 1.2
"""By how much a tick of the node may come late."""


@dataclass
class Survivors:
    """`service` has the base URL of the jobs' API; `lease` and `poll_every` are those of the node behind it.

    `waiting` are the ids of jobs that nobody runs, until they move on, which takes `patience` seconds at most.
    """

    service: httpx.AsyncClient
    lease: timedelta
    poll_every: timedelta
    waiting: set[str] = field(default_factory=set)
    patience: int = 0

    async def find(self, since: datetime) -> list[str]:
        """A line for each job whose process was there before `since`, and is gone, while its lease may still run."""
        for job in await self._items("/jobs", status="pending", limit=str(MOST)):
            if (job["error"] or {}).get("type") == LOST:
                self._await(job["id"], self.poll_every)
        nodes = await self._nodes()
        said = []
        for row in await self._items("/audit/stuck_jobs", longer_than="0 seconds", limit=str(MOST)):
            node = nodes.get(row["node_id"] or "")
            if row["status"] == "running" and node and _is_gone(node, since):
                within = self._await(row["job_id"], self._left(row))
                ran = f"{_name(row['job_id'], row['task'])} ran in process {node['pid']}, which is gone"
                said.append(f"{ran}: it waits until the lease has run out, {within} s at most")
        return said

    async def remark(self, job: Mapping[str, Any], moves: Sequence[Mapping[str, Any]]) -> str | None:
        """What there is to say of the last of these moves: that by it a lost job runs again, or has succeeded."""
        *earlier, move = moves
        lost = next((each for each in earlier if _is_loss(each) and each["attempt"] == move["attempt"] - 1), None)
        if lost or move["to_status"] in ENDS:
            self.waiting.discard(job["id"])
        if lost is None or move["to_status"] not in {"running", "succeeded"}:
            return None
        survived = f"survived a {'kill' if lost['reason'] == 'rescued' else 'stop'}: {_name(job['id'], job['task'])}"
        if move["to_status"] == "succeeded":
            return f"{survived} succeeded in attempt {move['attempt']}"
        return f"{survived}, attempt {move['attempt']} began{await self._silence(earlier, move)}"

    async def _silence(self, earlier: Sequence[Mapping[str, Any]], move: Mapping[str, Any]) -> str:
        """For how long nobody ran it: since the last heartbeat. A node that signed off is on no list."""
        claim = next(each for each in reversed(earlier) if each["to_status"] == "running")
        if (node := (await self._nodes()).get(claim["node_id"])) is None:
            return ""
        seconds = (_time(move["at"]) - _time(node["heartbeat_at"])).total_seconds()
        return f" {seconds:.1f} s after process {node['pid']} fell silent"

    def _await(self, job_id: str, left: timedelta) -> int:
        """In how many seconds the job moves on, at most."""
        within = ceil(left.total_seconds())
        self.waiting.add(job_id)
        self.patience = max(self.patience, within)
        return within

    def _left(self, row: Mapping[str, Any]) -> timedelta:
        """Until it is rescued and claimed. A PostgreSQL that has just started lets a lease pass before any rescue."""
        now = _time(row["since"]) + timedelta(seconds=row["seconds"])
        return max(_time(row["lease_until"]) - now, self.lease) + _LATE * (self.lease / 4 + self.poll_every)

    async def _nodes(self) -> dict[str, dict[str, Any]]:
        return {node["id"]: node for node in await self._items("/nodes")}

    async def _items(self, path: str, **query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.service.get(path, params=query)).raise_for_status().json()["items"]
        return found


def _is_gone(node: Mapping[str, Any], since: datetime) -> bool:
    """Of a node on another machine nothing is known."""
    if node["host"] != socket.gethostname():
        return False
    if node["pid"] == os.getpid():  # in a container each first process has the same one
        return _time(node["started_at"]) < since
    try:
        os.kill(node["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _is_loss(move: Mapping[str, Any]) -> bool:
    way = (move["from_status"], move["to_status"])
    return way == ("running", "pending") and (move["error"] or {}).get("type") == LOST


def _name(job_id: str, task: str) -> str:
    return f"{task} …{job_id[-8:]}"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
