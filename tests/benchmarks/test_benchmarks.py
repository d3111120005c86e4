"""Each measure in tiny: it runs, and every figure has a value. No figure is judged."""

import math
import subprocess
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import page
from benchmarks.__main__ import MEASURES
from benchmarks.lab import SERVER, SIZES, Figure, Lab
from benchmarks.traced import calls
from jobtrail.testing.server import QUICK, embedded_server
from support.servers import environment

TOP = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with embedded_server({**QUICK, **SERVER}) as server:
        yield Lab(server, tmp_path_factory.mktemp("lab"), SIZES["tiny"])


BUDGET = {
    "calls of our functions per job, POST to commit, one at a time": 103,
    "files that these are in, POST to commit, one at a time": 29,
    "asyncio tasks per job, POST to commit, one at a time": 2,
    "calls of our functions per job, claim to recorded, of a backlog": 70,
    "files that these are in, claim to recorded, of a backlog": 23,
    "asyncio tasks per job, claim to recorded, of a backlog": 1.2,
}
"""A little above what a job takes. It is no time; of a backlog ticks that fall into it are counted too."""


def test_a_job_passes_few_of_our_functions(lab: Lab) -> None:
    taken = {figure.what: min(figure.ours) for figure in calls(lab)}
    assert taken.keys() == BUDGET.keys()
    assert {what: figure for what, figure in taken.items() if figure > BUDGET[what]} == {}


EVERYDAY = {"http", "drain", "start", "job", "lists"}
NAMES = [pytest.param(name, marks=() if name in EVERYDAY else pytest.mark.verify) for name in MEASURES]


@pytest.mark.parametrize("name", NAMES)
def test_a_measure_gives_figures(name: str, lab: Lab) -> None:
    figures = list(MEASURES[name](lab))
    assert figures
    for figure in figures:
        assert all(math.isfinite(value) for value in (*figure.ours, *figure.theirs)), figure


def test_each_measure_has_a_place_on_the_page(tmp_path: Path) -> None:
    (tmp_path / "benchmarks.md").write_text((TOP / "docs" / "benchmarks.md").read_text())
    figure = Figure("whole jobs", "/s", [1200.0, 1000.0, 1100.0], "none", [2000.0, 2200.0, 2400.0], "whole jobs", 500)
    for name in ("setting", *MEASURES):
        page.replace(name, "", tmp_path)
        page.write(name, [figure], "two rounds", tmp_path)
    line = "| whole jobs | 1,100/s (1,000 to 1,200) | none: 2,200/s (2,000 to 2,400) | 0.5 |"
    assert (tmp_path / "benchmarks.md").read_text().count(line) == len(MEASURES) + 1
    drawn = (tmp_path / "pictures" / "benchmarks" / "whole-jobs.svg").read_text()
    assert [each.text for each in ET.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")][1:3] == ["0", "500"]  # noqa: S314
    assert "://" not in drawn.replace("http://www.w3.org/2000/svg", "")


def test_they_are_run_by_a_command() -> None:
    command = ["make", "--dry-run", "--no-print-directory", "bench", "SIZE=tiny"]
    dry = subprocess.run(command, cwd=TOP, env=environment(), check=True, capture_output=True, text=True)
    assert dry.stdout.split("\n")[-2].split()[1:] == [".venv/bin/python", "-m", "benchmarks", "--size", "tiny"]
