"""Rows expire by the thousand, at all times, while others of every kind must stay and clients submit."""

import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx

from chaos import witness
from chaos.client import Ask, Client
from chaos.fleet import Fleet
from chaos.scenario import Figure, Scenario, Size
from chaos.world import World
from support.until import until

KINDS = {
    "expired": 0.6, "expiring": 0.2, "not expired yet": 0.05, "kept": 0.05, "waiting": 0.05, "running": 0.05
}  # fmt: skip
"""What there is before the load begins, as shares of the scenario's rows."""

SOON = 0.9
"""Share of the load's time in which the rows that expire meanwhile do so."""

ASKS = (
    Ask("nap", (0.0, 0.05), wanted={"ttl": 0}),
    Ask("nap", (0.0, 0.05), wanted={"ttl": 1.5}),
    Ask("write_inside", (0.0, 0.05), wanted={"ttl": 0}, share=0.5),
    Ask("nap", (0.0, 0.05), wanted={"ttl": 3600}),
    Ask("nap", (0.0, 0.05), wanted={"ttl": None}, share=0.5),
)

BIRTH = """
INSERT INTO jobtrail.jobs (id, task, queue, run_at, ttl, ttl_failed)
SELECT gen_random_uuid(), $1, 'purge', clock_timestamp() + interval '1 day',
       CASE WHEN $1 <> 'kept' THEN interval '1 hour' END, CASE WHEN $1 <> 'kept' THEN interval '1 hour' END
  FROM generate_series(1, $2::int)
"""

# Those that run stay so, with a lease for the whole of it.
START = """
UPDATE jobtrail.jobs SET status = 'running', attempt = 1, max_attempts = 2, node_id = $1,
       started_at = clock_timestamp(), lease_until = clock_timestamp() + interval '1 hour'
 WHERE queue = 'purge' AND task <> 'waiting' AND (task = 'running' OR get_byte(uuid_send(id), 0) < 200)
"""

END = """
UPDATE jobtrail.jobs SET status = CASE WHEN status = 'pending' THEN 'cancelled'
           WHEN get_byte(uuid_send(id), 1) < 200 THEN 'succeeded' ELSE 'failed' END,
       error = CASE WHEN status = 'running' AND get_byte(uuid_send(id), 1) >= 200
                    THEN '{"type": "ValueError", "message": "", "traceback": null, "attempt": 1}'::jsonb END,
       lease_until = NULL, finished_at = clock_timestamp(),
       cancel_requested_at = CASE WHEN status = 'pending' THEN clock_timestamp() END,
       cancel_requested_by = CASE WHEN status = 'pending' THEN 'chaos' END,
       expires_at = CASE task
           WHEN 'expired' THEN clock_timestamp() - random() * interval '1 hour'
           WHEN 'expiring' THEN clock_timestamp() + (2 + random() * $1::float) * interval '1 second'
           WHEN 'not expired yet' THEN clock_timestamp() + interval '1 hour' END
 WHERE queue = 'purge' AND task NOT IN ('waiting', 'running')
"""

# By hand, as an operator may: what was to go in this moment is wanted again.
RETRY = """
UPDATE jobtrail.jobs SET status = 'pending', run_at = clock_timestamp() + interval '1 day', task = 'retried',
       max_attempts = 2, result = NULL, error = NULL, started_at = NULL, finished_at = NULL, expires_at = NULL,
       node_id = NULL, cancel_requested_at = NULL, cancel_requested_by = NULL
 WHERE id = ANY(ARRAY(SELECT id FROM jobtrail.jobs WHERE queue = 'purge' AND status IN ('failed', 'cancelled')
                         AND task = 'expiring' ORDER BY expires_at LIMIT 20))
"""

# Within the next seconds, in which the fleet stops, so that nothing is left for nobody.
EXPIRING = "SELECT count(*) FROM jobtrail.jobs WHERE expires_at <= clock_timestamp() + interval '30 seconds'"

LEFT = "SELECT count(*) FROM jobtrail.jobs WHERE expires_at <= clock_timestamp() - interval '1 second'"

UNFINISHED = """
SELECT count(*) FROM jobtrail.jobs
 WHERE queue = 'purge' AND (task, status) IN (('waiting', 'pending'), ('running', 'running'), ('retried', 'pending'))
"""

STAYING = "SELECT count(*) FROM jobtrail.jobs WHERE queue = 'purge' AND task IN ('kept', 'not expired yet')"

