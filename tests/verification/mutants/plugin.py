"""`pytest -p mutants.plugin` with the name of a mutant in MUTANT. Exits with 3 where nothing of its statements came."""

import os

import pytest

from mutants.mutants import MUTANTS

[_MUTANT] = [each for each in MUTANTS if each.name == os.environ["MUTANT"]]
_FOUND = _MUTANT.begin(pytest.MonkeyPatch())


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if unmet := [pattern for pattern, times in _FOUND.items() if not times]:
        print("\nno statement has", *unmet)
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
