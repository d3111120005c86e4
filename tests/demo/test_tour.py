"""`jobtrail demo`: its settings, its screen, and what it shows of the history; the test plays the node, in SQL."""

import os
import pty
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from jobtrail.cli.demo import choose, demo, screen
from jobtrail.demo.tour import Trail
from jobtrail.errors import SettingsError
from jobtrail.jobs.rescue import rescue
from jobtrail.status import Status
from support.rows import born, moved
from support.world import Place, judge, services_at

MOVE = '09:27:01.003  …6b4cd319  flaky             running → succeeded  attempt 3   "attempt 3 went well" and more'
ROW = "01a20294-8bc0-729d-b0ee-baf677b3a147  flaky           failed            3    0.009  ConnectionError: attempt 3"
REMARK = (
    "09:27:01.003  survived a kill: a_task_with_a_long_name …6b4cd319, attempt 2 began 6.4 s after process 1234567 fell"
)
LINES = [MOVE, ROW, REMARK]
DEAD = 4194304
"""More than the largest id of a process."""


@pytest.mark.parametrize("missing", ["aiosmtpd", "httpx"])
def test_without_its_extra_the_demo_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SettingsError, match=r'pip install "jobtrail\[embedded,demo\]"'):
        demo()


@pytest.mark.parametrize(
    ("given", "lease", "grace"),
    [
        ({}, 5, 5),
        ({"JOBTRAIL_LEASE": "1m"}, 60, 5),
        ({"JOBTRAIL_GRACE": "20s"}, 5, 20),
        ({"JOBTRAIL_POLL_EVERY": "5s"}, 30, 5),
    ],
)
def test_its_times_are_short_unless_they_are_said(
    given: dict[str, str], lease: int, grace: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    chosen = choose()
    assert (chosen.lease.total_seconds(), chosen.grace.total_seconds()) == (lease, grace)


def shown(monkeypatch: pytest.MonkeyPatch, columns: int, **more: str) -> str:
    """What a terminal of so many columns is sent."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm", "COLUMNS": str(columns), **more}.items():
        monkeypatch.setenv(name, value)
    ours, theirs = pty.openpty()
    with open(theirs, "w") as terminal, redirect_stdout(terminal):  # noqa: PTH123 - it is no path
        say = screen()
        for line in LINES:
            say(line)
        said = b""
        while said.count(b"\n") < len(LINES):
            said += os.read(ours, 65536)
    os.close(ours)
    return said.decode().replace("\r\n", "\n")


def test_a_wide_terminal_gets_a_row_for_each_line_a_narrow_one_and_a_pipe_get_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wide, narrow = (re.sub(r"\x1b\[[0-9;]*m", "", shown(monkeypatch, columns)) for columns in (100, 80))
    assert wide.splitlines() == [f"{MOVE[:99]}…", f"{ROW[:99]}…", REMARK]
    assert narrow.splitlines() == LINES
    screen()(MOVE)
    assert capsys.readouterr().out == f"{MOVE}\n"


def test_statuses_and_survivals_have_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    said = shown(monkeypatch, 200)
    for coloured in ("→ \x1b[32msucceeded\x1b[0m", "\x1b[31mfailed\x1b[0m   ", "\x1b[1;35msurvived a kill:"):
        assert coloured in said
    assert said.count("\x1b[0m") == 3
    assert "\x1b[3" not in shown(monkeypatch, 200, NO_COLOR="1")


async def trail_of(place: Place, said: list[str]) -> Trail:
    return Trail(services_at(place), said.append, await place.value("SELECT clock_timestamp()"))


async def running(place: Place, pid: int | None = None) -> UUID:
    """A job in the first of two attempts, whose lease is over; its node has this `pid`, or has signed off."""
    job_id, node_id = await born(place, "nap", max_attempts=2), uuid4()
    if pid is not None:
        await place.psql.execute(
            """INSERT INTO jobtrail.nodes (id, host, pid, version, queues, tasks, slots, lease)
               VALUES ($1, 'here', $2, '1', '{}', '{}', '{}', '0')""",
            node_id, pid,
        )  # fmt: skip
    claim = """UPDATE jobtrail.jobs SET status = 'running', attempt = 1, node_id = $2, started_at = now(),
        lease_until = now() - interval '1 s' WHERE id = $1"""
    await place.psql.execute(claim, job_id, node_id)
    return job_id


async def test_a_job_that_begins_anew_and_ends_has_survived(place: Place) -> None:
    await born(place)  # before the trail: not shown
    said: list[str] = []
    trail = await trail_of(place, said)
    job_id = await running(place, DEAD)
    await rescue(place.database, node=await judge(place), by="node")
    await trail.look()
    assert not trail.have_begun([job_id])
    await moved(place, job_id, Status.RUNNING)
    await trail.look()
    assert (trail.have_begun([job_id]), trail.have_ended([job_id])) == (True, False)
    await moved(place, job_id, Status.SUCCEEDED)
    for _ in range(2):
        await trail.look()
    assert trail.have_ended([job_id])
    told = [re.search(r"survived|(?<=→ )\w+", line) for line in said]
    assert [each and each[0] for each in told] == [
        "pending", "running", "pending", "running", "survived", "succeeded", "survived"
    ]  # fmt: skip
    name = f"nap …{str(job_id)[-8:]}"
    assert re.search(rf"survived a kill: {name}, attempt 2 began \d+\.\d s after process {DEAD} fell silent$", said[4])
    assert said[6].endswith(f"survived a kill: {name} succeeded in attempt 2")


@pytest.mark.parametrize(
    ("kind", "reason", "told"),
    [
        ("lost", "rescued", "survived a kill: nap …{}, attempt 2 began"),
        ("lost", "lost", "survived a stop: nap …{}, attempt 2 began"),
        ("ValueError", "ValueError", ""),
    ],
)
async def test_who_signed_off_was_stopped_and_an_error_is_no_death(
    place: Place, kind: str, reason: str, told: str
) -> None:
    said: list[str] = []
    trail = await trail_of(place, said)
    job_id = await running(place)
    back = """UPDATE jobtrail.jobs SET status = 'pending', node_id = NULL, lease_until = NULL, started_at = NULL,
        seq = seq + 1, moved_by = 'node', move_reason = $2, error = jsonb_build_object('type', $3::text, 'message', '')
        WHERE id = $1"""
    await place.psql.execute(back, job_id, reason, kind)
    await moved(place, job_id, Status.RUNNING)
    await trail.look()
    remarks = [line[14:] for line in said if "→" not in line]
    assert remarks == ([told.format(str(job_id)[-8:])] if told else [])
    assert len(said) - len(remarks) == 4


async def test_an_attempt_after_the_next_or_by_hand_is_no_survival(place: Place) -> None:
    said: list[str] = []
    trail = await trail_of(place, said)
    twice, once = await running(place, DEAD), await running(place, DEAD)
    await place.psql.execute("UPDATE jobtrail.jobs SET max_attempts = 1 WHERE id = $1", once)
    await rescue(place.database, node=await judge(place), by="node")
    for status in (Status.RUNNING, Status.PENDING, Status.RUNNING, Status.SUCCEEDED):
        await moved(place, twice, status)
    for status in (Status.PENDING, Status.RUNNING):
        await moved(place, once, status)
    await trail.look()
    (survived,) = [line for line in said if "survived" in line]
    assert f"nap …{str(twice)[-8:]}, attempt 2 began" in survived
