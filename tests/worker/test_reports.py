"""What jobs say while they run: written together, seldom, and only as long as the attempt is ours."""

import asyncio
import sys
import threading
import time
from uuid import uuid4

import pytest

from jobtrail.jobs.renew import AttemptRef
from jobtrail.status import Status
from jobtrail.task.context import Progress
from jobtrail.worker.reports import Report, Reports
from support import rows
from support.reports import NODE, kept, progress, running, say, statements, ticking
from support.world import Place


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
    for report in opened:
        assert await progress(place, report.held) == '{"done": 199, "note": null, "total": 200}'
        lines = await kept(place, report.held)
        assert [(line.attempt, line.number, line.message) for line in lines] == [
            (1, number + 1, f"line {number}") for number in range(200)
        ]
        took = (lines[-1].at - lines[0].at).total_seconds()
        assert took == pytest.approx(spoken, abs=0.3)


async def test_a_quiet_job_costs_nothing(place: Place) -> None:
    reports = Reports(place.database, NODE, every=0.01)
    quiet, busy = [reports.open(await running(place)) for _ in range(2)]
    with statements(place) as sent:
        async with ticking(reports):
            busy.progress(Progress(1))
            await reports.loop.ticked()
            assert len(sent) == 1
            busy.progress(Progress(1))
            await reports.loop.ticked()
        assert await reports.close(quiet) is None
        assert await reports.close(busy) is None
    assert len(sent) == 1


async def test_a_report_is_no_move(place: Place) -> None:
    reports = Reports(place.database, NODE)
    report = reports.open(await running(place))
    before = await rows.trail(place, report.held.id), await place.value("SELECT seq FROM jobtrail.jobs")
    report.progress(Progress(1, 2, "half"))
    await reports._tick()
    assert await progress(place, report.held) == '{"done": 1, "note": "half", "total": 2}'
    assert (await rows.trail(place, report.held.id), await place.value("SELECT seq FROM jobtrail.jobs")) == before


async def test_last_words(place: Place) -> None:
    """Lines are there when `close` is back; the progress goes with the end."""
    reports = Reports(place.database, NODE)
    report = reports.open(await running(place))
    report.progress(Progress(1))
    await reports._tick()
    report.progress(Progress(2, 2))
    say(report, "done")
    assert await reports.close(report) == '{"done":2,"total":2,"note":null}'
    assert [line.message for line in await kept(place, report.held)] == ["done"]
    say(report, "a thread that was left behind")
    report.progress(Progress(3))
    with statements(place) as sent:
        await reports._tick()
    assert (sent, report.waiting) == ([], 0)


async def test_ends_at_once_share_a_statement(place: Place) -> None:
    reports = Reports(place.database, NODE)
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
    stale, ours = reports.open(AttemptRef(held.id, 2) if wrong == "attempt" else held), None
    if wrong == "ended":
        await rows.moved(place, held.id, Status.FAILED)
    if wrong == "gone":
        stale = reports.open(AttemptRef(uuid4(), 1))
    if wrong != "node":
        ours = reports.open(await running(place))
    for report in (each for each in (stale, ours) if each):
        report.progress(Progress(1))
        say(report, "here")
    await reports._tick()
    assert await progress(place, held) is None
    written = await place.rows("SELECT job_id FROM jobtrail.log_lines")
    assert [row["job_id"] for row in written] == ([ours.held.id] if ours else [])
    assert await reports.close(stale) == '{"done":1,"total":null,"note":null}'


async def test_a_row_that_somebody_holds_keeps_only_itself_waiting(place: Place) -> None:
    reports = Reports(place.database, NODE)
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


async def test_hostile_words_are_stored_as_far_as_they_can_be(place: Place) -> None:
    reports = Reports(place.database, NODE)
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
    assert "not formatted" in lines[2]
    assert "not formatted" in lines[3]
    assert "[cut: 50000 characters in all]" in lines[4]
    assert len(lines[4].encode()) <= 8192
    assert lines[6:] == ["5", "from a child\nTraceback of the child\nits stack"]
    note = await place.value("SELECT progress->>'note' FROM jobtrail.jobs")
    assert note.startswith("\\u0000\\ud800nnn")
    assert len(note) < 520
