"""`python -m mutants [WORD…]`: break a copy of the code as each mutant says, and see the tests that guard it go red.

First the copy is tested as it is: those tests must be green. Exit 1 unless every mutant is caught.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mutants.mutants import MUTANTS, Mutant
from support.servers import environment

TOP = Path(__file__).parents[3]
COPIED = ("service", "migrations", "tests", "docs", "pyproject.toml", "alembic.ini", "README.md", ".env.example")
RED = 1
"""Of pytest: some tests failed. Anything else is a fault of the mutant."""


def main() -> int:
    wanted = [each for each in MUTANTS if all(word in each.name for word in sys.argv[1:])]
    guards = sorted({mutant.guard for mutant in wanted})
    with tempfile.TemporaryDirectory(prefix="jobtrail-mutants-") as folder:
        code, said = run(copied(Path(folder) / "as it is"), guards)
        if code:
            print(said, "\nthe tests are not green without a mutant: nothing can be shown", sep="")
            return 1
        caught = [show(mutant, Path(folder)) for mutant in wanted]
        return int(not all(caught))


def show(mutant: Mutant, folder: Path) -> bool:
    top, began = copied(folder / mutant.name.replace("/", "-")), time.monotonic()
    for name, text in mutant.applied(top).items():
        (top / name).write_text(text)
    code, said = run(top, [mutant.guard], "-x")
    failed = next((line for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))), said[-2000:])
    print(
        f"{'red' if code == RED else f'NOT RED ({code})'}  {time.monotonic() - began:4.0f} s  {mutant.name}: {failed}",
        flush=True,
    )
    return code == RED


def run(top: Path, guards: list[str], *more: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", *more, *guards]
    path = os.pathsep.join(str(top / each) for each in ("service", "tests", "tests/verification"))
    variables = environment(PYTHONPATH=path, PYTHONDONTWRITEBYTECODE="1")
    done = subprocess.run(command, cwd=top, env=variables, capture_output=True, text=True, timeout=600, check=False)
    return done.returncode, done.stdout + done.stderr


def copied(top: Path) -> Path:
    top.mkdir()
    for name in COPIED:
        if (TOP / name).is_dir():
            shutil.copytree(TOP / name, top / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(TOP / name, top / name)
    return top


if __name__ == "__main__":
    sys.exit(main())
