"""Each measure in tiny: it runs, and every figure has a value. No figure is judged."""

import math
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.__main__ import MEASURES
from benchmarks.lab import SIZES, Lab
from jobtrail.testing.server import embedded_server
from support.servers import environment

TOP = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with embedded_server() as server:
        yield Lab(server, tmp_path_factory.mktemp("lab"), SIZES["tiny"])


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_gives_figures(name: str, lab: Lab) -> None:
    figures = list(MEASURES[name](lab))
    assert figures
    for figure in figures:
        assert all(math.isfinite(value) for value in (*figure.ours, *figure.theirs)), figure


def test_they_are_run_by_a_command() -> None:
    command = ["make", "--dry-run", "--no-print-directory", "bench", "SIZE=tiny"]
    dry = subprocess.run(command, cwd=TOP, env=environment(), check=True, capture_output=True, text=True)
    assert dry.stdout.splitlines()[-1] == "PYTHONPATH=tests .venv/bin/python -m benchmarks --size tiny"
