"""What jobs say while they run: written together, seldom, within limits, and only as long as the attempt is ours."""

import asyncio
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest

from jobtrail.db.engine import open_database
from jobtrail.jobs.fence import AttemptRef
from jobtrail.jobs.log import NewLine, read_log
from jobtrail.ranges import LOG_BYTES, LOG_LINES
from jobtrail.records import LogLine
from jobtrail.status import Status
from jobtrail.task.context import Progress
from jobtrail.worker import reports as reports_module
from jobtrail.worker.reports import Report, Reports
from support import rows, world
from support.statements import statements
from support.world import Place

NODE = uuid4()


async def running(place: Place, *, node: UUID = NODE, attempt: int = 1) -> AttemptRef:
    job_id = await rows.in_status(place, Status.RUNNING)
    for status in (Status.FAILED, Status.PENDING, Status.RUNNING) * (attempt - 1):
        await rows.moved(place, job_id, status)
    await place.psql.execute("UPDATE jobtrail.jobs SET node_id = $2 WHERE id = $1", job_id, node)
    return AttemptRef(job_id, attempt)


@asynccontextmanager
async def ticking(reports: Reports) -> AsyncIterator[None]:
    reports.loop.start()
    try:
        yield
    finally:
        await reports.loop.stop()


async def closed(reports: Reports, report: Report) -> str | None:
    """The progress that is left to be written with the end."""
    await reports.close(report)
    news = report.news()
    return None if news is None else news[1].progress


def say(report: Report, text: object, *args: object, **more: object) -> None:
    report.line(logging.makeLogRecord({"name": "shop", "levelname": "INFO", "msg": text, "args": args, **more}))


async def kept(place: Place, held: AttemptRef) -> list[LogLine]:
    return list(await read_log(world.services_at(place), held.id))


async def stored(place: Place, held: AttemptRef) -> int:
    return int(await place.value("SELECT count(*) FROM jobtrail.log_lines WHERE job_id = $1", held.id))


async def progress(place: Place, held: AttemptRef) -> str | None:
    found: str | None = await place.value("SELECT progress FROM jobtrail.jobs WHERE id = $1", held.id)
    return found


@pytest.fixture
def reports(place: Place) -> Reports:
    return Reports(place.database, NODE)


async def test_what_all_jobs_say_in_a_while_is_two_statements(place: Place) -> None:
    reports = Reports(place.database, NODE, every=0.1)
    opened = [reports.open(await running(place)) for _ in range(5)]
    began = time.monotonic()
    with statements(place) as sent:
        async with ticking(reports):
            for number in range(200):
                for report in opened:
                    report.progress(Progress(number, 200))
                    say(report, "line %d", number)
                await asyncio.sleep(0.002)  # it is a load, not a wait
            spoken = time.monotonic() - began
            await reports.loop.ticked()
        elapsed = time.monotonic() - began
    updates = [each for each in sent if each.startswith("UPDATE")]
    assert 1 <= len(updates) <= elapsed / 0.1 + 1
    assert len(sent) <= 2 * (elapsed / 0.1 + 1)
    said = [(1, number + 1, f"line {number}") for number in range(200)]
    for report in opened:
        assert await progress(place, report.held) == '{"done": 199, "note": null, "total": 200}'
        lines = await kept(place, report.held)
        assert [(line.attempt, line.number, line.message) for line in lines] == said
        assert (lines[-1].at - lines[0].at).total_seconds() == pytest.approx(spoken, abs=0.3)


async def test_a_quiet_job_costs_nothing(place: Place) -> None:
    reports = Reports(place.database, NODE, every=0.01)
    quiet, busy = [reports.open(await running(place)) for _ in range(2)]
    with statements(place) as sent:
        async with ticking(reports):
            for _ in range(2):
                busy.progress(Progress(1))
                await reports.loop.ticked()
                assert len(sent) == 1
        assert await closed(reports, quiet) is None
        assert await closed(reports, busy) is None
    assert len(sent) == 1


async def test_a_report_is_no_move(place: Place, reports: Reports) -> None:
    report = reports.open(await running(place))
    before = await rows.trail(place, report.held.id), await place.value("SELECT seq FROM jobtrail.jobs")
    report.progress(Progress(1, 2, "half"))
    await reports._tick()
    assert await progress(place, report.held) == '{"done": 1, "note": "half", "total": 2}'
    assert (await rows.trail(place, report.held.id), await place.value("SELECT seq FROM jobtrail.jobs")) == before


async def test_last_words(place: Place, reports: Reports) -> None:
    """Lines are there when `close` is back; the progress goes with the end."""
    report = reports.open(await running(place))
    report.progress(Progress(1))
    await reports._tick()
    report.progress(Progress(2, 2))
    say(report, "done")
    assert await closed(reports, report) == '{"done":2,"total":2,"note":null}'
    assert [line.message for line in await kept(place, report.held)] == ["done"]
    say(report, "a thread that was left behind")
    report.progress(Progress(3))
    with statements(place) as sent:
        await reports._tick()
    assert (sent, report.waiting) == ([], 0)


async def test_ends_at_once_share_a_statement(place: Place, reports: Reports) -> None:
    opened = [reports.open(await running(place)) for _ in range(20)]
    for report in opened:
        say(report, "done")
    with statements(place) as sent:
        await asyncio.gather(*(reports.close(report) for report in opened))
    assert len(sent) <= 2
    assert await place.value("SELECT count(*) FROM jobtrail.log_lines") == 20


