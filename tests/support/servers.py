"""The PostgreSQL servers that tests run on: the embedded one, or the system's when its binaries are present."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobtrail.db.embedded import EmbeddedPostgres
from jobtrail.testing.server import embedded_server


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


@contextmanager
def server(which: str) -> Iterator[EmbeddedPostgres]:
    """A server of its own; `which` is `system`, or else the embedded one. Its durability is PostgreSQL's own."""
    binaries = system_binaries()[0] if which == "system" else None
    with embedded_server({"max_connections": "200"}, binaries=binaries) as running:
        yield running


def environment(**more: str) -> dict[str, str]:
    """The environment of a child process: without the settings of whoever runs the tests, be it make."""
    others = ("JOBTRAIL_", "DATABASE_URL", "PG", "MAKE", "MFLAGS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    return {**kept, **more}
