"""The lines of a job's log in the database: whose they are, when they were said, and when they go."""

import time
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from jobtrail.jobs.fence import AttemptRef
from jobtrail.jobs.log import NewLine, add_lines, lines_of, trim
from jobtrail.jobs.purge import purge
from jobtrail.ranges import LOG_BYTES, LOG_LINES
from jobtrail.status import Status
from support import rows
from support.world import Place

FILL = """
INSERT INTO jobtrail.log_lines (job_id, attempt, number, at, level, logger, message)
SELECT $1, 1, n, now(), 'INFO', 'shop', repeat('ü', $3::int) FROM generate_series(1, $2::int) n
"""

EXPIRED = "UPDATE jobtrail.jobs SET expires_at = now() - interval '1 s' WHERE expires_at IS NOT NULL"


async def with_lines(place: Place, status: Status, count: int = 3, size: int = 1) -> UUID:
    job_id = await rows.in_status(place, status)
    await place.psql.execute(FILL, job_id, count, size)
    return job_id


async def test_the_time_is_the_database_s_less_the_age(place: Place) -> None:
    job_id = await rows.in_status(place, Status.RUNNING)
    node = await place.value("SELECT node_id FROM jobtrail.jobs")
    said = [
        NewLine(AttemptRef(job_id, 1), number, time.monotonic() - age, "INFO", "shop", "x")
        for number, age in enumerate((3600.0, 60.5, 0.0), 1)
    ]
    async with place.database.autocommit() as connection:
        await add_lines(connection, said, node=node)
        await add_lines(connection, said, node=node)
    now = await place.value("SELECT clock_timestamp()")
    async with place.database.sessions() as session:
        found = await lines_of(session, job_id)
        later = await lines_of(session, job_id, after=(1, 2))
    assert [(now - line.at) // timedelta(seconds=1) for line in found] == [3600, 60, 0]
    assert found[1].at - found[0].at == pytest.approx(timedelta(seconds=3539.5), abs=timedelta(milliseconds=1))
    assert [line.number for line in later] == [3]


async def test_lines_go_with_their_job_when_it_is_purged_or_deleted_in_sql(place: Place) -> None:
    gone = [await with_lines(place, status) for status in Status if status.is_terminal]
    await place.psql.execute(EXPIRED)
    kept = {await with_lines(place, status) for status in Status}
    await place.psql.execute("DELETE FROM jobtrail.jobs WHERE id = $1", gone[0])
    await purge(place.database, by="ann", history_ttl=None)
    found = await place.rows("SELECT DISTINCT job_id FROM jobtrail.log_lines")
    assert {row["job_id"] for row in found} == kept


@pytest.mark.parametrize(("count", "size"), [(LOG_LINES + 10, 1), (LOG_BYTES // 8000 + 10, 4000), (10, 1)])
async def test_a_trim_leaves_what_is_read(place: Place, count: int, size: int) -> None:
    """The size of a message is its bytes, of which this letter has two."""
    job_id, other = [await with_lines(place, Status.RUNNING, count, size) for _ in range(2)]
    async with place.database.sessions() as session:
        before = await lines_of(session, job_id)
    assert len(before) == min(count, LOG_LINES, LOG_BYTES // (2 * size))
    async with place.database.autocommit() as connection:
        await trim(connection, [job_id, uuid4()])
    left = await place.rows("SELECT number FROM jobtrail.log_lines WHERE job_id = $1 ORDER BY 1", job_id)
    assert [row["number"] for row in left] == [line.number for line in before]
    assert await place.value("SELECT count(*) FROM jobtrail.log_lines WHERE job_id = $1", other) == count
