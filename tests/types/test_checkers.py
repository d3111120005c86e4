"""What a host's type checker makes of Jobtrail, in both of those that are in use.

They run at once and side by side, as a host runs them: without plugin and without a word of configuration.
"""

import asyncio
import json
import sys
from pathlib import Path

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
    mypy, pyright = await asyncio.gather(*map(run, COMMANDS.values()))
    found = {"mypy": [json.loads(line) for line in mypy.splitlines()]}
    found["pyright"] = [  # it counts from 0
        {**each, "line": each["range"]["start"]["line"] + 1} for each in json.loads(pyright)["generalDiagnostics"]
    ]
    return {
        checker: {
            name: sorted(
                {each["line"] for each in said if (Path(each["file"]).name, each["severity"]) == (name, "error")}
            )
            for name in ("good.py", "bad.py")
        }
        for checker, said in found.items()
    }


async def run(command: list[str]) -> str:
    program, *options = command
    checking = await asyncio.create_subprocess_exec(
        BIN / program, *options, "good.py", "bad.py", cwd=HERE, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await checking.communicate()
    assert checking.returncode == 1, said
    return said.decode()


@pytest.mark.parametrize("checker", COMMANDS)
def test_right_lines_are_understood_and_wrong_ones_refused(refused: dict[str, Lines], checker: str) -> None:
    written = (HERE / "bad.py").read_text().splitlines()
    wrong = [number for number, line in enumerate(written, 1) if "# error" in line]
    assert refused[checker] == {"good.py": [], "bad.py": wrong}
