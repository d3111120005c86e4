from pathlib import Path

import pytest

from mutants.mutants import MUTANTS, Mutant

TOP = Path(__file__).parents[3]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_it_breaks_is_still_there(mutant: Mutant) -> None:
    changed = mutant.applied(TOP)
    assert all(text != (TOP / name).read_text() for name, text in changed.items())
    assert (TOP / mutant.guard).is_file()
