"""A noun brings its table: rights, migrations and the test kit must know it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]

MADE = {
    name
    for path in (TOP / "migrations" / "versions").glob("*.py")
    for name in re.findall(r"CREATE TABLE jobtrail\.(\w+)", path.read_text())
}


@pytest.mark.parametrize("module", ["jobtrail.wiring", "jobtrail.testing.database", "jobtrail.ops.pauses"])
def test_every_table_is_known_with_its_rights(module: str) -> None:
    rights = "{table.name: table.info['rights'] for table in jobtrail.db.tables.metadata.tables.values()}"
    script = f"import {module}, jobtrail.db.tables; print(*{rights})"
    known = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert len(MADE) > 5
    assert sorted(known) == sorted(MADE)
