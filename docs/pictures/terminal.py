"""A shell in a terminal, with somebody who types there; what it was sent is kept."""
# ruff: noqa: INP001 - a folder of pictures is no package

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn, Self

PROMPT: Final = "$ "

PATIENCE: Final = 60.0
"""Seconds until something must have been shown."""

_SHELL: Final = ("bash", "--norc", "--noprofile", "--noediting", "-i")


class Terminal:
    """`sent` is all that was sent to it. What runs in it at its end is interrupted, and killed if that is not enough.

    The standard library is enough for this; pexpect would be a dependency for it alone.
    """

    def __init__(self, columns: int, folder: Path, environ: Mapping[str, str]) -> None:
        self.sent = ""
        self._rest = b""
        self._shell, self._ours = pty.fork()
        if self._shell == 0:
            _become_shell(folder, {**environ, "PS1": PROMPT, "HISTFILE": "", "TERM": "xterm-256color"})
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._interrupt()
        finally:
            with suppress(ProcessLookupError):
                os.kill(self._shell, signal.SIGKILL)
            os.waitpid(self._shell, 0)
            os.close(self._ours)

    def run(self, command: str) -> None:
        """To its end."""
        self.type(command)
        self.until(rf"\n{re.escape(PROMPT)}$")

    def type(self, command: str) -> None:
        self.until(rf"(^|\n){re.escape(PROMPT)}$")
        os.write(self._ours, f"{command}\n".encode())
        self.until(re.escape(command) + "\r?\n")

    def until(self, pattern: str, since: int = 0, *, within: float = PATIENCE) -> re.Match[str]:
        """Wait until it is shown, `since` that place in what was sent."""
        end = time.monotonic() + within
        seeking = re.compile(pattern)
        while not (found := seeking.search(self.sent, since)):
            left = end - time.monotonic()
            if left < 0 or not self._read(left):
                raise TimeoutError(f"the terminal does not show {pattern!r}; it shows:\n{self.sent[since:]}")
        return found

    def interrupt(self) -> None:
        """Ctrl-C."""
        os.write(self._ours, b"\x03")

    def _read(self, within: float) -> bool:
        """False when there is nothing more to come, or nothing came."""
        if not select.select([self._ours], [], [], within)[0]:
            return False
        try:
            said = self._rest + os.read(self._ours, 65536)
        except OSError:  # EIO: the shell has ended
            return False
        whole = said.decode(errors="ignore")
        self._rest = said[len(whole.encode()) :]
        self.sent += whole.replace("\r\n", "\n")
        return True

    def _interrupt(self) -> None:
        runs = os.tcgetpgrp(self._ours)
        if runs == self._shell:
            return
        self.interrupt()
        end = time.monotonic() + 20
        while os.tcgetpgrp(self._ours) == runs and time.monotonic() < end:
            self._read(0.1)
        if os.tcgetpgrp(self._ours) == runs:
            os.killpg(runs, signal.SIGKILL)


def _become_shell(folder: Path, environ: Mapping[str, str]) -> NoReturn:
    try:
        os.chdir(folder)
        os.execvpe(_SHELL[0], _SHELL, environ)  # noqa: S606 - it stands in the PATH of whoever makes pictures
    finally:
        os._exit(127)
