"""As whom PostgreSQL's programs run: as the user of this process, and for root, which they refuse, as somebody else."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

from jobtrail.job.errors import SettingsError

# None of the caller's own variables: PGDATA, PGHOST, LD_LIBRARY_PATH or a locale would change what the programs do.
ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True)
class Account:
    name: str
    uid: int
    gid: int

    def can_enter(self, folder: Path) -> bool:
        return run_as(self, ["test", "-x", str(folder)])[0] == 0

    def can_run(self, program: Path) -> bool:
        try:
            return run_as(self, [str(program), "--version"])[0] == 0
        except PermissionError:
            return False

    def own(self, path: Path) -> None:
        """Makes `path` the account's; never what a link points at."""
        os.chown(path, self.uid, self.gid, follow_symlinks=False)


def account_for(data: Path) -> Account | None:
    """None, the user of this process, unless that is root. An existing data folder stays its owner's."""
    if os.geteuid() != 0:
        return None
    owner = data.stat() if data.exists() else None
    if owner and owner.st_uid != 0:
        return Account(f"with the id {owner.st_uid}", owner.st_uid, owner.st_gid)
    return system_account("jobtrail")


def system_account(name: str) -> Account:
    """The system user of this name, made when missing. Raises SettingsError when it cannot be made."""
    said = "there is no useradd"
    for _ in range(2):
        try:
            found = pwd.getpwnam(name)
            return Account(name, found.pw_uid, found.pw_gid)
        except KeyError:
            if useradd := shutil.which("useradd"):
                command = [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
                said = run_as(None, command)[1].strip()
    raise SettingsError(
        f"PostgreSQL does not run as root, and no system user {name} could be made for it ({said}): set "
        "JOBTRAIL_DATABASE_URL to a PostgreSQL of your own, or run as an ordinary user"
    )


def run_as(
    account: Account | None,
    command: Sequence[str],
    *,
    folder: Path = Path("/"),
    stdin: str = "",
    inherits: Sequence[int] = (),
) -> tuple[int, str]:
    """The exit code and what the program wrote, once it ended. It has a session of its own: Ctrl-C in the terminal of
    the service is not meant for it. Raises OSError when it cannot be run.
    """
    with TemporaryFile("w+", encoding="utf-8", errors="replace") as output:  # a server would keep a pipe open for ever
        done = subprocess.run(  # noqa: S603  no shell, and nothing in it comes from a request
            command,
            check=False,
            cwd=folder,
            env=ENVIRONMENT,
            input=stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            pass_fds=inherits,
            start_new_session=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
        output.seek(0)
        return done.returncode, output.read()