CANCEL = """
UPDATE jobtrail.jobs SET status = 'cancelled', finished_at = clock_timestamp(), lease_until = NULL, ttl_failed = NULL,
       cancel_requested_at = clock_timestamp(), cancel_requested_by = 'chaos'
 WHERE queue = 'purge' AND status IN ('pending', 'running')
"""

# Of those that were expired before anybody purged.
PACE = """
SELECT count(*) AS rows, extract(epoch FROM max(at) - min(at))::float AS seconds
  FROM jobtrail.transitions WHERE to_status = 'purged' AND task = 'expired'
"""


@dataclass(frozen=True)
class Rows(Size):
    """`rows` are there before the load begins."""

    rows: int = 0


class TimedClient(Client):
    """`took` has the seconds of each request that was sent."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.took: list[float] = []

    async def _send(self, http: httpx.AsyncClient, path: str, body: dict[str, Any], headers: dict[str, str]) -> Any:
        began = time.monotonic()
        said = await super()._send(http, path, body, headers)
        self.took.append(time.monotonic() - began)
        return said


async def purge_beside_load(world: World, size: Size) -> Sequence[Figure]:
    await witness.watch(world)
    assert isinstance(size, Rows)
    there = {kind: round(share * size.rows) for kind, share in KINDS.items()}
    await _lay_out(world, there, size.jobs / size.rate)
    retried = 0

    async def retry() -> None:
        nonlocal retried
        for _ in range(8):
            await asyncio.sleep(0.1 * size.jobs / size.rate)
            retried += int(str(await world.execute(RETRY)).rpartition(" ")[2])
        await until(lambda: _all_gone(world), within=120)

    async with Fleet.started(
        world, lease=size.lease, serve=size.serve, work=size.work, PURGE_EVERY="500ms", QUEUES="default"
    ) as fleet:
        client = TimedClient(world.ledger, world.random, lambda: fleet.services, ASKS)
        await client.load(size.jobs, rate=size.rate, during=asyncio.create_task(retry()))
        missing = there["waiting"] + there["running"] + retried - await world.value(UNFINISHED)
        await world.execute(CANCEL)
        await fleet.settled()
        await until(lambda: _none_expires(world), within=60)
    pace = (await world.rows(PACE))[0]
    return [
        *await witness.purges(world),
        Figure("unfinished rows missing", missing, 0),
        Figure(
            "kept or not expired and missing", there["kept"] + there["not expired yet"] - await world.value(STAYING), 0
        ),
        Figure("expired and still there", await world.value(LEFT), 0),
        Figure(
            "expired before it began, purged / rows a second", f"{pace['rows']} / {pace['rows'] / pace['seconds']:.0f}"
        ),
        Figure("retried by hand as they expired", retried),
        Figure("submits meanwhile: median, 99 %, longest (ms)", _latencies(client.took)),
    ]


async def _lay_out(world: World, there: dict[str, int], seconds: float) -> None:
    for kind, rows in there.items():
        await world.execute(BIRTH, kind, rows)
    node = uuid4()  # the suite's own, as the logs say who was there
    (world.folder / "suite.log").write_text(json.dumps({"message": "node started", "node_id": str(node)}) + "\n")
    await world.execute(START, node)
    await world.execute(END, SOON * seconds)
    for kind, rows in there.items():
        found = await world.value("SELECT count(*) FROM jobtrail.jobs WHERE task = $1", kind)
        assert found == rows
        world.note(f"rows that are {kind}", str(found))


async def _all_gone(world: World) -> bool:
    return not await world.value(
        "SELECT count(*) FROM jobtrail.jobs WHERE task = 'expiring'"
    ) and not await world.value(LEFT)


async def _none_expires(world: World) -> bool:
    return not await world.value(EXPIRING)


def _latencies(seconds: Sequence[float]) -> str:
    cuts = statistics.quantiles(seconds, n=100)
    return ", ".join(f"{1000 * each:.0f}" for each in (cuts[49], cuts[98], max(seconds)))


SCENARIOS = (
    Scenario(
        "purge",
        "purge under load with mixed TTLs",
        Rows(jobs=1000, faults=len(KINDS), rate=25, serve=1, work=2, rows=100_000),
        Rows(jobs=50, faults=len(KINDS), rate=25, lease=1.0, serve=1, work=1, rows=2000),
        purge_beside_load,
        shows=("wrong deletes", "unfinished rows missing", "kept or not expired and missing"),
    ),
)
