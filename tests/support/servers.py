"""For processes that a test starts: an environment, a folder, and the PostgreSQL of the system."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def system_binaries() -> list[Path]:
    """Newest first; empty where no PostgreSQL is installed."""
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return sorted((each.parent for each in found), key=lambda folder: int(folder.parent.name), reverse=True)


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """A fresh folder that the server's own user can enter, also when the tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix="jobtrail-test-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def environment(**more: str) -> dict[str, str]:
    """The environment of a child process: without the settings of whoever runs the tests, be it make, and without what
    is said there of a terminal. No bytecode is kept: of a module that a test writes anew within the same second Python
    would take the old one.
    """
    others = ("JOBTRAIL_", "DATABASE_URL", "PG", "MAKE", "MFLAGS", *_OF_TERMINALS)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", **more}


_OF_TERMINALS = ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TTY_")
