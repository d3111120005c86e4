"""Each mutant turns one test at least red, and without it the same tests are green."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mutants.mutants import MUTANTS, Mutant
from support.servers import environment

TOP = Path(__file__).parents[3]
EVERYDAY = "the fence's predicate removed"
NAMES = [
    pytest.param(each, marks=() if each.name == EVERYDAY else pytest.mark.verify, id=each.name) for each in MUTANTS
]


def run(*words: str, **variables: str) -> tuple[int, str]:
    path = os.pathsep.join(str(TOP / each) for each in ("service", "tests", "tests/verification"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *words],
        cwd=TOP, env=environment(PYTHONPATH=path, **variables), capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("mutant", NAMES)
def test_its_guard_goes_red(mutant: Mutant) -> None:
    code, said = run("-x", "-p", "mutants.plugin", mutant.guard, MUTANT=mutant.name)
    assert code == pytest.ExitCode.TESTS_FAILED, said
    print("\n".join(line for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))))


@pytest.mark.verify
def test_the_guards_are_green_without_a_mutant() -> None:
    code, said = run(*sorted({mutant.guard for mutant in MUTANTS}))
    assert code == pytest.ExitCode.OK, said
