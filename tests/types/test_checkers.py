"""What a host's type checker makes of Jobtrail, in both of those that are in use.

They run at once and side by side, as a host runs them: without plugin and without a word of configuration.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
TOP = HERE.parents[1]
BIN = Path(sys.executable).parent

Lines = dict[str, list[int]]
"""The lines of each file that a checker refuses."""

COMMANDS = {
    # what is remembered of other packages makes it three times as fast; `make clean` removes it
    "mypy": ["mypy", "--strict", "--config-file=", "--output=json", f"--cache-dir={TOP}/.mypy_cache/of-a-host"],
    "pyright": ["pyright", "--outputjson", f"--pythonpath={sys.executable}"],
}


@pytest.fixture(scope="module")
async def refused() -> dict[str, Lines]:
    said = await asyncio.gather(*(run(command) for command in COMMANDS.values()))
    found = [(json.loads(line) for line in said[0].splitlines()), json.loads(said[1])["generalDiagnostics"]]
    return {checker: lines(each) for checker, each in zip(COMMANDS, found, strict=True)}


async def run(command: list[str]) -> str:
    program, *options = command
    checking = await asyncio.create_subprocess_exec(
        BIN / program, *options, "good.py", "bad.py", cwd=HERE, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await checking.communicate()
    assert checking.returncode == 1, said
    return said.decode()


def lines(found: Any) -> Lines:
    """mypy counts from 1, pyright from 0."""
    refused: dict[str, set[int]] = {"good.py": set(), "bad.py": set()}
    for each in found:
        if each["severity"] == "error":
            line = each["line"] if "line" in each else each["range"]["start"]["line"] + 1
            refused[Path(each["file"]).name].add(line)
    return {name: sorted(numbers) for name, numbers in refused.items()}


@pytest.mark.parametrize("checker", COMMANDS)
def test_what_is_right_is_understood(refused: dict[str, Lines], checker: str) -> None:
    assert refused[checker]["good.py"] == []


@pytest.mark.parametrize("checker", COMMANDS)
def test_what_is_wrong_is_refused_and_nothing_else(refused: dict[str, Lines], checker: str) -> None:
    written = (HERE / "bad.py").read_text().splitlines()
    assert refused[checker]["bad.py"] == [number for number, line in enumerate(written, 1) if "# error" in line]