@pytest.mark.parametrize("wrong", ["node", "attempt", "ended", "gone"])
async def test_a_stale_attempt_writes_nothing(place: Place, wrong: str) -> None:
    held = await running(place)
    reports = Reports(place.database, uuid4() if wrong == "node" else NODE)
    refs = {"attempt": AttemptRef(held.id, 2), "gone": AttemptRef(uuid4(), 1)}
    stale = reports.open(refs.get(wrong, held))
    if wrong == "ended":
        await rows.moved(place, held.id, Status.FAILED)
    ours = reports.open(await running(place)) if wrong != "node" else None
    for report in (each for each in (stale, ours) if each):
        report.progress(Progress(1))
        say(report, "here")
    await reports._tick()
    assert await progress(place, held) is None
    written = await place.rows("SELECT job_id FROM jobtrail.log_lines")
    assert [row["job_id"] for row in written] == ([ours.held.id] if ours else [])
    assert await closed(reports, stale) == '{"done":1,"total":null,"note":null}'


async def test_a_row_that_somebody_holds_keeps_only_itself_waiting(place: Place, reports: Reports) -> None:
    opened = [reports.open(await running(place)) for _ in range(3)]
    async with place.psql.transaction():
        await place.psql.execute("UPDATE jobtrail.jobs SET tags = '{mine}' WHERE id = $1", opened[0].held.id)
        for report in opened:
            report.progress(Progress(1))
            say(report, "here")
        await reports._tick()
    found = [await progress(place, report.held) is not None for report in opened]
    assert found == [False, True, True]
    assert [len(await kept(place, report.held)) for report in opened] == [1, 1, 1]
    await reports._tick()
    assert await progress(place, opened[0].held) is not None


async def test_every_thread_may_speak() -> None:
    report = Report(AttemptRef(uuid4(), 1))
    threads = [threading.Thread(target=lambda: [say(report, "x") for _ in range(100)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [line.number for line in report.lines()] == list(range(1, 801))


class Unshowable:
    def __str__(self) -> str:
        raise RuntimeError


async def test_hostile_words_are_stored_as_far_as_they_can_be(place: Place, reports: Reports) -> None:
    report = reports.open(await running(place))
    try:
        int("as\x00ked")
    except ValueError:
        say(report, "failed \x00", exc_info=sys.exc_info())
    say(report, "nul \x00 and \ud800")
    say(report, "%d", "no number")
    say(report, "%s", Unshowable())
    say(report, "long " * 10_000)
    say(report, "logger", name="l" * 1000, levelname="L" * 1000)
    say(report, 5)
    say(report, "from a child", exc_text="Traceback of the child", stack_info="its stack")
    report.line(None)  # type: ignore[arg-type] # whatever comes
    report.progress(Progress(1, None, "\x00\ud800" + "n" * 1000))
    await reports._tick()
    lines = [line.message for line in await kept(place, report.held)]
    assert lines[0].startswith("failed \\u0000\nTraceback (most recent call last):\n")
    assert lines[0].endswith("'as\\x00ked'")
    assert lines[1] == "nul \\u0000 and \\ud800"
    assert ["not formatted" in each for each in lines[2:4]] == [True, True]
    assert "[cut: 50000 characters in all]" in lines[4]
    assert len(lines[4].encode()) <= 8192
    assert lines[6:] == ["5", "from a child\nTraceback of the child\nits stack"]
    note = await place.value("SELECT progress->>'note' FROM jobtrail.jobs")
    assert note.startswith("\\u0000\\ud800nnn")
    assert len(note) < 520


@pytest.mark.parametrize(("count", "size", "waiting"), [(3000, 1, 1000), (100, 8000, 32)])
def test_memory_is_bounded_while_nothing_is_written(count: int, size: int, waiting: int) -> None:
    report = Report(AttemptRef(uuid4(), 1))
    for _ in range(count):
        say(report, "x" * size)
    assert [line.number for line in report.lines()] == list(range(count - waiting + 1, count + 1))


@pytest.mark.parametrize(("size", "most"), [(1, LOG_LINES), (4000, LOG_BYTES // 4000)])
async def test_storage_is_trimmed_now_and_then_and_read_exactly(
    place: Place, reports: Reports, size: int, most: int
) -> None:
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
    lines, said = await kept(place, report.held), 20 * (most // 8)
    assert [line.number for line in lines] == list(range(said - most + 1, said + 1))


async def test_the_attempts_of_a_job_share_what_is_kept(place: Place, reports: Reports) -> None:
    held = await running(place, attempt=2)
    await place.psql.execute(
        """INSERT INTO jobtrail.log_lines (job_id, attempt, number, at, level, logger, message)
           SELECT $1, 1, n, now(), 'INFO', 'shop', 'x' FROM generate_series(1, $2::int) n""",
        held.id, LOG_LINES,
    )  # fmt: skip
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
        assert await closed(reports, report) is not None
    told = f"the last 2 lines of the log of job {report.held.id} were not stored: the database does not answer ("
    assert f"jobtrail: {told}" in caplog.text
    assert "jobtrail: background loop 'reports' failed: the database does not answer ([Errno 111]" in caplog.text
    await away.dispose()


async def test_lines_that_cannot_be_stored_are_told_without_themselves(
    place: Place, reports: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    report = reports.open(await running(place))
    report._append(NewLine(report.held, 1, time.monotonic(), "INFO", "x", "secret \x00"))
    await reports._tick()
    assert report.waiting == 0
    told = f"jobtrail: 1 lines of the log of job {report.held.id} cannot be stored: the database refuses: invalid byte"
    assert told in caplog.text
    assert "secret" not in caplog.text
    assert "INSERT" not in caplog.text


async def test_lines_outlive_an_outage(place: Place, reports: Reports) -> None:
    """Nothing is lost that fits, and nothing is there twice when only the answer was lost."""
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
