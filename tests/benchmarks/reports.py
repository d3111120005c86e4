"""What it costs that a job speaks: `python tests/benchmarks/reports.py [LINES_A_SECOND] [SECONDS]`.

One job logs so many lines and reports its progress as often, on a PostgreSQL of its own. Prints what a second of that
costs, beside a second of the same without a word, and what one call costs.
"""

import asyncio
import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psutil
from sqlalchemy import event

sys.path.insert(0, str(Path(__file__).parents[1]))

from jobtrail.jobs.fence import AttemptRef
from jobtrail.logs import keep_with
from jobtrail.status import Status
from jobtrail.task.context import Progress
from jobtrail.worker.reports import Report, Reports
from support import rows, world
from support.world import Place

LOG = logging.getLogger("jobtrail.task.speak")


@dataclass
class Cost:
    statements: int = 0
    ours: float = 0.0
    servers: float = 0.0
    wal: int = 0


async def spent(place: Place, sent: list[str]) -> Cost:
    pids = [row["pid"] for row in await place.rows("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")]
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    wal = await place.value("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
    return Cost(len(sent), time.process_time(), sum(each.user + each.system for each in times), int(wal))


async def speak(place: Place, report: Report, rate: int, seconds: float, sent: list[str], *, silent: bool) -> None:
    before = await spent(place, sent)
    keep_with(report.line)
    for number in range(int(rate * seconds)):
        if not silent:
            LOG.info("line %d of a job that has much to tell", number)
            report.progress(Progress(number, rate * seconds))
        await asyncio.sleep(1 / rate)
    after = await spent(place, sent)
    print(
        f"{'silent' if silent else f'{rate} lines/s':>12}: {(after.statements - before.statements) / seconds:.1f} "
        f"statements, {(after.ours - before.ours) / seconds * 1000:.1f} ms of this process, "
        f"{(after.servers - before.servers) / seconds * 1000:.1f} ms of PostgreSQL, "
        f"{(after.wal - before.wal) / seconds / 1024:.0f} kB of WAL a second"
    )


def calls(count: int = 100_000) -> None:
    report = Report(AttemptRef(uuid4(), 1))
    keep_with(report.line)
    began = time.perf_counter()
    for number in range(count):
        report.progress(Progress(number, count, "note"))
    said = time.perf_counter()
    for number in range(count):
        LOG.info("line %d", number)
    logged = time.perf_counter()
    print(
        f"context.progress() {(said - began) / count * 1e6:.1f} µs, a log line {(logged - said) / count * 1e6:.1f} µs"
    )


async def main(rate: int, seconds: float) -> None:
    with world.server("embedded") as server:
        async with world.migrated(server) as place:
            job_id = await rows.in_status(place, Status.RUNNING)
            reports = Reports(place.database, await place.value("SELECT node_id FROM jobtrail.jobs"))
            sent: list[str] = []
            event.listen(
                place.database.grouped.sync_engine, "before_cursor_execute", lambda *args: sent.append(args[2])
            )
            report = reports.open(AttemptRef(job_id, 1))
            reports.loop.start()
            report.progress(Progress(0))
            await reports.loop.ticked()
            for silent in (True, False, True, False):
                await speak(place, report, rate, seconds, sent, silent=silent)
            await reports.loop.stop()
    calls()


if __name__ == "__main__":
    given = [float(each) for each in sys.argv[1:]]
    asyncio.run(main(int(given[0]) if given else 100, given[1] if len(given) > 1 else 20.0))
