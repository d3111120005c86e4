"""A past, made by the service's own moves: each happens now and is then dated back, as nobody else may."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from jobtrail.ids import new_job_id
from jobtrail.jobs.cancel import Cancellation, cancel_group
from jobtrail.jobs.claim import claim_these
from jobtrail.jobs.fence import AttemptRef
from jobtrail.jobs.finish import Recorded, finish_group, record_of
from jobtrail.jobs.insert import insert_group
from jobtrail.jobs.purge import purge_jobs
from jobtrail.jobs.renew import renew
from jobtrail.jobs.rescue import rescue_batch as rescue
from jobtrail.jobs.retry import retry_these
from jobtrail.ops import nodes
from jobtrail.ops.pauses import PauseKind
from jobtrail.records import Claimed, Failure, NewJob
from jobtrail.task.outcome import Cancelled, Failed, Outcome, Retried, Succeeded
from support.world import JUDGE, Place, judge

MINUTE: Final = timedelta(minutes=1)
LEASE: Final = timedelta(seconds=30)
WEEK: Final = timedelta(days=7)
MONTH: Final = timedelta(days=30)

# What a move dates, in whole tens of seconds after it: its own moment, the end of a lease, a pause, an expiry.
_DATED: Final = (
    "created_at", "run_at", "started_at", "finished_at", "expires_at", "lease_until", "cancel_requested_at",
)  # fmt: skip
_SHIFT: Final = """CASE WHEN {0} < $2 THEN {0}
    ELSE $3::timestamptz + round(extract(epoch FROM {0} - $2::timestamptz) / 10) * interval '10 s' END"""
_SHIFTS: Final = ", ".join(f"{name} = {_SHIFT.format(name)}" for name in _DATED)
_DATE_ROW: Final = f"UPDATE jobtrail.jobs SET {_SHIFTS} WHERE id = $1"
_DATE_MOVE: Final = "UPDATE jobtrail.transitions SET at = $3 WHERE job_id = $1 AND at >= $2"


@dataclass
class History:
    """Jobs and nodes by name. Times are minutes before `now`, which is when the telling began."""

    place: Place
    now: datetime
    jobs: dict[str, UUID] = field(default_factory=dict)
    nodes: dict[str, UUID] = field(default_factory=dict)
    held: dict[str, Claimed] = field(default_factory=dict)

    async def node(self, name: str, tasks: str, *, queues: str = "", silent: float = -1440) -> None:
        """A node that was heard of last `silent` minutes ago; alive for a day unless told otherwise."""
        self.nodes[name] = uuid4()
        entry = {
            "id": self.nodes[name], "host": name, "pid": 1, "version": "test", "slots": {"loop": 1}, "modules": {},
            "lease": timedelta(0), "tasks": tasks.split(), "queues": queues.split(),
        }  # fmt: skip
        async with self.place.database.autocommit() as connection:
            await nodes.beat(connection, entry)
        dated = "UPDATE jobtrail.nodes SET heartbeat_at = $2 WHERE id = $1"
        await self.place.psql.execute(dated, self.nodes[name], self._at(silent))

    async def submit(self, name: str, ago: float, task: str, **more: Any) -> None:
        """`due` in minutes before now; `id` to choose it."""
        began = await self._clock()
        due = more.pop("due", None)
        job_id = self.jobs[name] = more.pop("id", None) or new_job_id()
        wanted = {
            "id": job_id, "task": task, "args": {}, "args_json": "{}", "trace_id": job_id.hex, "created_by": "web",
            "queue": "default", "priority": 5, "max_attempts": 1, "tags": (), "ttl": WEEK, "ttl_failed": MONTH,
            "timeout": None, "run_at": None, **more,
        }  # fmt: skip
        await insert_group(self.place.database, [NewJob(**wanted)])
        await self._date(name, began, ago)
        if due is not None:
            await self._edit("UPDATE jobtrail.jobs SET run_at = $2 WHERE id = $1", job_id, self._at(due))

    async def batch(self, name: str, ago: float, by: str, jobs: Sequence[str], *, total: int) -> None:
        """A batch of these jobs, which are there already; those that make up the `total` were purged."""
        self.jobs[name] = batch_id = new_job_id()
        query = "INSERT INTO jobtrail.batches (id, total, created_by, created_at) VALUES ($1, $2, $3, $4)"
        await self.place.psql.execute(query, batch_id, total, by, self._at(ago))
        ids = [self.jobs[each] for each in jobs]
        await self.place.psql.execute("UPDATE jobtrail.jobs SET batch_id = $1 WHERE id = ANY($2)", batch_id, ids)

    async def claim(self, name: str, ago: float, node: str) -> None:
        began = await self._clock()
        claimed = await claim_these(self.place.database, [self.jobs[name]], node=self.nodes[node], lease=LEASE)
        self.held[name] = claimed[0]
        await self._date(name, began, ago)

    async def renew(self, name: str, node: str) -> None:
        """For an hour from now."""
        held = [AttemptRef(self.held[name].id, self.held[name].attempt)]
        async with self.place.database.autocommit() as connection:
            await renew(connection, held, node=self.nodes[node], lease=timedelta(hours=1))

    async def succeed(self, name: str, ago: float, node: str) -> None:
        await self._end(name, ago, node, Succeeded(None))

    async def fail(self, name: str, ago: float, node: str, type_: str, message: str) -> None:
        await self._end(name, ago, node, Failed(self._failure(name, type_, message)))

    async def again(self, name: str, ago: float, node: str, type_: str, message: str) -> None:
        await self._end(name, ago, node, Retried(self._failure(name, type_, message), timedelta(0)))

    async def obey(self, name: str, ago: float, node: str) -> None:
        await self._end(name, ago, node, Cancelled(self._failure(name, "CancelledError", "")))

    async def cancel(self, name: str, ago: float, by: str, reason: str | None) -> None:
        began = await self._clock()
        await cancel_group(self.place.database, [Cancellation(self.jobs[name], by, reason)])
        await self._date(name, began, ago)

    async def rescue(self, name: str, ago: float, node: str) -> None:
        """By `node`, which also rescues everybody else whose lease ran out."""
        began = await self._clock()
        actor = f"node {self.nodes[node]}"
        found = await rescue(self.place.database, node=await judge(self.place), actor=actor, most=500)
        await self.place.psql.execute("DELETE FROM jobtrail.nodes WHERE id = $1", JUDGE)
        assert [each.id for each in found] == [self.jobs[name]]
        await self._date(name, began, ago)

    async def retry(self, name: str, ago: float, by: str) -> None:
        began = await self._clock()
        async with self.place.database.sessions.begin() as session:
            assert await retry_these(session, [self.jobs[name]], actor=by) == 1
        await self._date(name, began, ago)

    async def pause(self, kind: PauseKind, name: str, by: str, reason: str | None) -> None:
        insert = "INSERT INTO jobtrail.pauses (kind, name, paused_by, reason) VALUES ($1, $2, $3, $4)"
        await self.place.psql.execute(insert, kind, name, by, reason)

    async def purge(self, name: str, ago: float, by: str) -> None:
        began = await self._clock()
        assert await purge_jobs(self.place.database, by=by) == 1
        await self._date(name, began, ago)

    async def _end(self, name: str, ago: float, node: str, outcome: Outcome) -> None:
        began = await self._clock()
        ending = record_of(self.held[name], outcome)
        (landing,) = await finish_group(self.place.database, [ending], node=self.nodes[node])
        assert landing in {Recorded.YES, Recorded.CANCELLED}
        await self._date(name, began, ago)

    def _failure(self, name: str, type_: str, message: str) -> Failure:
        return Failure(type_, message, "Traceback", self.held[name].attempt)

    def _at(self, ago: float) -> datetime:
        return self.now - ago * MINUTE

    async def _clock(self) -> datetime:
        moment: datetime = await self.place.value("SELECT clock_timestamp()")
        return moment

    async def _date(self, name: str, began: datetime, ago: float) -> None:
        for statement in (_DATE_ROW, _DATE_MOVE):
            await self._edit(statement, self.jobs[name], began, self._at(ago))

    async def _edit(self, statement: str, *args: Any) -> None:
        async with self.place.psql.transaction():
            await self.place.psql.execute("SET LOCAL session_replication_role = replica")
            await self.place.psql.execute(statement, *args)


async def begin(place: Place) -> History:
    return History(place, await place.value("SELECT date_trunc('second', clock_timestamp())"))
