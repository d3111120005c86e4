import os
import pty
import re
from collections.abc import Callable
from contextlib import redirect_stdout

import pytest

from jobtrail.cli.demo import screen

MOVE = '09:27:01.003  …6b4cd319  flaky             running → succeeded  attempt 3   "attempt 3 went well" and more'
ROW = "01a20294-8bc0-729d-b0ee-baf677b3a147  flaky           failed            3    0.009  ConnectionError: attempt 3"
REMARK = (
    "09:27:01.003  survived a kill: a_task_with_a_long_name …6b4cd319, attempt 2 began 6.4 s after process 1234567 fell"
)
LINES = [MOVE, ROW, REMARK]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], str]:
    """What a terminal of so many columns is sent."""

    def show(columns: int, **more: str) -> str:
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

    return show


def plain(said: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", said).splitlines()


def test_a_wide_terminal_gets_a_row_for_each_line_but_the_whole_remark(shown: Callable[..., str]) -> None:
    assert plain(shown(100)) == [f"{MOVE[:99]}…", f"{ROW[:99]}…", REMARK]


def test_a_narrow_one_and_a_pipe_get_all(shown: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    assert plain(shown(80)) == LINES
    screen()(MOVE)
    assert capsys.readouterr().out == f"{MOVE}\n"


def test_statuses_and_survivals_have_colours(shown: Callable[..., str]) -> None:
    said = shown(200)
    assert "→ \x1b[32msucceeded\x1b[0m" in said
    assert "\x1b[31mfailed\x1b[0m   " in said
    assert said.count("\x1b[0m") == 3
    assert "\x1b[1;35msurvived a kill:" in said
    assert "\x1b[3" not in shown(200, NO_COLOR="1")
