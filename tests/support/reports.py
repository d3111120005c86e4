"""Jobs that say something, and what is stored of it."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import event

from jobtrail.jobs.log import read_log
from jobtrail.jobs.renew import AttemptRef
from jobtrail.records import LogLine
from jobtrail.status import Status
from jobtrail.worker.reports import Report, Reports
from support import rows, world
from support.world import Place

NODE = uuid4()


async def running(place: Place, *, node: UUID = NODE, attempt: int = 1) -> AttemptRef:
    job_id = await rows.in_status(place, Status.RUNNING)
    for _ in range(attempt - 1):
        await rows.moved(place, job_id, Status.FAILED)
        await rows.moved(place, job_id, Status.PENDING)
        await rows.moved(place, job_id, Status.RUNNING)
    await place.psql.execute("UPDATE jobtrail.jobs SET node_id = $2 WHERE id = $1", job_id, node)
    return AttemptRef(job_id, attempt)


@asynccontextmanager
async def ticking(reports: Reports) -> AsyncIterator[None]:
    reports.loop.start()
    try:
        yield
    finally:
        await reports.loop.stop()


@contextmanager
def statements(place: Place) -> Iterator[list[str]]:
    """Everything that is sent meanwhile by way of the groups' pool."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(" ".join(statement.split()))

    engine = place.database.grouped.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)


def say(report: Report, text: object, *args: object, **more: object) -> None:
    fields = {"name": "shop", "levelname": "INFO", "msg": text, "args": args, **more}
    report.line(logging.makeLogRecord(fields))


async def kept(place: Place, held: AttemptRef) -> list[LogLine]:
    return list(await read_log(world.services_at(place), held.id))


async def stored(place: Place, held: AttemptRef) -> int:
    return int(await place.value("SELECT count(*) FROM jobtrail.log_lines WHERE job_id = $1", held.id))


async def progress(place: Place, held: AttemptRef) -> str | None:
    found: str | None = await place.value("SELECT progress FROM jobtrail.jobs WHERE id = $1", held.id)
    return found
