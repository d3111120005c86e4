"""How much of what jobs say is kept, in memory and in the table, and what an outage costs."""

import time
from uuid import uuid4

import pytest

from jobtrail.db.engine import open_database
from jobtrail.jobs.log import NewLine
from jobtrail.jobs.renew import AttemptRef
from jobtrail.limits import LOG_BYTES, LOG_LINES
from jobtrail.task.context import Progress
from jobtrail.worker import reports as reports_module
from jobtrail.worker.reports import Report, Reports
from support.reports import NODE, kept, running, say, statements, stored, ticking
from support.world import Place


@pytest.mark.parametrize(("count", "size", "waiting"), [(3000, 1, 1000), (100, 8000, 32)])
def test_memory_is_bounded_while_nothing_is_written(count: int, size: int, waiting: int) -> None:
    report = Report(AttemptRef(uuid4(), 1))
    for _ in range(count):
        say(report, "x" * size)
    assert [line.number for line in report.lines()] == list(range(count - waiting + 1, count + 1))


@pytest.mark.parametrize(("size", "most"), [(1, LOG_LINES), (4000, LOG_BYTES // 4000)])
async def test_storage_is_trimmed_now_and_then_and_read_exactly(place: Place, size: int, most: int) -> None:
    reports = Reports(place.database, NODE)
    report = reports.open(await running(place))
    trims = 0
    for _ in range(20):
        for _ in range(most // 8):
            say(report, "x" * size)
        with statements(place) as sent:
            await reports._tick()
        trims += any(each.startswith("DELETE") for each in sent)
        assert await stored(place, report.held) <= 1.5 * most
    assert 2 <= trims <= 10
    lines = await kept(place, report.held)
    said = 20 * (most // 8)
    assert [line.number for line in lines] == list(range(said - most + 1, said + 1))


async def test_the_attempts_of_a_job_share_what_is_kept(place: Place) -> None:
    held = await running(place, attempt=2)
    await place.psql.execute(
        """INSERT INTO jobtrail.log_lines (job_id, attempt, number, at, level, logger, message)
           SELECT $1, 1, n, now(), 'INFO', 'shop', 'x' FROM generate_series(1, $2::int) n""",
        held.id,
        LOG_LINES,
    )
    reports = Reports(place.database, NODE)
    report = reports.open(held)
    for _ in range(10):
        say(report, "second")
    await reports.close(report)
    lines = await kept(place, held)
    assert (lines[0].number, lines[-1].attempt, lines[-1].number, len(lines)) == (11, 2, 10, LOG_LINES)
    assert await stored(place, held) == LOG_LINES + 10
    await reports._tick()
    assert await stored(place, held) == LOG_LINES


async def test_a_database_that_is_away_holds_up_no_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reports_module, "_PATIENCE", 0.2)
    away = open_database("postgresql+asyncpg://127.0.0.1:1/nowhere")
    reports = Reports(away, NODE, every=0.01)
    report = reports.open(AttemptRef(uuid4(), 1))
    say(report, "one")
    say(report, "two")
    report.progress(Progress(1))
    async with ticking(reports):
        await reports.loop.ticked()
        assert report.waiting == 2
        assert await reports.close(report) is not None
    told = (
        f"jobtrail: the last 2 lines of the log of job {report.held.id} were not stored: the database does not answer ("
    )
    assert told in caplog.text
    assert "jobtrail: reports: the database does not answer ([Errno 111]" in caplog.text
    await away.dispose()


async def test_lines_that_cannot_be_stored_are_told_without_themselves(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    reports = Reports(place.database, NODE)
    report = reports.open(await running(place))
    report._append(NewLine(report.held, 1, time.monotonic(), "INFO", "x", "secret \x00"))
    await reports._tick()
    assert report.waiting == 0
    told = f"jobtrail: 1 lines of the log of job {report.held.id} cannot be stored: the database refuses: invalid byte"
    assert told in caplog.text
    assert "secret" not in caplog.text
    assert "INSERT" not in caplog.text


async def test_lines_outlive_an_outage(place: Place) -> None:
    """Nothing is lost that fits, and nothing is there twice when only the answer was lost."""
    reports = Reports(place.database, NODE)
    report = reports.open(await running(place))
    say(report, "one")
    lines = report.lines()
    await reports._tick()
    say(report, "two")
    await reports._add([lines])
    await place.psql.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'jobtrail'"
        " AND datname = current_database()"
    )
    await reports._tick()
    assert [line.message for line in await kept(place, report.held)] == ["one", "two"]
