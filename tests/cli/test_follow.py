"""A job that somebody looks at while it goes on; the test plays the node, in SQL."""

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

import pytest

from jobtrail.status import Status
from support import rows
from support.command import Command, ended, terminal
from support.until import until
from support.world import Place

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"


async def progress(place: Place, job_id: UUID, **said: Any) -> None:
    query = "UPDATE jobtrail.jobs SET progress = $2 WHERE id = $1"
    await place.psql.execute(query, job_id, json.dumps({"done": 0, "total": None, "note": None, **said}))


async def says(place: Place, job_id: UUID, message: str, number: int = 1, attempt: int = 1) -> None:
    await place.psql.execute(
        """INSERT INTO jobtrail.log_lines (job_id, attempt, number, at, level, logger, message)
           VALUES ($1, $2, $3, now(), 'INFO', 'shop', $4)""",
        job_id, attempt, number, message,
    )  # fmt: skip


@asynccontextmanager
async def piped(jobtrail: Command, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await jobtrail.start(*words)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def line(process: asyncio.subprocess.Process) -> str:
    """The next one, without its time."""
    assert process.stdout
    said = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
    assert re.match(f"{TIME}  ", said), said
    return said.split("  ", 1)[1].rstrip("\n")


async def test_a_pipe_gets_a_line_for_each_change(jobtrail: Command, place: Place) -> None:
    job_id = await rows.born(place, max_attempts=2)
    async with piped(jobtrail, "show", str(job_id), "--watch", "--log") as process:
        assert await line(process) == "pending    attempt 0/2"
        await rows.moved(place, job_id, Status.RUNNING)
        assert await line(process) == "running    attempt 1/2"
        await progress(place, job_id, done=40, total=100, note="rows \x1b[31m")
        assert await line(process) == r"running    attempt 1/2  40/100  rows \x1b[31m"
        await progress(place, job_id, done=2.5)
        assert await line(process) == "running    attempt 1/2  2.5"
        await says(place, job_id, "first\nsecond \x1b[2J")
        assert await line(process) == "1  INFO     shop: first"
        assert process.stdout
        assert await process.stdout.readline() == b"    second \\x1b[2J\n"
        await place.psql.execute("UPDATE jobtrail.jobs SET cancel_requested_at = now(), cancel_requested_by = 'me'")
        assert await line(process) == "running    attempt 1/2  asked to stop  2.5"
        await says(place, job_id, "last words", 2)
        await rows.moved(place, job_id, Status.FAILED)
        assert await line(process) == "1  INFO     shop: last words"
        assert await line(process) == "failed     attempt 1/2  2.5  E"
        done = await ended(process)
    assert (done.code, done.out, done.err) == (1, "", "")


@pytest.mark.parametrize("status", [status for status in Status if status.is_terminal])
async def test_the_exit_code_says_how_it_ended(jobtrail: Command, place: Place, status: Status) -> None:
    job_id = await rows.in_status(place, status)
    done = await jobtrail("show", str(job_id), "--watch")
    assert done.code == (0 if status is Status.SUCCEEDED else 1)
    assert re.fullmatch(rf"{TIME}  {status:<9}  attempt .*\n", done.out)


async def test_as_json_there_is_one_document_and_only_at_the_end(jobtrail: Command, place: Place) -> None:
    job_id = await rows.in_status(place, Status.RUNNING)
    await says(place, job_id, "one")
    words = ("show", str(job_id), "--watch", "--json", "--log", "--history")
    before = await place.value("SELECT clock_timestamp()")
    async with piped(jobtrail, *words) as process:

        async def looks() -> bool:
            new = "SELECT count(*) FROM pg_stat_activity WHERE backend_start > $1 AND datname = current_database()"
            return bool(await place.value(new, before))

        await until(looks)
        assert process.returncode is None
        await rows.moved(place, job_id, Status.SUCCEEDED)
        done = await ended(process)
    assert done.code == 0
    found = done.json
    assert (found["status"], found["log"][0]["message"]) == ("succeeded", "one")
    assert [move["to_status"] for move in found["transitions"]] == ["pending", "running", "succeeded"]


async def test_who_leaves_changes_nothing(jobtrail: Command, place: Place) -> None:
    job_id = await rows.in_status(place, Status.RUNNING)
    async with piped(jobtrail, "show", str(job_id), "--watch") as process:
        await line(process)
        process.send_signal(signal.SIGINT)
        done = await ended(process)
    assert (done.code, done.err) == (130, "")
    assert await place.value("SELECT status FROM jobtrail.jobs") == "running"


async def test_a_row_that_is_purged_meanwhile(jobtrail: Command, place: Place) -> None:
    job_id = await rows.in_status(place, Status.RUNNING)
    async with piped(jobtrail, "show", str(job_id), "--watch", "--log") as process:
        await line(process)
        async with place.psql.transaction():
            await rows.moved(place, job_id, Status.SUCCEEDED)
            await place.psql.execute("UPDATE jobtrail.jobs SET ttl = '0', expires_at = now() - interval '1 s'")
            await place.psql.execute("DELETE FROM jobtrail.jobs")
        assert await line(process) == "succeeded  attempt 1/1"
        assert (await ended(process)).code == 0


@pytest.mark.parametrize("columns", [40, 100])
async def test_a_terminal_gets_a_bar_that_fills(jobtrail: Command, place: Place, columns: int) -> None:
    job_id = await rows.born(place, max_attempts=2)
    async with terminal(jobtrail, "show", str(job_id), "--watch", "--log", columns=columns, NO_COLOR="1") as screen:
        await screen.shows("pending", "0/2", "0:0")
        await rows.moved(place, job_id, Status.RUNNING)
        await screen.shows("running", "1/2")
        await progress(place, job_id, done=1, total=4, note="a quarter \x1b[31m")
        quarter = await screen.shows("running", "1/4", "━")
        await says(place, job_id, "a word \x1b[2J")
        await screen.shows("INFO     shop: a word \\x1b[2J")
        await progress(place, job_id, done=3, total=4, note="n" * 500)
        most = await screen.shows("running", "3/4", "━")
        await progress(place, job_id, done=12345)
        await screen.shows("running", "12345", "━")  # it pulses: in a narrow one there is nothing at times
        await rows.moved(place, job_id, Status.SUCCEEDED)
        await screen.shows("result:")
        code = await screen.ended()
    assert code == 0
    assert most.count("━") >= quarter.count("━")
    assert columns < 80 or "a quarter \\x1b[31m" in quarter
    frames = [each for each in screen.lines if each.startswith("running")]
    assert all(len(frame) <= columns for frame in frames)
    assert "\x1b[2J" not in screen.sent
    assert [each.split() for each in screen.lines if each.startswith("status:")] == [["status:", "succeeded"]]


async def test_a_terminal_that_cannot_change_a_line_gets_lines(jobtrail: Command, place: Place) -> None:
    job_id = await rows.in_status(place, Status.SUCCEEDED)
    async with terminal(jobtrail, "show", str(job_id), "--watch", TERM="dumb") as screen:
        assert await screen.ended() == 0
        await screen.shows("succeeded", "attempt 1/1")
    assert "\x1b[" not in screen.sent


async def test_ctrl_c_leaves_the_terminal_as_it_was(jobtrail: Command, place: Place) -> None:
    job_id = await rows.in_status(place, Status.RUNNING)
    async with terminal(jobtrail, "show", str(job_id), "--watch") as screen:
        await screen.shows("running", "1/1")
        screen.process.send_signal(signal.SIGINT)
        assert await screen.ended() == 130
    assert screen.sent.rindex("\x1b[?25h") > screen.sent.rindex("\x1b[?25l")
    assert "Traceback" not in screen.sent
    assert await place.value("SELECT status FROM jobtrail.jobs") == "running"
