"""The same tools that `make check` runs, so that whoever runs only the tests has run them too."""

import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.mark.parametrize("command", ["ruff format --check .", "ruff check .", "mypy", "lint-imports --no-cache"])
def test_the_tools_find_nothing(command: str) -> None:
    name, *arguments = command.split()
    done = subprocess.run([BIN / name, *arguments], cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
