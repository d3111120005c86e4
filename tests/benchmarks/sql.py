"""PostgreSQL's share of a job, without our Python: µs of claim + finish, by our statements, in a bare asyncpg loop.

    python tests/benchmarks/sql.py [--finished N] [--pending N] [--jobs N]

On a PostgreSQL of its own, on the connections that groups have: their settings count. `first one` is a connection whose
first group had one row; `analyzed` has the statistics of the moment, else they are older than the pending rows. CPU is
that of the PostgreSQL process, the steadier figure where others use the machine too.
"""

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

sys.path.insert(0, str(Path(__file__).parents[1]))

from jobtrail.db.direct import Statement
from jobtrail.jobs import claim, finish
from support import world

IDS: Final = (
    "encode(substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3), 'hex')"
    " || substring(replace(gen_random_uuid()::text, '-', '') FROM 13)"
)
PENDING: Final = f"""
INSERT INTO jobtrail.jobs (id, task, run_at, created_by, moved_by, move_reason)
SELECT ({IDS})::uuid, 'noop', now(), 'ann', 'ann', 'submitted' FROM generate_series(1, $1)
"""
FINISH: Final = """
UPDATE jobtrail.jobs SET status = 'succeeded', attempt = 1, node_id = gen_random_uuid(), started_at = now(),
       finished_at = now(), expires_at = now() + interval '7 days', seq = 3, moved_by = 'node',
       move_reason = 'succeeded'
 WHERE status = 'pending'
"""


def bare(statement: Statement) -> tuple[str, list[str]]:
    """The text for the driver, and the names of its arguments in their order."""
    return statement.of("jobtrail"), list(statement.names)


def cpu_of(pid: int) -> float:
    """Seconds (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def drain(driver: Any, *, node: UUID, jobs: int, most: int, first: bool) -> tuple[float, float]:
    """µs a job: that passed, and of PostgreSQL's CPU."""
    next_, claim_names = bare(claim._NEXT)
    ends, end_names = bare(finish._FINISH.plain)
    one: dict[str, Any] = {
        "node": node, "lease": world.LEASE * 15, "tasks": ["noop", "other"], "queues": [], "all_queues": True,
        "salt": "x",
    }  # fmt: skip
    done, began, cpu, pid = 0, 0.0, 0.0, driver.get_server_pid()
    sizes = [1, most] if first else [most]
    while done < jobs:
        size = sizes[0]
        if len(sizes) > 1:
            sizes.pop(0)
        elif not began:
            began, cpu, done = time.perf_counter(), cpu_of(pid), 0
        claimed = await driver.fetch(next_, *(({**one, "free": size})[name] for name in claim_names))
        ended = sorted((row["id"], row["attempt"]) for row in claimed)
        count = len(ended)
        values = {
            "node": node, "id": [each for each, _ in ended], "attempt": [each for _, each in ended],
            "status": ["succeeded"] * count, "reason": ["succeeded"] * count, "result": ['{"ok": 1}'] * count,
            "error": [None] * count, "delay": [None] * count, "more": [0] * count, "progress": [None] * count,
        }  # fmt: skip
        moved = await driver.fetch(ends, *(values[name] for name in end_names))
        assert len(moved) == count == size, (len(moved), count)
        done += count
    return (time.perf_counter() - began) / done * 1e6, (cpu_of(pid) - cpu) / done * 1e6


async def main() -> None:
    wanted = argparse.ArgumentParser()
    for name, default in (("finished", 0), ("pending", 0), ("jobs", 10_000)):
        wanted.add_argument(f"--{name}", type=int, default=default)
    said = wanted.parse_args()
    with world.server("embedded") as server:
        async with world.migrated(server) as place:
            psql = place.psql
            if said.finished:
                await psql.execute("SET session_replication_role = replica")
                for left in range(said.finished, 0, -100_000):
                    await psql.execute(PENDING, min(left, 100_000))
                    await psql.execute(FINISH)
                await psql.execute("SET session_replication_role = DEFAULT")
            for analyzed in (False, True):
                if analyzed:
                    await psql.execute("VACUUM ANALYZE jobtrail.jobs")
                for most in (1, 20, 200, 500):
                    for first in (False, True) if most > 20 else (False,):
                        # pending rows that PostgreSQL has no statistics of
                        await psql.execute("ALTER TABLE jobtrail.jobs SET (autovacuum_enabled = off)")
                        jobs = max(said.jobs // most, 1) * most if most > 1 else said.jobs // 10
                        await psql.execute("SET session_replication_role = replica")
                        await psql.execute(PENDING, jobs + 2 + said.pending)
                        await psql.execute("SET session_replication_role = DEFAULT")
                        if analyzed:
                            await psql.execute("VACUUM ANALYZE jobtrail.jobs")
                        await place.database.grouped.dispose()
                        async with place.database.autocommit(3600) as connection:
                            driver = (await connection.get_raw_connection()).driver_connection
                            took, cpu = await drain(driver, node=uuid4(), jobs=jobs, most=most, first=first)
                        name = f"groups of {most}" + ", first one" * first + ", analyzed" * analyzed
                        print(f"{name:40} {took:6.0f} µs/job, CPU {cpu:5.0f}")
                        await psql.execute("SET session_replication_role = replica")
                        await psql.execute(FINISH)
                        await psql.execute("SET session_replication_role = DEFAULT")


if __name__ == "__main__":
    asyncio.run(main())
