"""Processes around an embedded PostgreSQL: other users of it, and the server's own."""

import atexit
import functools
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from jobtrail.db.embedded import EmbeddedPostgres
from jobtrail.db.programs import installed_programs
from support.servers import environment, reachable_folder, system_binaries

SERVICE = Path(__file__).parents[2] / "service"
BINARIES = [installed_programs().where, *system_binaries()]

USER = """
import os, sys
from pathlib import Path
from jobtrail.db.embedded import EmbeddedPostgres
postgres = EmbeddedPostgres(Path(sys.argv[1]), binaries=Path(sys.argv[2]))
try:
    url = postgres.start()
    exec(sys.argv[3])
    print(url, flush=True)
    sys.stdin.readline()
finally:
    postgres.stop()
"""


def wait_until(fact: Callable[[], object], seconds: float = 60) -> None:
    """For tests of calls that block, which have no event loop."""
    deadline, clock = time.monotonic() + seconds, threading.Event()
    while not fact():
        assert time.monotonic() < deadline, "what the test waits for did not happen"
        clock.wait(0.005)


def ask(url: str, question: str) -> str:
    psql = [str(BINARIES[0] / "psql"), url, "-XAtqc", question]
    return subprocess.run(psql, check=True, capture_output=True, text=True).stdout.strip()


def start_user(folder: Path, binaries: Path, then: str = "") -> subprocess.Popen[str]:
    """Another process, in a process group of its own: it starts, runs `then`, says its URL, stops when told a line."""
    return subprocess.Popen(
        [sys.executable, "-c", USER, str(folder), str(binaries), then],
        env=environment(PYTHONPATH=str(SERVICE)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def said_url(user: subprocess.Popen[str]) -> str:
    assert user.stdout
    return user.stdout.readline().strip()


@functools.cache
def _model(binaries: Path) -> Path:
    opened = reachable_folder()
    folder = opened.__enter__() / "model"
    atexit.register(opened.__exit__, None, None, None)
    with EmbeddedPostgres(folder, binaries=binaries):
        pass
    return folder


def used_before(folder: Path, binaries: Path = BINARIES[0]) -> EmbeddedPostgres:
    """One that was started in this folder before, so that nobody has to wait for initdb, and that does not run."""
    subprocess.run(["cp", "-a", _model(binaries), folder], check=True)
    return EmbeddedPostgres(folder, binaries=binaries)


def servers_in(folder: Path) -> list[psutil.Process]:
    """Every process of PostgreSQL that works below `folder`, initdb's included."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.name() in {"postgres", "initdb"} and Path(process.cwd()).is_relative_to(folder):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def postmaster_of(folder: Path) -> psutil.Process:
    return psutil.Process(int((folder / "data" / "postmaster.pid").read_text().split("\n")[0]))
