"""The data folder and the server on it. Whoever calls holds the folder's setup lock, so nobody else starts or stops it.

The server inherits `server.lock` and so holds it until its last process is gone: nobody has to believe a process id
that a dead server left behind.
"""

import os
import shlex
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from jobtrail.db.embedded.account import run_as
from jobtrail.db.embedded.locks import is_alone, open_lock
from jobtrail.db.embedded.programs import Programs, end_of
from jobtrail.job.errors import SettingsError, UnavailableError

PATIENCE: Final = 120
"""Seconds for a server to come up, perhaps out of a crash, or to go down."""

APPEARANCE: Final = 5
"""Seconds until a server whose start was interrupted has said who it is, or what is left of a dead one is gone."""

LONGEST_SOCKET: Final = 100
"""Bytes; Linux allows 107, macOS 103."""


def socket_folder(folder: Path) -> Path:
    """In `folder`, unless its name is too long for a socket or has a comma, where clients take a host to end."""
    inside = folder / "socket"
    name = os.fsencode(inside / ".s.PGSQL.5432")
    if len(name) <= LONGEST_SOCKET and b"," not in name:
        return inside
    return Path(f"/tmp/jobtrail-{os.geteuid()}-{short_hash(folder)}")  # noqa: S108  its owner is checked before use


def short_hash(path: Path) -> str:
    return sha256(os.fsencode(path)).hexdigest()[:12]


class Cluster:
    def __init__(self, folder: Path, programs: Programs) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._log = folder / "postgres.log"
        self._socket = socket_folder(folder)
        self._programs = programs

    def create(self) -> None:
        """Makes the data folder, which appears complete or not at all, and clears away what broken attempts left."""
        if self._data.exists():
            return
        for left in self._folder.glob("data.new-*"):
            shutil.rmtree(left, ignore_errors=True)
        # A name of its own each time: an initdb that outlived its killed caller must not write into the next one's.
        fresh = Path(mkdtemp(prefix="data.new-", dir=self._folder))
        self._programs.own(fresh)
        # No passwords: only the owner of the socket's folder, and root, can reach the server.
        flags = ("--encoding=UTF8", "--locale=C", "--auth=trust", "--username=postgres", "--no-instructions")
        self._programs.run("initdb", *flags, f"--pgdata={fresh}", folder=self._folder)
        fresh.rename(self._data)

    def start(self, options: Mapping[str, str]) -> None:
        """Has a server that answers: the one that is there, or a new one with `options`."""
        with self._server_lock() as lock:
            if not _wait_for(lambda: is_alone(lock) or self._answers(), PATIENCE):
                raise UnavailableError(f"the embedded PostgreSQL in {self._folder} runs but does not answer")
            if is_alone(lock):
                self._make_socket_folder()
                self._clear_traces()
                self._run_server(options, lock)

    def create_database(self) -> None:
        script = r"""
            SELECT 'CREATE DATABASE jobtrail'
             WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'jobtrail') \gexec
        """
        flags = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname=postgres")
        self._programs.run("psql", *flags, *self._address(), stdin=script)

    def stop(self) -> None:
        """Returns when no process of the server is left. Nobody is signalled who is not known to be the server."""
        with self._server_lock() as lock:
            _wait_for(lambda: is_alone(lock) or self._has_postmaster(), APPEARANCE)
            if not is_alone(lock) and self._has_postmaster():
                command = ("stop", "-m", "fast", "-w", "-t", str(PATIENCE), "-D", "data")
                self._programs.run("pg_ctl", *command, folder=self._folder)
                _wait_for(lambda: is_alone(lock), PATIENCE)

    @contextmanager
    def _server_lock(self) -> Iterator[int]:
        lock = open_lock(self._folder / "server.lock")
        try:
            yield lock
        finally:
            os.close(lock)  # not unlocked: the server goes on holding it

    def _answers(self) -> bool:
        command = [str(self._programs.where / "pg_isready"), *self._address()]
        return run_as(self._programs.account, command)[0] == 0

    def _address(self) -> tuple[str, ...]:
        return (f"--host={self._socket}", "--port=5432", "--username=postgres")

    def _make_socket_folder(self) -> None:
        self._socket.mkdir(mode=0o700, exist_ok=True)
        found = self._socket.lstat()
        account = self._programs.account
        owners = {os.geteuid(), account.uid if account else os.geteuid()}
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners or found.st_mode & 0o077:
            raise SettingsError(
                f"{self._socket}, the folder of PostgreSQL's socket, is somebody else's or open to others: remove it, "
                "or set JOBTRAIL_DATA_DIR to another folder"
            )
        self._programs.own(self._socket)

    def _clear_traces(self) -> None:
        """The server before left its log, which is kept once, and perhaps its process id, which would stop the next."""
        if not self._has_postmaster():
            (self._data / "postmaster.pid").unlink(missing_ok=True)
            (self._socket / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            self._log.replace(self._log.with_suffix(".log.1"))
        os.close(os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        self._programs.own(self._log)

    def _has_postmaster(self) -> bool:
        """Whether the process that postmaster.pid names works in the data folder, as a postmaster does. After a reboot
        it may be any program. Where the system does not tell, PostgreSQL's own judgement stands.
        """
        try:
            pid = int((self._data / "postmaster.pid").read_text().split("\n")[0])
            return Path(f"/proc/{pid}/cwd").samefile(self._data)
        except (OSError, ValueError):
            return not Path("/proc/self/cwd").exists()

    def _run_server(self, options: Mapping[str, str], lock: int) -> None:
        quoted = str(self._socket).replace('"', '""')
        own = {"listen_addresses": "", "unix_socket_directories": f'"{quoted}"', "unix_socket_permissions": "0700"}
        settings = {**options, **own, "port": "5432"}
        flags = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items())
        # Relative names: pg_ctl puts them into a shell command, where a folder's own name might mean something.
        command = ("start", "-w", "-t", str(PATIENCE), "-D", "data", "-l", self._log.name, "-o", flags)
        try:
            self._programs.run("pg_ctl", *command, folder=self._folder, inherits=[lock])
        except UnavailableError as error:
            said = end_of(self._log.read_text(errors="replace")) or str(error)
            raise UnavailableError(f"the embedded PostgreSQL did not start; {self._log} ends with:\n{said}") from error


def _wait_for(fact: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
